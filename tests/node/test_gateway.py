"""The gateway in front of real vLLM: the real clients of all APIs, callers' keys, and who may not be reached.

Two teams' endpoints in two namespaces. Clients are given the gateway's URL and a caller's key, no more. The tests run
in the order of the file: first those of an endpoint that stays awake, the last ones let it sleep.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from local import tools
from local.demo import ROOT, SYSTEM_NAMESPACE
from local.kubectl import Kubectl, condition
from local.model import PAGE
from tests.clients.player import Player
from tests.contracts.apis.calls import CLIENTS, Client
from tests.contracts.apis.conftest import KEY, NAMES, Endpoint, Own, Play, asking, playing
from tests.contracts.apis.test_clients import (
    ON_THE_PAGE,
    TOKENS,
    UNKNOWN,
    WAYS,
    test_a_completion_is_vllms_own,  # noqa: F401
    test_all_served_names_are_the_same_model,  # noqa: F401
    test_an_unknown_model_is_an_exception,  # noqa: F401
    test_too_much_is_an_exception,  # noqa: F401
)
from tests.contracts.apis.test_pages import *  # noqa: F403
from tests.node import endpoints, gateway, tenancy, wake
from tests.node.patience import IMPATIENT, by_default, is_timeout, survives, words
from tests.node.tenancy import ASKED_TOKENS, Tenants, Way
from tests.waiting import eventually

# Of the first test, which brings two vLLMs up.
pytestmark = pytest.mark.timeout(1800)

OURS, THEIRS = "ours", "theirs"
THEIR_MODEL = "their-own-7b"
# Without a GPU: the node has only two. Both run at once, beside the demo's.
RESOURCES = {"limits": {"memory": "6Gi"}, "requests": {"memory": "1Gi"}}
SLEEP_SECONDS = 180.0
WAKE_SECONDS = 600.0


def spec(minimum: int, idle_seconds: int | None = None) -> dict[str, Any]:
    scaling: dict[str, Any] = {"min": minimum, "max": 1}
    return {"resources": RESOURCES, "scaling": scaling | ({"idleSeconds": idle_seconds} if idle_seconds else {})}


def apply(kubectl: Kubectl, namespace: str, name: str, names: list[str], **more: Any) -> None:
    served = endpoints.endpoint(name, **more)
    served["spec"]["model"]["servedNames"] = names
    endpoints.apply(kubectl, namespace, served)


@pytest.fixture(scope="module")
def ours(kubectl: Kubectl) -> Iterator[str]:
    """The namespace of the endpoint that the key is for."""
    with endpoints.namespace(kubectl) as namespace:
        apply(kubectl, namespace, OURS, list(NAMES), **spec(1))
        eventually(lambda: endpoints.ready(kubectl, namespace, OURS), endpoints.READY_SECONDS, f"{OURS} is Ready")
        yield namespace


@pytest.fixture(scope="module")
def theirs(kubectl: Kubectl) -> Iterator[str]:
    """The namespace of the other team's endpoint. It may sleep, so it has a port at the gateway, and does not."""
    with endpoints.namespace(kubectl) as namespace:
        apply(kubectl, namespace, THEIRS, [THEIR_MODEL], **spec(0, 86400))
        eventually(lambda: endpoints.ready(kubectl, namespace, THEIRS), endpoints.READY_SECONDS, f"{THEIRS} is Ready")
        yield namespace


@pytest.fixture(scope="module")
def endpoint(kubectl: Kubectl, ours: str) -> Iterator[Endpoint]:
    """What the clients' tests are given: the URL of all endpoints, and a key for ours."""
    with gateway.key(kubectl, ours, value=KEY):
        yield Endpoint(gateway.url(kubectl), KEY)


@pytest.fixture(scope="module")
def own(endpoint: Endpoint) -> Iterator[Own]:
    with asking(endpoint) as ask:
        yield ask


@pytest.fixture(scope="module")
def play(endpoint: Endpoint) -> Iterator[Play]:
    with playing(endpoint) as play:
        yield play


@pytest.mark.parametrize(("client", "way"), WAYS)
def test_a_key_that_nobody_has_is_an_exception(client: Client, way: str, play: Play) -> None:
    outcome = play(client, client.call(way, NAMES[0], UNKNOWN, TOKENS), key="sk-another")
    assert outcome["kind"] == "raised"
    assert outcome["type"] == client.expected_errors(way)[2], outcome
    assert "A key of this gateway is needed" in outcome["message"]
    assert "sk-another" not in outcome["message"]


# Keys.

LISTS = {
    "/v1/models": lambda body: [model["id"] for model in body["data"]],
    "/llm-engine/v1/llm/model-endpoints": lambda body: [model["name"] for model in body["model_endpoints"]],
    "/egp/v4/models": lambda body: [model["id"] for model in body["items"]],
    "/egp/v5/models": lambda body: [model["id"] for model in body["items"]],
    "/aleph-alpha/models_available": lambda body: [model["name"] for model in body],
}


@pytest.mark.parametrize("path", LISTS)
def test_a_list_has_what_the_key_may_use_and_no_more(path: str, kubectl: Kubectl, ours: str, theirs: str) -> None:
    base = gateway.url(kubectl)

    def listed(key: str) -> set[str]:
        status, body = gateway.lists(base, key, path)
        assert status == 200, body
        return set(LISTS[path](body))

    with (
        gateway.key(kubectl, ours) as one,
        gateway.key(kubectl, f"{ours}, {theirs}") as both,
        gateway.key(kubectl, f"{ours} {theirs}", models=THEIR_MODEL) as by_model,
        gateway.key(kubectl, "*") as everything,
    ):
        assert listed(one) == set(NAMES)
        assert listed(both) == {*NAMES, THEIR_MODEL}
        assert listed(by_model) == {THEIR_MODEL}
        assert listed(everything) >= {*NAMES, THEIR_MODEL, "quickstart"}
    assert gateway.lists(base, "", path)[0] == 401


def test_keys_come_change_and_go_without_a_restart(kubectl: Kubectl, ours: str, theirs: str) -> None:
    name, key, further = "test-key-of-a-day", "sk-first-of-the-day", "sk-second-of-the-day"
    before = {pod["metadata"]["uid"] for pod in gateway.pods(kubectl)}
    base = gateway.url(kubectl)
    took: dict[str, float] = {}

    def change(what: str, secret: dict[str, Any] | None, *known: tuple[str, bool]) -> None:
        if secret is None:
            kubectl.run("delete", "secret", name, "-n", SYSTEM_NAMESPACE)
        else:
            kubectl.apply([secret])
        began = time.monotonic()
        for value, admitted in known:
            gateway.until_known(kubectl, value, admitted)
        took[what] = time.monotonic() - began

    try:
        change("a new key", gateway.secret(name, [key], "day", ours), (key, True))
        change("a second key", gateway.secret(name, [key, further], "day", ours), (key, True), (further, True))
        change("the first one out", gateway.secret(name, [further], "day", ours), (key, False), (further, True))
        kubectl.apply([gateway.secret(name, [further], "day", theirs)])
        names = lambda: {model["id"] for model in gateway.lists(base, further)[1]["data"]}  # noqa: E731
        eventually(lambda: names() == {THEIR_MODEL}, gateway.KNOWN_SECONDS, "the key is for another namespace")
        change("revoked", None, (further, False))
    finally:
        kubectl.run("delete", "secret", name, "-n", SYSTEM_NAMESPACE, "--ignore-not-found")
        print(
            "\n" + "\n".join(f"{what}: known to every gateway after {seconds:.1f} s" for what, seconds in took.items())
        )
    assert {pod["metadata"]["uid"] for pod in gateway.pods(kubectl)} == before
    logs = "".join(
        kubectl.run("logs", pod["metadata"]["name"], "-n", SYSTEM_NAMESPACE) for pod in gateway.pods(kubectl)
    )
    assert '"owner":"day"' in logs.replace('": "', '":"')
    for value in (key, further, KEY, PAGE[:40]):
        assert value not in logs


def test_the_pages_commands_make_replace_and_revoke_a_key(kubectl: Kubectl, ours: str, tmp_path: Path) -> None:
    """docs/gateway.md, as a reader would paste them: the namespace excepted."""
    section = (ROOT / "docs" / "gateway.md").read_text().partition("\n## Keys\n")[2].partition("\n## ")[0]
    make, change = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    programs = tools.ensure(["kubectl"])["kubectl"].parent
    env = {**os.environ, "KUBECONFIG": str(kubectl.kubeconfig), "PATH": f"{programs}:{os.environ['PATH']}"}

    def paste(block: str) -> None:
        done = subprocess.run(["bash", "-e"], input=block, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    both, _, last = change.partition("# When the clients have the new one:\n")
    key = lambda name: (tmp_path / name).read_text()  # noqa: E731
    try:
        paste(make.replace("team-a, team-b", ours))
        gateway.until_known(kubectl, key("alice.key"), True)
        assert {model["id"] for model in gateway.lists(gateway.url(kubectl), key("alice.key"))[1]["data"]} == set(NAMES)
        paste(both)
        for name in ("alice.key", "alice-2.key"):
            gateway.until_known(kubectl, key(name), True)
        paste(last)
        gateway.until_known(kubectl, key("alice.key"), False)
        gateway.until_known(kubectl, key("alice-2.key"), True)
    finally:
        kubectl.run("delete", "secret", "gateway-key-alice", "-n", SYSTEM_NAMESPACE, "--ignore-not-found")
    gateway.until_known(kubectl, key("alice-2.key"), False)


# Who may not be reached.


@pytest.fixture(scope="module")
def tenants(endpoint: Endpoint, ours: str, theirs: str) -> Tenants:
    return Tenants(KEY, NAMES[0], ours, OURS, THEIR_MODEL, theirs, THEIRS)


def taken(kubectl: Kubectl, namespace: str, name: str) -> tuple[float, float]:
    """Tokens that this endpoint's vLLM has generated, and requests that the gateways say were for it.

    Tokens: the launcher asks for one now and then, and every way that is tried for several.
    """
    (pod,) = endpoints.pods(kubectl, namespace, name)
    text = httpx.get(f"http://{pod['status']['podIP']}:8000/metrics", trust_env=False, timeout=30).text
    return gateway.summed(text, "vllm:generation_tokens_total"), gateway.requests_for(kubectl, namespace, name)


def nothing_came(before: tuple[float, float], after: tuple[float, float]) -> bool:
    """Whether only the launcher has asked."""
    return after[0] - before[0] < ASKED_TOKENS and after[1] == before[1]


def port_of(kubectl: Kubectl, namespace: str, name: str) -> int:
    """At the gateway's pods, of an endpoint that may sleep."""
    port: int = kubectl.get("endpointslice", f"{name}-gateway", "-n", namespace)["ports"][0]["port"]
    return port


def through_ports(tenants: Tenants, theirs_port: int) -> list[tuple[Way, int]]:
    """At the port of their Service, which needs no key of the gateway: nothing there leads to ours."""
    ours = {"model": tenants.ours, "prompt": "Hello", "max_tokens": 4}
    named = {"model": f"{tenants.our_namespace}/{tenants.our_object}", "prompt": "Hello", "max_tokens": 4}
    service = f"{tenants.our_object}.{tenants.our_namespace}.svc.cluster.local"
    path = f"http://{service}/v1/completions"
    query = f"/llm-engine/v1/llm/completions-sync?model_endpoint_name={tenants.ours}"
    found = {
        "own model": tenancy.request(tenants.key, ours),
        "own namespace/name": tenancy.request(tenants.key, named),
        "own model, Host of the own Service": tenancy.request(tenants.key, ours, host=service),
        "own model, absolute URI of the own Service": tenancy.request(tenants.key, ours, path, host=service),
        "own model, query of LLMEngine": tenancy.request(
            tenants.key, {"prompt": "a", "max_new_tokens": 1, "temperature": 0}, query
        ),
        "own model, ScaleEGP": tenancy.request(
            tenants.key, {**ours, "model": f"v/{tenants.ours}"}, "/egp/v5/completions"
        ),
    }
    return [(Way(f"their Service's port: {what}", data), theirs_port) for what, data in found.items()]


def test_no_way_of_naming_the_others_model_reaches_it(kubectl: Kubectl, tenants: Tenants) -> None:
    rows = ["| way | statuses | says |", "|---|---|---|"]
    wrong = []
    addresses = gateway.addresses(kubectl)
    before = taken(kubectl, tenants.their_namespace, THEIRS)
    for number, way in enumerate(tenancy.ways(tenants)):
        statuses, text = gateway.exchange(addresses[number % len(addresses)], gateway.PORT, way.data)
        rows.append(row(way, statuses, text))
        if problem := tenancy.went_wrong(way, tenants, statuses, text):
            wrong.append(f"{way.what}: {problem}: {statuses} {text[-300:]}")
    assert nothing_came(before, taken(kubectl, tenants.their_namespace, THEIRS)), "a request came through"

    before = taken(kubectl, tenants.our_namespace, OURS)
    for way, port in through_ports(tenants, port_of(kubectl, tenants.their_namespace, THEIRS)):
        statuses, text = gateway.exchange(addresses[0], port, way.data)
        rows.append(row(way, statuses, text))
        if statuses != [404]:
            wrong.append(f"{way.what}: {statuses} {text[-300:]}")
    assert nothing_came(before, taken(kubectl, tenants.our_namespace, OURS)), "one came through from another's port"
    print("\n" + "\n".join(rows))
    assert wrong == []


def row(way: Way, statuses: list[int], text: str) -> str:
    body = text.rpartition("\r\n\r\n")[2].replace("|", "\\|").replace("\n", " ")
    return f"| {way.what} | {' '.join(map(str, statuses))} | {body[:110] if statuses[-1:] != [200] else way.expected} |"


def test_the_counters_that_show_it_move_for_who_may(kubectl: Kubectl, tenants: Tenants) -> None:
    """Else that they stood still would show nothing."""
    address = gateway.addresses(kubectl)[0]
    with gateway.key(kubectl, tenants.their_namespace) as key:
        before = taken(kubectl, tenants.their_namespace, THEIRS)
        body = {"model": THEIR_MODEL, "prompt": ON_THE_PAGE, "max_tokens": ASKED_TOKENS}
        assert gateway.exchange(address, gateway.PORT, tenancy.request(key, body))[0] == [200]
        after = taken(kubectl, tenants.their_namespace, THEIRS)
    assert not nothing_came(before, after)
    assert (after[0] - before[0] >= ASKED_TOKENS, after[1] - before[1]) == (True, 1)


def test_without_a_key_nothing_is_told(kubectl: Kubectl, tenants: Tenants) -> None:
    address = gateway.addresses(kubectl)[0]
    for key in ("", "sk-another", f"{KEY}x", tenants.their_namespace):
        for way in tenancy.ways(tenants._replace(key=key)):
            statuses, text = gateway.exchange(address, gateway.PORT, way.data)
            assert statuses, way.what
            assert set(statuses) <= {400, 401, 501, 505}, (way.what, text)


# At zero.


class Asked(NamedTuple):
    """One call by one client. outcomes: of each time that it was made, with the seconds it took."""

    client: Client
    way: str
    outcomes: list[tuple[float, dict[str, Any]]]

    @property
    def seconds(self) -> float:
        return sum(seconds for seconds, _ in self.outcomes)


def asleep(kubectl: Kubectl, namespace: str, name: str) -> bool:
    found = kubectl.get("mep", name, "-n", namespace)
    ready = condition(found, "Ready")
    current = ready.get("observedGeneration") == found["metadata"]["generation"]
    told = (current, ready.get("status"), ready.get("reason")) == (True, "True", "Asleep")
    return told and not endpoints.pods(kubectl, namespace, name)


def test_every_client_wakes_a_sleeping_endpoint_and_is_answered(
    kubectl: Kubectl, endpoint: Endpoint, ours: str
) -> None:
    """All at once, each in every way that it has and with its own limits."""
    apply(kubectl, ours, OURS, list(NAMES), **spec(0, 10))
    asked = [Asked(client, way, []) for client in CLIENTS for way in client.calls]
    cluster = wake.Cluster(wake.api(), ours, OURS)
    with ExitStack() as stack:
        players = [
            stack.enter_context(Player(one.client.package, one.client.version, endpoint.url + one.client.base, KEY))
            for one in asked
        ]
        for player in players:  # each has its library by then
            assert player.play("0") == {"kind": "returned", "value": 0}
        eventually(lambda: asleep(kubectl, ours, OURS), SLEEP_SECONDS, f"{OURS} sleeps")
        with wake.Wake(cluster) as waking:
            threads = [
                threading.Thread(target=ask, args=(one, player, waking))
                for one, player in zip(asked, players, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            eventually(lambda: "in the Service" in waking.marks, SLEEP_SECONDS, "the pod in the Service")
        # After the last of MARKS has come, at the latest.
        needed = waking.marks["first answer"] - waking.marks["asked"]
    print(f"\n{report(asked)}\n\n{wake.table({'wake': waking.marks})}\n{waking.told}")
    assert {status for status, _, _ in waking.told} == {"True"}, "waking has flipped Ready"
    for one in asked:
        check(one, needed)


def ask(one: Asked, player: Player, waking: wake.Wake) -> None:
    """Until there is something else than a timeout, as a patient user of the library would."""
    call = by_default(one.client.call(one.way, NAMES[0], ON_THE_PAGE, TOKENS))
    end = time.monotonic() + WAKE_SECONDS
    while True:
        began = time.monotonic()
        outcome = player.play(call)
        one.outcomes.append((time.monotonic() - began, outcome))
        if not is_timeout(outcome):
            waking.answered()
            return
        if time.monotonic() > end:
            return


def check(one: Asked, wake_seconds: float) -> None:
    """The page's text at once, if the client's own limits are longer than the wake; else after timeouts of its own."""
    *before, (_, last) = one.outcomes
    who = (one.client.package, one.client.version, one.way, before)
    text = one.client.read(one.way, last)[0]
    assert PAGE.startswith(ON_THE_PAGE + text), who
    assert all(is_timeout(outcome) for _, outcome in before), who
    if survives(one.client, one.way, wake_seconds):
        assert not before, who
    elif one.client.version in IMPATIENT:
        assert before, who


def report(asked: list[Asked]) -> str:
    rows = ["| client | way | its own limit | calls | seconds | timeouts of its own |", "|---|---|---|---|---|---|"]
    for one in asked:
        timeouts = [outcome for _, outcome in one.outcomes[:-1]]
        kinds = ", ".join(sorted({str(outcome["type"]) for outcome in timeouts}))
        name = f"{one.client.package} {one.client.version}".strip()
        rows.append(
            f"| {name} | {one.way} | {words(one.client, one.way)} | {len(one.outcomes)} | {one.seconds:.1f} | {kinds} |"
        )
    return "\n".join(rows)


def test_a_look_at_a_sleeping_endpoint_does_not_wake_it(kubectl: Kubectl, endpoint: Endpoint, ours: str) -> None:
    """Lists, health and a refused key: by its own Service, and by the gateway's."""
    eventually(lambda: asleep(kubectl, ours, OURS), SLEEP_SECONDS, f"{OURS} sleeps")
    with endpoints.client(kubectl, ours, OURS) as service:
        assert service.get("/health").status_code == 200
        assert [model["id"] for model in service.get("/v1/models").json()["data"]] == list(NAMES)
    assert {model["id"] for model in gateway.lists(endpoint.url, KEY)[1]["data"]} == set(NAMES)
    refused = httpx.post(
        f"{endpoint.url}/v1/completions", json={"model": NAMES[0], "prompt": "a"}, timeout=30, trust_env=False
    )
    assert refused.status_code == 401
    uid = kubectl.get("mep", OURS, "-n", ours)["metadata"]["uid"]
    for address in gateway.addresses(kubectl):
        demand = httpx.get(f"http://{address}:{gateway.ADMIN_PORT}/demand", timeout=30, trust_env=False).json()
        assert demand["endpoints"].get(uid, {}).get("held", 0) == 0, "it would wake the endpoint"
    assert asleep(kubectl, ours, OURS)
