"""Admission: every refusal names the field and the way out; what is without effect is listed."""

import re
from typing import Any, NamedTuple

import pytest

from berth.api.conditions import Reason
from berth.api.flags import OWNED_FLAGS
from berth.decide.admit import Refusal, ignored, refusals
from berth.decide.parse import parse
from tests.builders import endpoint, parsed

Object = dict[str, Any]


class Case(NamedTuple):
    """reason, field: of the only refusal.  way_out: what its message tells to do."""

    name: str
    given: Object
    reason: Reason
    field: str
    way_out: str


def _args(**flags: Any) -> Object:
    return {"server": {"args": flags}}


def _pod(**spec: Any) -> Object:
    return {"podTemplate": {"spec": spec}}


def _server(**fields: Any) -> Object:
    return _pod(containers=[{"name": "server", **fields}])


SPEC, TEMPLATE = Reason.INVALID_SPEC, Reason.INVALID_POD_TEMPLATE
CASES = [
    Case("more unavailable than there is", {"rollout": {"maxUnavailable": "101%"}}, SPEC,
         "spec.rollout.maxUnavailable", "must not be greater than 100%"),
    Case("a flag with leading dashes", {"server": {"args": {"--seed": 1}}}, SPEC,
         "spec.server.args[--seed]", "write the flag without leading dashes: seed"),
    Case("a flag with underscores", _args(max_model_len=1), SPEC,
         "spec.server.args[max_model_len]", "write max-model-len"),
    Case("an owned flag with underscores", _args(served_model_name="x"), SPEC,
         "spec.server.args[served_model_name]", "--served-model-name is set by Berth: use spec.model.servedNames"),
    Case("a name that is no flag", {"server": {"args": {"max model len": 1}}}, SPEC,
         "spec.server.args[max model len]", "use letters, digits and dashes"),
    Case("a flag without a value", _args(seed=None), SPEC,
         "spec.server.args[seed]", "write true for a flag without a value, or remove it"),
    Case("a request of an extended resource without its limit",
         {"resources": {"requests": {"nvidia.com/gpu": 1}}}, SPEC,
         "spec.resources.requests[nvidia.com/gpu]", "set spec.resources.limits[nvidia.com/gpu] to the same value"),
    Case("an annotation that the Service cannot have", {"service": {"annotations": {"a b": "c"}}}, SPEC,
         "spec.service.annotations[a b]", "is not the name of an annotation"),
    Case("an annotation with a prefix that is no DNS name", {"service": {"annotations": {"a_b/c": "d"}}}, SPEC,
         "spec.service.annotations[a_b/c]", "for example example.com/note"),
    Case("vLLM's own key beside ours",
         {"server": {"apiKeySecretRef": {"name": "keys"}, "env": [{"name": "VLLM_API_KEY", "value": "sk"}]}}, SPEC,
         "spec.server.env[VLLM_API_KEY]", "spec.server.apiKeySecretRef is set and guards every path: remove"),
    Case("a template with a third part", {"podTemplate": {"nodeSelector": {}}}, TEMPLATE,
         "spec.podTemplate.nodeSelector", "only metadata and spec: move or remove it"),
    Case("the label that selects pods", {"podTemplate": {"metadata": {"labels": {"berth.dev/endpoint": "x"}}}},
         TEMPLATE, "spec.podTemplate.metadata.labels[berth.dev/endpoint]", "use another label"),
    Case("the label that is watched", {"podTemplate": {"metadata": {"labels": {"app.kubernetes.io/managed-by": "x"}}}},
         TEMPLATE, "spec.podTemplate.metadata.labels[app.kubernetes.io/managed-by]", "use another label"),
    Case("restart policy", _pod(restartPolicy="Never"), TEMPLATE,
         "spec.podTemplate.spec.restartPolicy", "remove it"),
    Case("grace period", _pod(terminationGracePeriodSeconds=1), TEMPLATE,
         "spec.podTemplate.spec.terminationGracePeriodSeconds", "use spec.rollout.drainSeconds"),
    Case("the server's image", _server(image="x"), TEMPLATE,
         "spec.podTemplate.spec.containers[server].image", "use spec.server.image"),
    Case("the server's command", _server(command=["sh"]), TEMPLATE,
         "spec.podTemplate.spec.containers[server].command", "remove it"),
    Case("the server's args", _server(args=["x"]), TEMPLATE,
         "spec.podTemplate.spec.containers[server].args", "use spec.server.args and spec.server.extraArgs"),
    Case("the server's liveness", _server(livenessProbe={}), TEMPLATE,
         "spec.podTemplate.spec.containers[server].livenessProbe", "remove it"),
    Case("the server's readiness", _server(readinessProbe={}), TEMPLATE,
         "spec.podTemplate.spec.containers[server].readinessProbe", "remove it"),
    Case("the server's start-up", _server(startupProbe={}), TEMPLATE,
         "spec.podTemplate.spec.containers[server].startupProbe", "remove it"),
    Case("the server's lifecycle", _server(lifecycle={}), TEMPLATE,
         "spec.podTemplate.spec.containers[server].lifecycle", "use spec.rollout.drainSeconds"),
    Case("the server's ports", _server(ports=[]), TEMPLATE,
         "spec.podTemplate.spec.containers[server].ports", "use spec.service.port"),
    Case("the payload container", _pod(initContainers=[{"name": "berth-payload", "image": "x"}]), TEMPLATE,
         "spec.podTemplate.spec.initContainers[berth-payload]", "give your init container another name"),
    *(Case(f"--{flag}, which Berth sets", {"server": {"args": {flag: "x"}}}, SPEC,
           f"spec.server.args[{flag}]", f"--{flag} is set by Berth: {instead}")
      for flag, instead in OWNED_FLAGS.items()),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(case: Case) -> None:
    (found,) = refusals(parsed(**case.given))
    assert found.reason == case.reason
    assert found.message.startswith(f"{case.field}: ")
    assert case.way_out in found.message


def test_everything_wrong_is_told_at_once() -> None:
    found = refusals(parsed(**_args(a_b=1, host="x"), **_pod(restartPolicy="Never")))
    assert [refusal.message.split(":")[0] for refusal in found] == [
        "spec.server.args[a_b]",
        "spec.server.args[host]",
        "spec.podTemplate.spec.restartPolicy",
    ]


class Accepted(NamedTuple):
    name: str
    given: Object


ACCEPTED = [
    Accepted("nothing but a model", {}),
    Accepted("ordinary flags", _args(**{"max-model-len": 1, "enforce-eager": True, "O": 3, "seed": 0})),
    Accepted("false and empty are values", _args(**{"enable-x": False, "lora-modules": []})),
    Accepted("a dotted flag may have an underscore behind the dot", {"server": {"args": {"kv-config.some_key": 1}}}),
    Accepted("vLLM's own key alone", {"server": {"env": [{"name": "VLLM_API_KEY", "value": "sk"}]}}),
    Accepted("keys", {"server": {"apiKeySecretRef": {"name": "keys"}, "env": [{"name": "A", "value": "b"}]}}),
    Accepted("a sidecar may have what the server may not",
             _pod(containers=[{"name": "proxy", "command": ["x"], "args": ["y"], "ports": []}])),
    Accepted("the server may have more of what merges",
             _server(env=[], volumeMounts=[], resources={}, securityContext={})),
    Accepted("another init container", _pod(initContainers=[{"name": "mine"}])),
    Accepted("other labels and annotations", {"podTemplate": {"metadata": {"labels": {"a": "b"}, "annotations": {}}}}),
    Accepted("a request below its limit",
             {"resources": {"limits": {"cpu": 2}, "requests": {"cpu": 1, "memory": "1Gi"}}}),
    Accepted("a template of wrong types is left to the API server", {"podTemplate": {"spec": [], "metadata": "x"}}),
    Accepted("containers of wrong types are left to the API server", _pod(containers="x", initContainers=[1])),
]  # fmt: skip


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_accepted(case: Accepted) -> None:
    assert refusals(parsed(**case.given)) == []


class Without(NamedTuple):
    name: str
    given: Object
    expect: list[Object]


WITHOUT_EFFECT = [
    Without("nothing", {}, []),
    Without("weights for a claim", {"model": {"source": "pvc://c/m"}, "storage": {"weights": {"emptyDir": {}}}},
            [{"field": "spec.storage.weights", "why": "a pvc:// model is read where it lies, nothing is downloaded"}]),
    Without("weights and a token for a file",
            {"model": {"source": "file:///m", "secretRef": {"name": "a"}}, "storage": {"weights": {"emptyDir": {}}}},
            [{"field": "spec.storage.weights", "why": "a file:// model is read where it lies, nothing is downloaded"},
             {"field": "spec.model.secretRef", "why": "a file:// model is read without a token"}]),
    Without("weights and a token for a repository have an effect",
            {"model": {"source": "hf://org/m", "secretRef": {"name": "a"}}, "storage": {"weights": {"emptyDir": {}}}},
            []),
    Without("accounts of an API that is not served", {"server": {"requireAccount": True, "apis": ["OpenAI"]}},
            [{"field": "spec.server.requireAccount",
              "why": "only ScaleEGP has accounts, and spec.server.apis is without it"}]),
    Without("accounts of one that is", {"server": {"requireAccount": True, "apis": ["ScaleEGP"]}}, []),
    Without("accounts by default of all", {"server": {"requireAccount": True}}, []),
    Without("no accounts", {"server": {"requireAccount": False, "apis": ["OpenAI"]}}, []),
    Without("replicas while suspended", {"suspend": True, "replicas": 3},
            [{"field": "spec.replicas", "why": "spec.suspend is true: there are no pods"}]),
    Without("the default of replicas while suspended is not the user's", {"suspend": True, "replicas": 1}, []),
    Without("no replicas while suspended agree", {"suspend": True, "replicas": 0}, []),
    Without("replicas while running", {"replicas": 3}, []),
]  # fmt: skip


@pytest.mark.parametrize("case", WITHOUT_EFFECT, ids=lambda case: case.name)
def test_ignored(case: Without) -> None:
    assert ignored(parsed(**case.given)) == case.expect


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"model": {}}, "spec.model.source"),
        ({"model": {"source": "hf://a/b", "servedNames": "x"}}, "spec.model.servedNames"),
        ({"replicas": "many"}, "spec.replicas"),
        ({"rollout": {"drainSeconds": -1}}, "spec.rollout.drainSeconds"),
        ({"service": {"type": "Magic"}}, "spec.service.type"),
        ({"server": {"apis": []}}, "spec.server.apis"),
    ],
)
def test_a_spec_that_escaped_the_schema_is_refused_by_field(given: Object, field: str) -> None:
    found = parse(endpoint(**given))
    assert isinstance(found, Refusal)
    assert found.reason == Reason.INVALID_SPEC
    assert found.message.startswith(f"{field}: ")


def test_no_message_has_a_line_break_or_ends_with_a_colon() -> None:
    for case in CASES:
        for refusal in refusals(parsed(**case.given)):
            assert re.fullmatch(r"[^\n]*[^\s:;]", refusal.message)
