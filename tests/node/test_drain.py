"""A leaving pod finishes what it has; in a rollout the old pod serves until the new one is proven."""

import json
import threading
from typing import Any

import httpx

from local.kubectl import Kubectl, condition
from local.model import PAGE
from tests.node import endpoints
from tests.waiting import eventually

START_SECONDS = 300.0
TOKENS = 900


def stream(client: httpx.Client, name: str, started: threading.Event) -> dict[str, Any]:
    """A long streamed completion: how it ended."""
    body = {"model": name, "prompt": "The", "max_tokens": TOKENS, "stream": True, "ignore_eos": True}
    events: list[str] = []
    with client.stream("POST", "/v1/completions", json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                events.append(line.removeprefix("data: "))
                started.set()
    return {"done": events[-1], "reason": json.loads(events[-2])["choices"][0]["finish_reason"], "events": len(events)}


def test_a_rollout_keeps_serving_and_cuts_no_stream(kubectl: Kubectl, namespace: str) -> None:
    # Without a GPU: old and new run side by side, and the node has only two.
    rolling = endpoints.endpoint("rolling", resources={"limits": {"memory": "6Gi"}})
    endpoints.apply(kubectl, namespace, rolling)
    eventually(lambda: endpoints.ready(kubectl, namespace, "rolling"), START_SECONDS, "Ready")
    old = endpoints.pods(kubectl, namespace, "rolling")[0]["metadata"]["name"]

    rolling["spec"]["model"] = {**rolling["spec"]["model"], "servedNames": ["rolling", "second"]}
    endpoints.apply(kubectl, namespace, rolling)
    answers = []

    def still_rolling() -> bool:
        with endpoints.client(kubectl, namespace, "rolling") as client:
            body = {"model": "rolling", "prompt": " ".join(PAGE.split(" ")[:12]), "max_tokens": 4, "temperature": 0}
            answers.append(client.post("/v1/completions", json=body).status_code)
        found = kubectl.get("mep", "rolling", "-n", namespace)
        assert condition(found, "Available")["status"] == "True"
        told = condition(found, "Ready")
        return told["status"] == "True" and told["observedGeneration"] == found["metadata"]["generation"]

    eventually(still_rolling, START_SECONDS, "the new pod serves alone")
    assert set(answers) == {200}, answers
    assert old not in {
        pod["metadata"]["name"]
        for pod in endpoints.pods(kubectl, namespace, "rolling")
        if not pod["metadata"].get("deletionTimestamp")
    }

    pod = next(
        pod["metadata"]["name"]
        for pod in endpoints.pods(kubectl, namespace, "rolling")
        if not pod["metadata"].get("deletionTimestamp")
    )
    ended: list[dict[str, Any]] = []
    started = threading.Event()
    with endpoints.client(kubectl, namespace, "rolling") as client:
        thread = threading.Thread(target=lambda: ended.append(stream(client, "second", started)))
        thread.start()
        assert started.wait(60), "no token came"
        kubectl.run("delete", "pod", pod, "-n", namespace, "--wait=false")
        thread.join(120)
    assert ended, "the stream did not end"
    assert (ended[0]["done"], ended[0]["reason"]) == ("[DONE]", "length")
