"""The pod without the user's template: security, environment, volumes, probes, the launcher's words."""

import dataclasses
from typing import Any, NamedTuple

import pytest

from berth.desired.pod import pod_template
from tests.builders import PLATFORM, parsed

Object = dict[str, Any]


def spec(platform: Any = PLATFORM, **given: Any) -> Object:
    found: Object = pod_template(parsed(**given), platform)["spec"]
    return found


def server(**given: Any) -> Object:
    found: Object = spec(**given)["containers"][0]
    return found


def env(found: Object) -> dict[str, Object]:
    names = [var["name"] for var in found["env"]]
    assert len(names) == len(set(names)), "the API server refuses a variable that is there twice in an apply"
    return {var["name"]: var for var in found["env"]}


@pytest.mark.parametrize("kind", ["containers", "initContainers"])
def test_every_container_is_restricted(kind: str) -> None:
    for container in spec()[kind]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }


def test_the_pod_runs_as_a_plain_user_without_a_token() -> None:
    found = spec()
    assert found["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": 65532,
        "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
    }
    assert found["automountServiceAccountToken"] is False
    assert found["enableServiceLinks"] is False


def test_without_a_user_the_cluster_chooses() -> None:
    found = spec(platform=dataclasses.replace(PLATFORM, run_as_user=None))
    assert found["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_pull_secrets_come_from_the_settings() -> None:
    assert "imagePullSecrets" not in spec()
    found = spec(platform=dataclasses.replace(PLATFORM, image_pull_secrets=("a", "b")))
    assert found["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]


def test_a_user_without_passwd_entry_has_what_vllm_asks_for() -> None:
    found = env(server())
    assert {name: found[name]["value"] for name in ("HOME", "USER", "LOGNAME", "TMPDIR")} == {
        "HOME": "/tmp",
        "USER": "berth",
        "LOGNAME": "berth",
        "TMPDIR": "/tmp",
    }


def test_every_directory_in_the_environment_is_on_a_writable_volume() -> None:
    found = server()
    writable = [mount["mountPath"] for mount in found["volumeMounts"] if not mount.get("readOnly")]
    paths = [var["value"] for var in found["env"] if str(var.get("value", "")).startswith("/")]
    assert paths
    for path in paths:
        assert any(path == root or path.startswith(f"{root}/") for root in writable), path


def test_the_user_s_variables_win_over_the_settings_and_those_over_ours() -> None:
    platform = dataclasses.replace(PLATFORM, pod_env=(("HF_ENDPOINT", "http://hub"), ("HOME", "/h"), ("A", "set")))
    found = env(
        pod_template(parsed(server={"env": [{"name": "A", "value": "mine"}]}), platform)["spec"]["containers"][0]
    )
    assert found["HF_ENDPOINT"]["value"] == "http://hub"
    assert found["HOME"]["value"] == "/h"
    assert found["A"]["value"] == "mine"


def test_a_variable_from_elsewhere_is_passed_on_as_it_is() -> None:
    var = {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP", "apiVersion": "v1"}}}
    assert env(server(server={"env": [var]}))["IP"] == var


class Token(NamedTuple):
    name: str
    given: Object
    expect: dict[str, Object]


def _ref(key: str, **optional: bool) -> Object:
    return {"valueFrom": {"secretKeyRef": {"name": "hub", "key": key, **optional}}}


TOKENS = [
    Token("no Secret, no token", {"source": "hf://org/m"}, {}),
    Token("without a key both usual ones are tried", {"source": "hf://org/m", "secretRef": {"name": "hub"}},
          {"HF_TOKEN": _ref("HF_TOKEN", optional=True), "BERTH_HF_TOKEN": _ref("token", optional=True)}),
    Token("a named key must be there", {"source": "hf://org/m", "secretRef": {"name": "hub", "key": "k"}},
          {"HF_TOKEN": _ref("k")}),
    Token("a claim needs no token", {"source": "pvc://c/m", "secretRef": {"name": "hub"}}, {}),
]  # fmt: skip


@pytest.mark.parametrize("case", TOKENS, ids=lambda case: case.name)
def test_token(case: Token) -> None:
    found = {name: {"valueFrom": var["valueFrom"]} for name, var in env(server(model=case.given)).items()
             if "valueFrom" in var}  # fmt: skip
    assert found == case.expect


def test_no_secret_is_in_the_arguments() -> None:
    args = server(model={"source": "hf://org/m", "secretRef": {"name": "hub", "key": "k"}})["args"]
    assert "--secret=hub" in args
    assert not any("HF_TOKEN" in word for word in args)


class Volumes(NamedTuple):
    name: str
    given: Object
    volumes: dict[str, Object]
    mounts: dict[str, tuple[str, bool]]


ALWAYS = {
    "berth-payload": {"emptyDir": {}},
    "berth-tmp": {"emptyDir": {}},
    "berth-shm": {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
    "berth-engine-cache": {"emptyDir": {}},
}
MOUNTED = {
    "berth-payload": ("/opt/berth", True),
    "berth-tmp": ("/tmp", False),
    "berth-shm": ("/dev/shm", False),
    "berth-engine-cache": ("/var/cache/berth", False),
}
FILE = {"source": "file:///m"}
WEIGHTS = {"berth-weights": ("/var/lib/berth/weights", False)}

VOLUMES = [
    Volumes("downloaded weights live in the pod", {"model": {"source": "hf://org/m"}},
            ALWAYS | {"berth-weights": {"emptyDir": {}}}, MOUNTED | WEIGHTS),
    Volumes("with a size limit", {"storage": {"weights": {"emptyDir": {"sizeLimit": "40Gi"}}}},
            ALWAYS | {"berth-weights": {"emptyDir": {"sizeLimit": "40Gi"}}}, MOUNTED | WEIGHTS),
    Volumes("or on a claim", {"storage": {"weights": {"persistentVolumeClaim": {"claimName": "w"}}}},
            ALWAYS | {"berth-weights": {"persistentVolumeClaim": {"claimName": "w"}}}, MOUNTED | WEIGHTS),
    Volumes("the engine's cache on a claim",
            {"model": FILE, "storage": {"engineCache": {"persistentVolumeClaim": {"claimName": "c"}}}},
            ALWAYS | {"berth-engine-cache": {"persistentVolumeClaim": {"claimName": "c"}}}, MOUNTED),
    Volumes("a model on a claim is read only, twice", {"model": {"source": "pvc://models/a/b"}},
            ALWAYS | {"berth-model": {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}},
            MOUNTED | {"berth-model": ("/var/lib/berth/model", True)}),
    Volumes("a model in the image needs nothing", {"model": FILE}, ALWAYS, MOUNTED),
    Volumes("weights storage without a download is left out",
            {"model": FILE, "storage": {"weights": {"emptyDir": {}}}}, ALWAYS, MOUNTED),
]  # fmt: skip


@pytest.mark.parametrize("case", VOLUMES, ids=lambda case: case.name)
def test_volumes(case: Volumes) -> None:
    found = spec(**case.given)
    volumes = {item["name"]: {k: v for k, v in item.items() if k != "name"} for item in found["volumes"]}
    mounts = {
        item["name"]: (item["mountPath"], item.get("readOnly", False))
        for item in found["containers"][0]["volumeMounts"]
    }
    assert (volumes, mounts) == (case.volumes, case.mounts)


@pytest.mark.parametrize(("user", "mode"), [(65532, 0o440), (None, 0o444)])
def test_the_keys_are_mounted_whole_and_read_only_where_the_server_can_read_them(user: int | None, mode: int) -> None:
    found = spec(
        platform=dataclasses.replace(PLATFORM, run_as_user=user),
        model=FILE,
        server={"apiKeySecretRef": {"name": "team-keys"}},
    )
    (volume,) = (item for item in found["volumes"] if item["name"] == "berth-keys")
    assert volume["secret"] == {"secretName": "team-keys", "defaultMode": mode}
    (container,) = found["containers"]
    (mount,) = (item for item in container["volumeMounts"] if item["name"] == "berth-keys")
    assert mount == {"name": "berth-keys", "mountPath": "/var/run/secrets/berth.dev/keys", "readOnly": True}
    assert env(container)["BERTH_KEYS_DIR"] == {"name": "BERTH_KEYS_DIR", "value": mount["mountPath"]}
    assert "team-keys" not in str(container) + str(found["initContainers"])


def test_without_keys_nothing_of_them_is_in_the_pod() -> None:
    assert "keys" not in str(spec()).lower()


class Apis(NamedTuple):
    name: str
    given: Object
    expect: dict[str, str]


ALL = ["OpenAI", "LLMEngine", "ScaleEGP", "AlephAlpha"]
APIS = [
    Apis("all by default", {}, {}),
    Apis("all by name, in any order", {"apis": ALL[::-1]}, {}),
    Apis("some, in the same order whatever the spec's", {"apis": ["ScaleEGP", "OpenAI"]},
         {"BERTH_APIS": "OpenAI,ScaleEGP"}),
    Apis("accounts", {"requireAccount": True}, {"BERTH_REQUIRE_ACCOUNT": "1"}),
    Apis("accounts of an API that is not served", {"requireAccount": True, "apis": ["OpenAI"]},
         {"BERTH_APIS": "OpenAI"}),
]  # fmt: skip


@pytest.mark.parametrize("case", APIS, ids=lambda case: case.name)
def test_the_plugin_is_told_what_is_not_its_default(case: Apis) -> None:
    found = env(server(server=case.given))
    assert {name: var["value"] for name, var in found.items() if name.startswith("BERTH_")} == case.expect


class Launcher(NamedTuple):
    name: str
    given: Object
    expect: list[str]


LAUNCHER = [
    Launcher("a repository", {"model": {"source": "hf://org/m"}},
             ["serve", "--source=hf://org/m", "--weights=/var/lib/berth/weights", "--drain-seconds=120"]),
    Launcher("a repository at a revision, with a Secret",
             {"model": {"source": "hf://org/m", "revision": "v1", "secretRef": {"name": "hub"}}},
             ["serve", "--source=hf://org/m", "--weights=/var/lib/berth/weights", "--revision=v1", "--secret=hub",
              "--drain-seconds=120"]),
    Launcher("a claim", {"model": {"source": "pvc://c/m"}}, ["serve", "--source=pvc://c/m", "--drain-seconds=120"]),
    Launcher("another drain", {"model": {"source": "file:///m"}, "rollout": {"drainSeconds": 5}},
             ["serve", "--source=file:///m", "--drain-seconds=5"]),
]  # fmt: skip


@pytest.mark.parametrize("case", LAUNCHER, ids=lambda case: case.name)
def test_launcher_words(case: Launcher) -> None:
    found = server(**case.given)
    split = found["args"].index("--")
    assert found["command"] == ["python3", "/opt/berth"]
    assert found["args"][:split] == case.expect
    assert found["args"][split + 1 : split + 3] == ["vllm", "serve"]


def test_the_grace_period_outlasts_the_drain() -> None:
    assert spec(rollout={"drainSeconds": 300})["terminationGracePeriodSeconds"] == 330


def test_probes_and_drain_go_to_the_launcher() -> None:
    found = server()
    ports = {port["name"]: port["containerPort"] for port in found["ports"]}
    assert ports == {"http": 8000, "berth": 8001}
    for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert found[probe]["httpGet"] == {"path": path, "port": "berth", "scheme": "HTTP"}
    assert found["livenessProbe"]["terminationGracePeriodSeconds"] == 15
    assert "startupProbe" not in found
    assert found["lifecycle"] == {"preStop": {"exec": {"command": ["python3", "/opt/berth", "drain"]}}}


def test_the_payload_is_copied_by_the_init_container() -> None:
    (init,) = spec()["initContainers"]
    assert init["image"] == "example.test/berth-server:v1"
    assert init["command"] == ["cp", "-R", "/payload/.", "/opt/berth"]
    assert init["volumeMounts"] == [{"name": "berth-payload", "mountPath": "/opt/berth"}]


class Resources(NamedTuple):
    name: str
    given: Object
    expect: Object | None


RESOURCES = [
    Resources("none", {}, None),
    Resources("limits only", {"limits": {"nvidia.com/gpu": 1, "memory": "32Gi"}},
              {"limits": {"nvidia.com/gpu": "1", "memory": "32Gi"}}),
    Resources("both", {"limits": {"cpu": 4}, "requests": {"cpu": "2"}},
              {"limits": {"cpu": "4"}, "requests": {"cpu": "2"}}),
]  # fmt: skip


@pytest.mark.parametrize("case", RESOURCES, ids=lambda case: case.name)
def test_resources(case: Resources) -> None:
    assert server(resources=case.given).get("resources") == case.expect
