"""Whatever is sent, an API answers in its own shape; and a client that leaves frees what it held. On real vLLM."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.model import PAGE
from tests.contracts.apis.conftest import NAMES, Endpoint
from tests.contracts.launcher.launched import Launched
from tests.waiting import eventually

MODEL = NAMES[0]
WHOLE = {"prompt": "Hello", "max_new_tokens": 2, "temperature": 0}
EGP = {"model": MODEL, "prompt": "Hello", "model_parameters": {"max_tokens": 2}}
ALEPH = {"model": MODEL, "prompt": [{"type": "text", "data": "Hello", "controls": []}], "maximum_tokens": 2}
# Path below which everything is one API's, and valid calls of it.
VALID: list[tuple[str, Any]] = [
    (f"/llm-engine/v1/llm/completions-sync?model_endpoint_name={MODEL}", WHOLE),
    (f"/v1/llm/completions-stream?model_endpoint_name={MODEL}", WHOLE),
    ("/egp/v2/completions", EGP),
    ("/egp/v4/completions", EGP | {"stream": True}),
    ("/egp/v5/completions", {"model": MODEL, "prompt": "Hello", "max_tokens": 2}),
    ("/aleph-alpha/complete", ALEPH),
    ("/aleph-alpha/v1/complete", ALEPH | {"stream": True}),
    ("/aleph-alpha/evaluate", {"model": MODEL, "prompt": "Hello", "completion_expected": " you"}),
    ("/aleph-alpha/tokenize", {"model": MODEL, "prompt": "Hello", "tokens": True, "token_ids": True}),
    ("/aleph-alpha/detokenize", {"model": MODEL, "token_ids": [5, 6]}),
]
KEYS = sorted(
    {key for _, body in VALID for key in body}
    | {"n", "best_of", "log_probs", "echo", "tokens", "top_k", "top_p", "stop_sequences", "logit_bias", "images"}
    | {
        "guided_regex",
        "guided_json",
        "guided_choice",
        "prompts",
        "minimum_tokens",
        "completion_bias_exclusion",
        "\u2028",
    }
)
# Short: each is worth a completion.
SCALARS = st.none() | st.booleans() | st.integers(-3, 40) | st.floats() | st.text(max_size=6) | st.just(10**400)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=5,
)


def shape(path: str, response: httpx.Response) -> None:
    """Asserts that an error is told as that API tells errors."""
    assert response.status_code < 500, (path, response.status_code, response.text)
    if response.status_code < 400:
        return
    if response.headers["content-type"] == "text/event-stream":
        assert response.text.startswith(f"data: error {response.status_code}: "), response.text
        return
    found = response.json()
    if path.startswith("/aleph-alpha"):
        assert isinstance(found["error"], str) and found["error"], found
        assert found["code"] == found["code"].upper(), found
    else:
        assert isinstance(found["detail"], str) and found["detail"], found


@pytest.fixture(scope="module")
def http(endpoint: Endpoint) -> Iterator[httpx.Client]:
    headers = {"x-api-key": endpoint.key}
    with httpx.Client(base_url=endpoint.url, headers=headers, timeout=120) as client:
        yield client


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(("path", "valid"), VALID, ids=[path.partition("?")[0] for path, _ in VALID])
def test_a_body_is_served_or_refused_in_the_apis_words(path: str, valid: Any, http: httpx.Client) -> None:
    assert http.post(path, json=valid).status_code == 200

    @FUZZ
    @given(
        st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3), st.sets(st.sampled_from(sorted(valid)), max_size=1)
    )
    def changed(changes: dict[str, Any], without: set[str]) -> None:
        body = {key: value for key, value in (valid | changes).items() if key not in without}
        # What a fuzzer finds first is that long completions take long.
        body = {
            key: min(value, 40) if key == "max_tokens" and isinstance(value, int) else value
            for key, value in body.items()
        }
        data = json.dumps(body).encode()
        shape(path, http.post(path, content=data, headers={"content-type": "application/json"}))

    @FUZZ
    @given(st.binary(max_size=40))
    def noise(data: bytes) -> None:
        shape(path, http.post(path, content=data))

    changed()
    noise()


@FUZZ
@given(
    prefix=st.sampled_from(["/llm-engine/", "/v1/llm/", "/egp/", "/aleph-alpha/"]),
    rest=st.text(st.characters(codec="utf-8"), max_size=20),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]),
    header=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
)
def test_paths_methods_and_headers(http: httpx.Client, prefix: str, rest: str, method: str, header: str) -> None:
    url = f"{prefix}{quote(rest)}"
    response = http.request(
        method, url, headers={"content-type": header.strip(), "x-selected-account-id": header.strip()}
    )
    shape(prefix, response)


@dataclass(frozen=True)
class Long:
    """A completion that goes on for hundreds of tokens."""

    path: str
    body: dict[str, Any]


LONG = {
    "LLMEngine": Long(
        f"/v1/llm/completions-sync?model_endpoint_name={MODEL}",
        {"prompt": "a", "max_new_tokens": 1500, "temperature": 1, "guided_regex": "[a-z ]{4000}"},
    ),
    "LLMEngine, a stream": Long(
        f"/v1/llm/completions-stream?model_endpoint_name={MODEL}",
        {"prompt": "a", "max_new_tokens": 1500, "temperature": 1, "guided_regex": "[a-z ]{4000}"},
    ),
    "ScaleEGP": Long("/egp/v5/completions", {"model": MODEL, "prompt": "a", "max_tokens": 1500, "ignore_eos": True}),
    "ScaleEGP, a stream": Long(
        "/egp/v5/completions", {"model": MODEL, "prompt": "a", "max_tokens": 1500, "ignore_eos": True, "stream": True}
    ),
    "AlephAlpha": Long(
        "/aleph-alpha/complete", {"model": MODEL, "prompt": PAGE[:20], "maximum_tokens": 1500, "minimum_tokens": 1500}
    ),
    "AlephAlpha, a stream": Long(
        "/aleph-alpha/complete",
        {"model": MODEL, "prompt": PAGE[:20], "maximum_tokens": 1500, "minimum_tokens": 1500, "stream": True},
    ),
}


def gauge(http: httpx.Client, name: str) -> float:
    """The sum of a series of vLLM."""
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


@pytest.mark.parametrize("name", LONG)
def test_clients_that_leave_free_their_slots(
    name: str, endpoint: Endpoint, launched: Launched, http: httpx.Client
) -> None:
    long, many = LONG[name], 16
    eventually(lambda: gauge(http, "vllm:num_requests_running") == 0, 120, "an idle engine")
    before = gauge(http, "vllm:generation_tokens_total")
    data, address = json.dumps(long.body).encode(), urlsplit(endpoint.url)
    head = f"POST {long.path} HTTP/1.1\r\nHost: x\r\nx-api-key: {endpoint.key}\r\nContent-Type: application/json\r\n"
    with launched.engine_comes_last():
        with ExitStack() as stack:
            for _ in range(many):
                connection = stack.enter_context(socket.create_connection((address.hostname, address.port)))
                connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            eventually(lambda: gauge(http, "vllm:generation_tokens_total") > before + many, 120, "running requests")
        eventually(lambda: gauge(http, "vllm:num_requests_running") == 0, 120, "free slots")
    generated = gauge(http, "vllm:generation_tokens_total") - before
    assert generated < many * 1500 / 2, f"the engine went on for {generated:.0f} of {many * 1500} tokens"
