"""The lists of models, in each API, of what a caller may use.

Input: endpoints of several teams, callers. Output: what each client needs of a list, by the contracts of the APIs.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import Model

from berth_apis import http
from berth_gateway import models, paths
from berth_gateway.access import ANYBODY, Caller, allows
from berth_gateway.table import Table
from tests.unit.gateway.objects import endpoint

TEAM_A = Caller("a", frozenset({"a"}), None)


def table() -> Table:
    """Three endpoints of two teams, with different APIs."""
    found = Table()
    for obj in (
        endpoint("a/llama", 1, "llama", source="hf://meta/Llama", server={"args": {"max-model-len": 4096}}),
        endpoint("a/chat", 65, server={"apis": ["OpenAI"]}),
        endpoint("b/secret", 3, "secret"),
        endpoint("b/llama", 4),
    ):
        found.put_endpoint(obj)
    return found


def ask(path: str, caller: Caller = ANYBODY, query: str = "", method: str = "GET") -> http.Answer:
    """The answer to a call."""
    route = paths.route(method, path)
    assert route.kind == paths.LIST
    named = [(name, found) for name, found in table().reachable() if allows(caller, found)]
    request = http.Request(method, route.rest, paths.query_of(query), {}, b"")
    return models.answer(route, request, named, lambda: 0.0)


def told(path: str, caller: Caller = ANYBODY, query: str = "") -> Any:
    """Its JSON; its status is 200."""
    answer = ask(path, caller, query)
    assert (answer.status, answer.content_type) == (200, "application/json")
    return json.loads(answer.body)


LISTS = {
    "/v1/models": lambda found: [each["id"] for each in found["data"]],
    "/llm-engine/v1/llm/model-endpoints": lambda found: [each["name"] for each in found["model_endpoints"]],
    "/v1/llm/model-endpoints": lambda found: [each["name"] for each in found["model_endpoints"]],
    "/egp/v3/models": lambda found: [each["id"] for each in found],
    "/egp/v4/models": lambda found: [each["id"] for each in found["items"]],
    "/egp/v5/models": lambda found: [each["id"] for each in found["items"]],
    "/aleph-alpha/models_available": lambda found: [each["name"] for each in found],
    "/aleph-alpha/v1/models_available": lambda found: [each["name"] for each in found],
}
lists = pytest.mark.parametrize("path", LISTS)


@lists
def test_a_list_has_every_name_that_leads_to_an_endpoint_of_this_api(path: str) -> None:
    chat = ["chat"] if path == "/v1/models" else []
    assert LISTS[path](told(path)) == ["b/llama", *chat, "llama", "meta/Llama", "secret"]


@lists
def test_a_list_shows_only_what_the_caller_may_use(path: str) -> None:
    chat = ["chat"] if path == "/v1/models" else []
    assert LISTS[path](told(path, TEAM_A)) == [*chat, "llama", "meta/Llama"]
    assert LISTS[path](told(path, Caller("x", None, frozenset({"secret"})))) == ["secret"]
    answer = ask(path, Caller("x", frozenset({"c"}), None))
    assert LISTS[path](json.loads(answer.body)) == []
    for caller in (TEAM_A, Caller("x", frozenset({"c"}), None)):
        assert b"secret" not in ask(path, caller).body


ONE = ("/v1/models/{}", "/llm-engine/v1/llm/model-endpoints/{}", "/egp/v3/models/{}")


@pytest.mark.parametrize("path", ONE)
def test_one_model_is_told_under_any_of_its_names(path: str) -> None:
    for name in ("llama", "meta/Llama", "meta%2FLlama", "b/llama"):
        found = told(path.format(name))
        assert found.get("id") == name.replace("%2F", "/")


@pytest.mark.parametrize("path", ONE)
def test_a_model_that_the_caller_may_not_use_is_refused_as_one_that_is_not_there(path: str) -> None:
    unknown, forbidden = (ask(path.format(name), TEAM_A) for name in ("secrex", "secret"))
    assert unknown.status == forbidden.status == 404
    assert unknown.body == forbidden.body.replace(b"secret", b"secrex")
    assert unknown.headers == forbidden.headers
    assert "/v1/models" in unknown.body.decode() or "lists" in unknown.body.decode()


def test_openai_clients_find_what_they_need() -> None:
    for found in told("/v1/models")["data"]:
        assert Model.model_validate(found, strict=True).object == "model"
    by_name = {each["id"]: each for each in told("/v1/models")["data"]}
    assert by_name["llama"] == {
        "id": "llama",
        "object": "model",
        "created": 1767225601,
        "owned_by": "a",
        "max_model_len": 4096,
    }
    assert "max_model_len" not in by_name["secret"]
    assert told("/v1/models/chat")["created"] == 1767225665
    assert set(json.loads(ask("/v1/models/x").body)) == {"error"}


def test_clients_of_llm_engine_find_what_they_need() -> None:
    for found in told("/v1/llm/model-endpoints")["model_endpoints"]:
        assert (found["source"], found["status"], found["inference_framework"]) == ("hugging_face", "READY", "vllm")
    assert set(json.loads(ask("/v1/llm/model-endpoints/x").body)) == {"detail"}


def test_clients_of_egp_find_what_they_need() -> None:
    needed = {
        "id",
        "name",
        "model_type",
        "created_at",
        "account_id",
        "created_by_user_id",
        "request_schema",
        "response_schema",
    }
    assert all(set(found) == needed for found in told("/egp/v3/models"))
    assert told("/egp/v3/models/llama")["created_at"] == "2026-01-01T00:00:01Z"
    # The client asks for pages until one is empty.
    first, second = told("/egp/v4/models"), told("/egp/v4/models", query="page=2")
    assert (len(first["items"]), first["total_item_count"], second["items"]) == (4, 4, [])
    newest = told("/egp/v5/models")
    assert (newest["has_more"], newest["total"]) == (False, 4)
    assert told("/egp/user-info")["access_profiles"][0]["role"] == "admin"
    assert told("/egp/v3/models/anthropic%2Fllama")["id"] == "llama"


def test_clients_of_aleph_alpha_find_what_they_need() -> None:
    found = {each["name"]: each for each in told("/aleph-alpha/models_available")}
    assert set(found["llama"]) == {
        "name",
        "description",
        "max_context_size",
        "hostings",
        "image_support",
        "qa_support",
        "summarization_support",
        "embedding_types",
        "maximum_completion_tokens",
        "aligned",
    }
    # What is not known is not taken from another model.
    assert (found["llama"]["max_context_size"], found["secret"]["max_context_size"]) == (4096, 0)
    version = ask("/aleph-alpha/version")
    assert (version.body, version.content_type) == (b"1.19.0", "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/aleph-alpha/embed", 400),
        ("POST", "/aleph-alpha/steering_concepts", 400),
        ("DELETE", "/v1/llm/model-endpoints/llama", 400),
        ("POST", "/llm-engine/v1/files", 400),
    ],
)
def test_what_an_api_refuses_without_an_engine_is_refused_here(method: str, path: str, status: int) -> None:
    answer = ask(path, method=method)
    assert answer.status == status
    assert set(json.loads(answer.body)) & {"error", "detail"}
