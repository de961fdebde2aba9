"""vLLM flags that Berth sets itself, and what to write instead. Source of the names: `vllm serve --help`, 0.32."""

OWNED_FLAGS: dict[str, str] = {
    "model": "name the model in spec.model.source",
    "served-model-name": "use spec.model.servedNames",
    "revision": "use spec.model.revision",
    "download-dir": "use spec.storage.weights",
    "host": "remove it, the server listens on the pod's address",
    "port": "remove it, use spec.service.port for the port that clients see",
    "uds": "remove it, the server listens on a port",
    "shutdown-timeout": "use spec.rollout.drainSeconds",
    "config": "write its settings into spec.server.args",
    "headless": "remove it, every pod serves requests",
    "ssl-keyfile": "remove it, probes and clients speak HTTP to the pod; end TLS in front of the Service",
    "ssl-certfile": "remove it, probes and clients speak HTTP to the pod; end TLS in front of the Service",
    "api-key": "use spec.server.apiKeySecretRef",
}

_OWNED = "|".join(sorted(OWNED_FLAGS))

# An underscore spelling (`--max_model_len`) would slip past the check of owned flags; dotted JSON keys may have one.
EXTRA_ARG_RULES = (
    (
        f"!self.matches('^--({_OWNED})(=.*)?$')",
        f"spec.server.extraArgs names a flag that Berth sets itself ({', '.join(sorted(OWNED_FLAGS))}): remove it; "
        "spec.server.args says what to use instead",
    ),
    (
        "!self.matches('^--[^=.]*_')",
        "spec.server.extraArgs has a flag with an underscore: write it with dashes, for example --max-model-len",
    ),
)
