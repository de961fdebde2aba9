"""Status: conditions derived from what was seen, times that move only on a flip, what is kept from before."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.api.conditions import Reason
from berth.decide.admit import Refusal
from berth.decide.plan import make_plan
from berth.decide.summarize import settling, summarize, unreadable
from berth.decide.verdicts import PERMANENT
from tests.builders import PLATFORM, T0, T1, container, deployment, endpoint, live, observed, parsed, pod

Object = dict[str, Any]
ROOT = Path(__file__).parents[3]


def status(
    live_deployment: Object | None = None,
    *,
    pods: tuple[Object, ...] = (),
    refusal: Refusal | None = None,
    before: Object | None = None,
    generation: int = 1,
    now: str = T0,
    progress: Object | None = None,
    **spec: Any,
) -> Object:
    """Status of an endpoint with this Deployment."""
    ep = parsed(generation=generation, **spec)
    seen = observed(
        endpoint(generation=generation, status=before, **spec),
        live_children=[live_deployment] if live_deployment else [],
        pods=pods,
        progress=progress or {},
    )
    return summarize(ep, seen, refusal, PLATFORM, now)


def conditions(found: Object) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in found["conditions"]}


def message(found: Object, kind: str) -> str:
    return str(next(item["message"] for item in found["conditions"] if item["type"] == kind))


ACCEPTED = {"Accepted": ("True", "Accepted")}
CRASHED = pod("demo-new", ready=False, containers=[container(terminated={"exitCode": 1, "reason": "Error"})])
GONE = pod(
    "demo-new",
    ready=False,
    containers=[
        container(terminated={"exitCode": 1, "message": '{"v": 1, "reason": "ModelNotFound", "message": "no repo"}'})
    ],
)


class Case(NamedTuple):
    name: str
    given: Object
    expect: dict[str, tuple[str, str]]


CASES = [
    Case("nothing exists yet", {},
         {"Ready": ("False", "Starting"), "Available": ("False", "Starting"), "Progressing": ("True", "Starting"),
          "Reconciling": ("True", "Starting")}),
    Case("the pod starts", {"live_deployment": deployment(0, 1), "pods": (pod(ready=False),)},
         {"Ready": ("False", "Starting"), "Available": ("False", "Starting"), "Progressing": ("True", "Starting"),
          "Reconciling": ("True", "Starting")}),
    Case("all serve", {"live_deployment": deployment(1, 1), "pods": (pod(),)},
         {"Ready": ("True", "Serving"), "Available": ("True", "Serving"), "Progressing": ("False", "Complete")}),
    Case("a pod failed, none serves", {"live_deployment": deployment(0, 1), "pods": (CRASHED,)},
         {"Ready": ("False", "ContainerFailed"), "Available": ("False", "ContainerFailed"),
          "Progressing": ("True", "Starting"), "Reconciling": ("True", "Starting")}),
    Case("a pod failed for good, none serves", {"live_deployment": deployment(0, 1), "pods": (GONE,)},
         {"Ready": ("False", "ModelNotFound"), "Available": ("False", "ModelNotFound"),
          "Progressing": ("True", "Starting"), "Stalled": ("True", "ModelNotFound")}),
    Case("old pods serve until the new ones are proven",
         {"live_deployment": deployment(1, 2, updated=1), "pods": (pod("demo-old"), pod(ready=False))},
         {"Ready": ("False", "RollingOut"), "Available": ("True", "Serving"), "Progressing": ("True", "RollingOut"),
          "Reconciling": ("True", "RollingOut")}),
    Case("a rollout that fails for good keeps the old pods",
         {"live_deployment": deployment(1, 2, updated=1), "pods": (pod("demo-old"), GONE)},
         {"Ready": ("False", "RollingOut"), "Available": ("True", "Serving"), "Progressing": ("True", "RollingOut"),
          "Stalled": ("True", "ModelNotFound")}),
    Case("the Deployment controller has not seen the change",
         {"live_deployment": deployment(1, 1, generation=2, observed=1), "pods": (pod(),)},
         {"Ready": ("False", "RollingOut"), "Available": ("True", "Serving"), "Progressing": ("True", "RollingOut"),
          "Reconciling": ("True", "RollingOut")}),
    Case("scaling up does not flip Ready",
         {"live_deployment": deployment(1, 3), "replicas": 3, "pods": (pod(), pod("b", ready=False))},
         {"Ready": ("True", "Serving"), "Available": ("True", "Serving"), "Progressing": ("True", "Scaling"),
          "Reconciling": ("True", "Scaling")}),
    Case("scaling down does not flip Ready",
         {"live_deployment": deployment(3, 3), "replicas": 1, "pods": (pod(), pod("b"), pod("c"))},
         {"Ready": ("True", "Serving"), "Available": ("True", "Serving"), "Progressing": ("True", "Scaling"),
          "Reconciling": ("True", "Scaling")}),
    Case("a pod that fails for good while another one serves leaves it ready",
         {"live_deployment": deployment(1, 2), "replicas": 2, "pods": (pod(), GONE)},
         {"Ready": ("True", "Serving"), "Available": ("True", "Serving"), "Progressing": ("True", "Scaling"),
          "Reconciling": ("True", "Scaling")}),
    Case("suspended is ready, or flux would wait for ever", {"live_deployment": deployment(0, 0), "suspend": True},
         {"Ready": ("True", "Suspended"), "Available": ("False", "Suspended"), "Progressing": ("False", "Suspended")}),
    Case("no replicas is suspended", {"live_deployment": deployment(0, 0), "replicas": 0},
         {"Ready": ("True", "Suspended"), "Available": ("False", "Suspended"), "Progressing": ("False", "Suspended")}),
    Case("suspending, one pod still leaves",
         {"live_deployment": deployment(1, 1), "suspend": True, "pods": (pod(),)},
         {"Ready": ("True", "Suspended"), "Available": ("True", "Serving"), "Progressing": ("True", "Scaling"),
          "Reconciling": ("True", "Scaling")}),
    Case("suspended before the Deployment exists is not yet", {"suspend": True},
         {"Ready": ("False", "Suspended"), "Available": ("False", "Suspended"), "Progressing": ("True", "Starting"),
          "Reconciling": ("True", "Starting")}),
    Case("a refused spec while pods of the last one serve",
         {"live_deployment": deployment(1, 1), "pods": (pod(),), "refusal": Refusal(Reason.INVALID_SPEC, "x")},
         {"Ready": ("False", "InvalidSpec"), "Accepted": ("False", "InvalidSpec"), "Available": ("True", "Serving"),
          "Progressing": ("False", "InvalidSpec"), "Stalled": ("True", "InvalidSpec")}),
    Case("a refused spec from the start", {"refusal": Refusal(Reason.INVALID_POD_TEMPLATE, "x")},
         {"Ready": ("False", "InvalidPodTemplate"), "Accepted": ("False", "InvalidPodTemplate"),
          "Available": ("False", "Starting"), "Progressing": ("False", "InvalidPodTemplate"),
          "Stalled": ("True", "InvalidPodTemplate")}),
    Case("waiting for the old endpoint's children is not stalled",
         {"refusal": Refusal(Reason.WAITING_FOR_DELETION, "x")},
         {"Ready": ("False", "WaitingForDeletion"), "Accepted": ("False", "WaitingForDeletion"),
          "Available": ("False", "Starting"), "Progressing": ("True", "WaitingForDeletion"),
          "Reconciling": ("True", "WaitingForDeletion")}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_conditions(case: Case) -> None:
    assert conditions(status(**case.given)) == ACCEPTED | case.expect


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_ready_is_derived(case: Case) -> None:
    """True only when accepted, and available or suspended on purpose."""
    found = conditions(status(**case.given))
    if found["Ready"][0] == "True":
        assert found["Accepted"][0] == "True"
        assert found["Available"][0] == "True" or found["Ready"][1] == "Suspended"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_status_of_a_status_is_the_same(case: Case) -> None:
    once = status(**case.given)
    assert status(**case.given, before=once, now=T1) == once


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_never_both_stalled_and_reconciling(case: Case) -> None:
    found = conditions(status(**case.given))
    assert not {"Stalled", "Reconciling"} <= found.keys()
    assert all(found[kind][0] == "True" for kind in ("Stalled", "Reconciling") if kind in found)


@given(st.sampled_from(CASES), st.sampled_from(CASES))
def test_a_time_moves_when_the_status_flips_and_only_then(first: Case, second: Case) -> None:
    before = status(**first.given, now=T0)
    after = status(**second.given, before=before, now=T1)
    was = {item["type"]: item["status"] for item in before["conditions"]}
    for item in after["conditions"]:
        assert item["lastTransitionTime"] == (T0 if was.get(item["type"]) == item["status"] else T1)


def test_every_condition_says_which_generation_it_is_about() -> None:
    found = status(deployment(1, 1), generation=7)
    assert found["observedGeneration"] == 7
    assert {item["observedGeneration"] for item in found["conditions"]} == {7}


def test_conditions_have_one_order() -> None:
    order = ["Ready", "Accepted", "Available", "Progressing", "Reconciling", "Stalled"]
    for case in CASES:
        kinds = [item["type"] for item in status(**case.given)["conditions"]]
        assert kinds == [kind for kind in order if kind in kinds]


def test_the_message_of_a_rollout_says_what_is_wrong_with_the_new_pods() -> None:
    found = status(deployment(1, 2, updated=1), pods=(pod("demo-old"), GONE))
    assert message(found, "Ready") == "a pod of the previous spec still runs; pod demo-new: no repo"


def test_the_message_of_a_rollout_whose_pods_cannot_be_created() -> None:
    refused = deployment(
        1, 1, updated=0, conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]
    )
    assert message(status(refused), "Ready") == "a pod of the previous spec still runs; exceeded quota"


def test_the_message_of_what_is_not_available_names_the_pod() -> None:
    assert message(status(deployment(0, 1), pods=(GONE,)), "Available") == "pod demo-new: no repo"


def test_the_message_of_more_than_one_old_pod() -> None:
    assert message(status(deployment(3, 4, updated=1), replicas=3), "Ready") == "3 pods of the previous spec still run"


def test_the_message_of_a_pod_that_leaves_on_purpose() -> None:
    found = status(deployment(1, 1), suspend=True, pods=(pod(),))
    assert message(found, "Ready") == "spec.suspend is true: no pods are wanted"
    assert message(status(deployment(0, 0), replicas=0), "Ready") == "spec.replicas is 0: no pods are wanted"


def test_where_to_send_requests_and_what_runs() -> None:
    found = status(deployment(1, 1), replicas=1, service={"port": 81})
    assert found["url"] == "http://demo.team-a.svc.cluster.local:81"
    assert found["urls"] == {
        "OpenAI": f"{found['url']}/v1",
        "LLMEngine": f"{found['url']}/llm-engine/",
        "ScaleEGP": f"{found['url']}/egp",
        "AlephAlpha": f"{found['url']}/aleph-alpha",
    }
    assert (found["replicas"], found["readyReplicas"]) == (1, 1)
    assert found["selector"] == "berth.dev/endpoint=demo"
    assert found["engine"]["image"] == "example.test/vllm:v1"
    assert found["engine"]["command"][:2] == ["vllm", "serve"]
    assert (found["problems"], found["problemCount"], found["ignored"]) == ([], 0, [])


def test_only_apis_that_are_served_have_a_url() -> None:
    found = status(deployment(1, 1), server={"apis": ["AlephAlpha", "OpenAI"]})
    assert list(found["urls"]) == ["OpenAI", "AlephAlpha"]


REFUSED = Refusal(Reason.INVALID_SPEC, "x")


def test_a_refused_change_leaves_url_and_engine_as_they_are_in_use() -> None:
    before = status(deployment(1, 1))
    edit = {"service": {"port": 81}, "server": {"image": "other", "args": {"a_b": 1}}}
    found = status(deployment(1, 1), before=before, refusal=REFUSED, **edit)
    assert {name: found[name] for name in ("url", "urls", "engine")} == {
        name: before[name] for name in ("url", "urls", "engine")
    }


def test_an_endpoint_that_was_never_accepted_has_no_url() -> None:
    found = status(refusal=REFUSED)
    assert "url" not in found
    assert "urls" not in found


@pytest.mark.parametrize("why", [Reason.NAME_TAKEN, Reason.WAITING_FOR_DELETION, Reason.INVALID_SPEC])
def test_the_counts_are_not_those_of_somebody_else_s_deployment(why: Reason) -> None:
    foreign = deployment(3, 3)
    del foreign["metadata"]["ownerReferences"]
    found = status(foreign, refusal=Refusal(why, "x"))
    assert (found["replicas"], found["readyReplicas"]) == (0, 0)
    assert conditions(found)["Available"] == ("False", "Starting")


def test_the_counts_stay_when_only_another_child_is_somebody_else_s() -> None:
    found = status(deployment(1, 1), refusal=Refusal(Reason.NAME_TAKEN, "x"))
    assert (found["replicas"], found["readyReplicas"]) == (1, 1)


class Version(NamedTuple):
    name: str
    progress: Object
    before: Object | None
    expect: str | None


TOLD = {"demo-abc": {"v": 1, "engine": {"version": "0.32.0"}}}
KNOWN = {"engine": {"image": "example.test/vllm:v1", "version": "0.31.0"}}
VERSIONS = [
    Version("not known yet", {}, None, None),
    Version("as a pod told", TOLD, None, "0.32.0"),
    Version("a pod knows better than status", TOLD, KNOWN, "0.32.0"),
    Version("kept while no pod answers", {}, KNOWN, "0.31.0"),
    Version("forgotten with another image", {}, {"engine": {"image": "other", "version": "0.31.0"}}, None),
    Version("a launcher that does not know", {"demo-abc": {"v": 1, "engine": None}}, None, None),
]


@pytest.mark.parametrize("case", VERSIONS, ids=lambda case: case.name)
def test_version(case: Version) -> None:
    found = status(deployment(1, 1), progress=case.progress, before=case.before)
    assert found["engine"].get("version") == case.expect


STARTING = {"live_deployment": deployment(0, 1), "pods": (pod(ready=False),), "model": {"source": "hf://org/name"}}
TELLS = {"demo-abc": {"phase": "Downloading", "bytes": 2**20, "revision": "c0ffee", "engine": {"version": None}}}


def test_progress_is_there_only_while_a_pod_starts() -> None:
    starting = status(**STARTING, progress=TELLS)
    assert starting["progress"] == {"phase": "Downloading", "message": "Downloading 1 MiB"}
    assert message(starting, "Ready") == "pod demo-abc: Downloading 1 MiB"
    assert "progress" not in status(deployment(1, 1), pods=(pod(),), before=starting)


def test_the_revision_stays_known_until_the_spec_names_another_model() -> None:
    told = status(**STARTING, progress=TELLS)
    assert told["model"] == {"revision": "c0ffee"}
    model = {"source": "hf://org/name"}
    assert status(model=model, replicas=2, before=told, generation=2)["model"] == {"revision": "c0ffee"}
    refused = status(model=model, before=told, generation=2, refusal=Refusal(Reason.FORBIDDEN, "x"))
    assert refused["model"] == {"revision": "c0ffee"}
    for other in ({"source": "hf://org/other"}, {"source": "hf://org/name", "revision": "dev"}):
        assert "model" not in status(model=other, before=told, generation=2)
    assert "model" not in status(model={"source": "file:///m"}, before=told, generation=2)


def test_since_is_kept_while_pod_container_and_reason_are_the_same() -> None:
    first = status(deployment(0, 1), pods=(CRASHED,), now=T0)
    again = copy.deepcopy(CRASHED)
    again["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] = 2
    second = status(deployment(0, 1), pods=(again,), before=first, now=T1)
    assert second["problems"][0]["message"] != first["problems"][0]["message"]
    assert [item["since"] for item in (*first["problems"], *second["problems"])] == [T0, T0]


def test_since_begins_anew_with_another_reason() -> None:
    first = status(deployment(0, 1), pods=(CRASHED,), now=T0)
    second = status(deployment(0, 1), pods=(GONE,), before=first, now=T1)
    assert second["problems"][0]["since"] == T1


def test_a_problem_is_gone_when_it_is_mended() -> None:
    first = status(deployment(0, 1), pods=(CRASHED,))
    second = status(deployment(1, 1), pods=(pod("demo-new"),), before=first, now=T1)
    assert (second["problems"], second["problemCount"]) == ([], 0)


def test_ten_problems_are_listed_and_all_counted() -> None:
    pods = tuple(pod(f"demo-{i:02}", ready=False, containers=CRASHED["status"]["containerStatuses"]) for i in range(12))
    found = status(deployment(0, 12), replicas=12, pods=pods)
    assert [item["pod"] for item in found["problems"]] == [f"demo-{i:02}" for i in range(10)]
    assert found["problemCount"] == 12


def test_what_has_no_effect_is_listed() -> None:
    found = status(model={"source": "file:///m", "secretRef": {"name": "a"}})
    assert [item["field"] for item in found["ignored"]] == ["spec.model.secretRef"]


def test_a_spec_that_cannot_be_read_keeps_what_is_known() -> None:
    before = status(deployment(1, 1), pods=(pod(),))
    found = unreadable(endpoint(generation=2, status=before), Refusal(Reason.INVALID_SPEC, "spec.x: wrong"), T1)
    assert conditions(found) == {
        "Ready": ("False", "InvalidSpec"),
        "Accepted": ("False", "InvalidSpec"),
        "Available": ("True", "Serving"),
        "Progressing": ("False", "Complete"),
        "Stalled": ("True", "InvalidSpec"),
    }
    assert found["observedGeneration"] == 2
    assert (found["url"], found["readyReplicas"]) == (before["url"], 1)
    assert message(found, "Ready") == "spec.x: wrong"
    assert (
        unreadable(endpoint(generation=2, status=found), Refusal(Reason.INVALID_SPEC, "spec.x: wrong"), "later")
        == found
    )


def test_a_spec_that_can_be_read_again_is_no_longer_stalled() -> None:
    broken = unreadable(endpoint(), REFUSED, T0)
    assert "Stalled" not in conditions(status(deployment(1, 1), before=broken, now=T1))


class Settling(NamedTuple):
    name: str
    deployment: Object | None
    pods: int
    expect: bool


_WANTS_ONE = parsed(replicas=1)
_UNCREATABLE = deployment(0, 0, ep=_WANTS_ONE, conditions=[{"type": "ReplicaFailure", "status": "True"}])
_CREATABLE = deployment(
    0,
    0,
    ep=_WANTS_ONE,
    conditions=[{"type": "ReplicaFailure", "status": "False"}, {"type": "Available", "status": "True"}],
)
SETTLING = [
    Settling("no Deployment yet", None, 0, True),
    Settling("a change that the controller has not seen", deployment(1, 1, generation=2, observed=1), 1, True),
    Settling("pods that are not yet created", deployment(0, 0, ep=parsed(replicas=1)), 0, True),
    Settling("pods that the watch has not yet shown", deployment(0, 1), 0, True),
    Settling("no pod of the new spec yet", deployment(1, 1, updated=0), 1, True),
    Settling("pods that cannot be created will not come", _UNCREATABLE, 0, False),
    Settling("pods that can be created again will come", _CREATABLE, 0, True),
    Settling("all is there", deployment(0, 1), 1, False),
    Settling("none are wanted", deployment(0, 0), 0, False),
]


@pytest.mark.parametrize("case", SETTLING, ids=lambda case: case.name)
def test_settling(case: Settling) -> None:
    assert settling(case.deployment, case.pods) is case.expect


def test_a_whole_life() -> None:
    """Create, start, serve, change, prove, suspend: what a user sees, and when Ready last flipped."""
    seen: list[tuple[str, str, str]] = []
    before: Object | None = None
    steps: list[tuple[Object | None, Object]] = [
        (None, {}),
        (deployment(0, 1), {}),
        (deployment(1, 1), {}),
        (deployment(1, 2, updated=1), {}),
        (deployment(1, 1), {}),
        (deployment(0, 0), {"suspend": True}),
    ]
    for minute, (found, spec) in enumerate(steps):
        before = status(found, before=before, now=f"2026-01-02T03:0{minute}:00Z", **spec)
        ready = before["conditions"][0]
        seen.append((ready["status"], ready["reason"], ready["lastTransitionTime"][14:16]))
    assert seen == [
        ("False", "Starting", "00"),
        ("False", "Starting", "00"),
        ("True", "Serving", "02"),
        ("False", "RollingOut", "03"),
        ("True", "Serving", "04"),
        ("True", "Suspended", "04"),
    ]


def test_the_launcher_knows_every_reason_that_stalls() -> None:
    launcher = "".join(path.read_text() for path in (ROOT / "images" / "server" / "berth_server").glob("*.py"))
    assert {reason for reason in PERMANENT if f'"{reason}"' not in launcher} == set()


def test_the_plan_s_refusal_is_the_status_s() -> None:
    spec = {"server": {"args": {"max_model_len": 1}}}
    plan = make_plan(parsed(**spec), observed(endpoint(**spec)), PLATFORM)
    found = status(refusal=plan.refusal, **spec)
    assert "max-model-len" in message(found, "Accepted")
    assert message(found, "Accepted") == message(found, "Ready") == message(found, "Stalled")


def test_live_deployments_of_the_builder_are_those_of_the_plan() -> None:
    """The Deployments above are what Berth applies, or these tests would prove nothing."""
    (wanted, *_) = make_plan(parsed(), observed(), PLATFORM).apply
    assert deployment()["spec"] == live(wanted)["spec"]


def test_a_deployment_paused_by_hand_is_named() -> None:
    paused = deployment(1, 1)
    paused["spec"]["paused"] = True
    told = message(status(paused), "Ready")
    assert told == "the Deployment is paused, go on with: kubectl rollout resume deployment/demo -n team-a"
