"""Every client library, unmodified, against one endpoint with real vLLM and Berth's plugin.

Inputs: the same completions, asked for in every way that each library has. Outputs: texts that the test model knows by
heart, counts and answers that vLLM's own API gives for the same, and the exceptions that each library promises.
"""

from __future__ import annotations

import pytest

from local.model import PAGE
from tests.contracts.apis.calls import CLIENTS, Client
from tests.contracts.apis.conftest import NAMES, Own, Play

WAYS = [
    pytest.param(client, way, id=f"{client.package} {client.version} {way}".replace("  ", " "))
    for client in CLIENTS
    for way in client.calls
]

ON_THE_PAGE = PAGE[: PAGE.index(" One showed the hour")]
UNKNOWN = "Hello, my name is"
# Bytes of two and more tokens each, which a stream may cut in the middle.
OTHER_SCRIPTS = "Grüße aus 東京 🚢, "
TOKENS = 24


@pytest.mark.parametrize("prompt", [ON_THE_PAGE, UNKNOWN, OTHER_SCRIPTS], ids=["page", "unknown", "other scripts"])
@pytest.mark.parametrize(("client", "way"), WAYS)
def test_a_completion_is_vllms_own(client: Client, way: str, prompt: str, play: Play, own: Own) -> None:
    expected = own(prompt=prompt, max_tokens=TOKENS, temperature=0)
    text, prompt_tokens, completion_tokens = client.read(way, play(client, client.call(way, NAMES[0], prompt, TOKENS)))
    assert text == expected["choices"][0]["text"]
    if prompt == ON_THE_PAGE:
        assert PAGE.startswith(prompt + text)
        assert len(text.split()) > TOKENS / 2
    usage = expected["usage"]
    assert prompt_tokens in (None, usage["prompt_tokens"])
    assert completion_tokens == usage["completion_tokens"] == TOKENS


@pytest.mark.parametrize("name", NAMES)
def test_all_served_names_are_the_same_model(name: str, play: Play) -> None:
    texts = {client.read("sync", play(client, client.call("sync", name, ON_THE_PAGE, TOKENS)))[0] for client in CLIENTS}
    assert len(texts) == 1
    assert PAGE.startswith(ON_THE_PAGE + texts.pop())


@pytest.mark.parametrize(("client", "way"), WAYS)
def test_an_unknown_model_is_an_exception(client: Client, way: str, play: Play) -> None:
    outcome = play(client, client.call(way, "unknown", UNKNOWN, TOKENS))
    assert outcome["kind"] == "raised"
    assert outcome["type"] == client.expected_errors(way)[0], outcome
    assert "unknown" in outcome["message"]


@pytest.mark.parametrize(("prompt", "tokens"), [(UNKNOWN, 100_000), ("word " * 3000, TOKENS)], ids=["tokens", "prompt"])
@pytest.mark.parametrize(("client", "way"), WAYS)
def test_too_much_is_an_exception(client: Client, way: str, prompt: str, tokens: int, play: Play) -> None:
    outcome = play(client, client.call(way, NAMES[0], prompt, tokens))
    assert outcome["kind"] == "raised"
    assert outcome["type"] == client.expected_errors(way)[1], outcome
    assert "2048" in outcome["message"]


@pytest.mark.parametrize(("client", "way"), WAYS)
def test_a_wrong_key_is_an_exception(client: Client, way: str, play: Play) -> None:
    outcome = play(client, client.call(way, NAMES[0], UNKNOWN, TOKENS), key="sk-another")
    assert outcome["kind"] == "raised"
    assert outcome["type"] == client.expected_errors(way)[2], outcome
    assert "A key is needed" in outcome["message"]
    assert "sk-another" not in outcome["message"]
