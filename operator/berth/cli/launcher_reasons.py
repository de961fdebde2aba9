"""What the launcher's reasons mean: the source of the reference page.

The launcher (images/server/berth_server) shares no code with the operator, which shows its reasons as they come; a test
compares this list with the reasons in its sources.
"""

from berth.api.conditions import Explanation

LAUNCHER_REASONS: dict[str, Explanation] = {
    "ModelNotFound": Explanation(
        "The hub has no such repository that the token can see, or there is no such path in the claim or the image.",
        "Correct `spec.model.source`; for a private repository name a token in `spec.model.secretRef`.",
    ),
    "RevisionNotFound": Explanation(
        "The repository has no such branch, tag or commit.", "Correct `spec.model.revision`."
    ),
    "ModelGated": Explanation(
        "The repository is gated and the token's account has no access.",
        "Ask for access on the repository's page with that account, or use another token.",
    ),
    "TokenMissing": Explanation(
        "The repository needs a token and there is none.", "Name a Secret with one in `spec.model.secretRef`."
    ),
    "TokenRejected": Explanation("The hub refuses the token.", "Put a valid token into the Secret."),
    "HubUnreachable": Explanation(
        "The hub does not answer, or `HF_HUB_OFFLINE` forbids to ask it.",
        "Check proxies and `HF_ENDPOINT` in the chart's `settings.podEnv`; the launcher has retried for a while.",
    ),
    "DownloadFailed": Explanation("The download ended for another reason.", "Follow the message."),
    "DiskFull": Explanation("The weights volume is full.", "Give `spec.storage.weights` a larger volume."),
    "VolumeNotWritable": Explanation(
        "The server's uid may not write to the weights volume.",
        "Make the volume writable for the uid of the chart's `settings.runAsUser`.",
    ),
    "NotAModel": Explanation(
        "The path is not a directory with a config.json.", "Point `spec.model.source` at the model's directory."
    ),
    "ModelUnreadable": Explanation(
        "The server's uid may not read a file of the model.", "`chmod -R a+rX` on the model's directory."
    ),
    "WeightsMissing": Explanation(
        "The directory holds no weights that vLLM can load.",
        "Put the .safetensors files beside config.json, or correct `spec.model.source`.",
    ),
    "WeightsCorrupt": Explanation(
        "A weights file is damaged or cut short.", "Copy it again; a download from the hub is repeated by itself."
    ),
    "VllmMissing": Explanation("The image has no vLLM.", "Set `spec.server.image` to an image with vLLM."),
    "VllmTooOld": Explanation("The image's vLLM is older than 0.26.", "Set `spec.server.image` to a newer one."),
    "UnknownEngineArgument": Explanation(
        "This vLLM does not know an argument.", "Correct `spec.server.args` or `spec.server.extraArgs`."
    ),
    "InvalidEngineArgument": Explanation(
        "vLLM refuses the value of an argument.", "Correct `spec.server.args` or `spec.server.extraArgs`."
    ),
    "UnsupportedArchitecture": Explanation(
        "This vLLM does not support the model's architecture.", "Set `spec.server.image` to a vLLM that does."
    ),
    "KVCacheTooSmall": Explanation(
        "The memory left for the KV cache does not hold one request of full length.",
        "Lower `max-model-len` in `spec.server.args`, or give the engine more memory.",
    ),
    "OutOfMemory": Explanation(
        "The engine could not allocate memory on the device or the host.",
        "Serve a smaller model, lower `max-model-len`, or ask for more or larger accelerators.",
    ),
    "SharedMemoryTooSmall": Explanation(
        "The volume `berth-shm` is too small for the engine.",
        "Give it a larger `emptyDir.sizeLimit` in `spec.podTemplate`.",
    ),
    "EngineExited": Explanation("vLLM ended before it served.", "Follow its last error in the message; read its log."),
    "EngineKilled": Explanation("vLLM was killed by a signal.", "SIGKILL usually means memory: raise the limit."),
    "EngineDied": Explanation("vLLM's engine died while serving.", "Follow its last error in the message."),
    "EngineHung": Explanation(
        "vLLM made no progress any more; the liveness probe had the container restarted.",
        "Follow the message; if it comes again, read the log of the previous container.",
    ),
    "ProofFailed": Explanation(
        "vLLM started and cannot answer a completion of one token.", "Follow vLLM's answer in the message."
    ),
    "PluginFailed": Explanation(
        "vLLM started without Berth's plugin.", "Read the log for the plugin's error; report it as a bug."
    ),
    "LauncherFailed": Explanation("The launcher itself failed.", "Report it as a bug, with the log."),
}

PHASES: dict[str, str] = {
    "Preparing": "The launcher looks at the image and the model.",
    "Downloading": "Weights are being downloaded; the message has bytes done and in total.",
    "StartingEngine": "vLLM is starting: imports, configuration, device.",
    "LoadingWeights": "vLLM reads the weights.",
    "WarmingUp": "vLLM compiles, captures graphs and sizes its cache.",
    "Proving": "vLLM listens; one real token is being generated.",
    "Serving": "The token came back: the pod is ready.",
    "Draining": "The pod leaves and finishes its requests.",
    "Failed": "The server cannot run; the container ends with a reason.",
}
