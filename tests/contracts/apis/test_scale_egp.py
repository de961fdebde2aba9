"""What only Scale EGP and SGP have: the page's defaults, accounts, images, and the three generations' own ways.

Inputs: calls of the clients of v2, v4 and v5. Outputs: what the page says, and what vLLM's own API gives for the same.
"""

from __future__ import annotations

import re

import pytest

from local.model import PAGE
from tests.contracts.apis.calls import CLIENTS
from tests.contracts.apis.conftest import NAMES, Own, Play

V2, V4, V5 = (
    next(client for client in CLIENTS if client.package == name) for name in ("scale-egp", "scale-gp", "scale-gp-beta")
)
PROMPT = PAGE[: PAGE.index(" One showed the hour")]
# From here the model knows every word: it says the same at temperature 0.2.
NEAR_THE_END = PAGE[: PAGE.index(" Those lenses threw it")][-500:]
REST = PAGE[PAGE.index(" Those lenses threw it") :]
EGP = 'EGPClient(account_id="a").completions()'
SGP = "SGPClient().completions.create"


@pytest.mark.parametrize(
    ("client", "call"),
    [
        (V2, f"{EGP}.create(model={{0!r}}, prompt={{1!r}}, account_id=None)"),
        (V2, f"{EGP}.create(model={{0!r}}, prompt={{1!r}}, account_id='b', model_parameters=ModelParameters())"),
        (V4, f"{SGP}(model={{0!r}}, prompt={{1!r}})"),
        (V4, f"{SGP}(model={{0!r}}, prompt={{1!r}}, account_id='b', images=[], model_parameters={{{{}}}})"),
    ],
    ids=["v2", "v2 parameters", "v4", "v4 parameters"],
)
def test_without_parameters_a_completion_goes_on_to_its_end(client: object, call: str, play: Play) -> None:
    value = play(client, call.format(NAMES[0], NEAR_THE_END))["value"]  # type: ignore[arg-type]
    assert value["completion"]["text"] == REST
    assert value["completion"]["finish_reason"] == "stop"
    assert value["token_usage"]["completion"] > 16, "vLLM's own default"


CASES = {
    "stop": ({"stop_sequences": ["brass"]}, {"stop": ["brass"]}),
    "stops": ({"stop_sequences": ["q", "brass", "z", "x"]}, {"stop": ["brass"]}),
    "top k": ({"temperature": 1, "top_k": 1}, {}),
    "top p": ({"temperature": 1, "top_p": 0.001}, {}),
    "penalties": (
        {"frequency_penalty": 2.0, "presence_penalty": 2.0, "max_tokens": 100},
        {"frequency_penalty": 2.0, "presence_penalty": 2.0, "max_tokens": 100},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_model_parameters_do_what_they_do_in_vllm(name: str, play: Play, own: Own) -> None:
    given, expected = CASES[name]
    parameters = {"temperature": 0, "max_tokens": 24, **given}
    value = play(V4, f"{SGP}(model={NAMES[1]!r}, prompt={PROMPT!r}, model_parameters={parameters!r})")["value"]
    answer = own(**{"prompt": PROMPT, "max_tokens": 24, "temperature": 0, **expected})
    assert value["completion"]["text"] == answer["choices"][0]["text"]
    assert value["completion"]["finish_reason"] == answer["choices"][0]["finish_reason"]
    assert value["token_usage"]["completion"] == answer["usage"]["completion_tokens"]


def test_a_client_without_an_account_is_given_one(play: Play) -> None:
    outcome = play(
        V2,
        f"(lambda client: client.completions().create(model={NAMES[0]!r}, prompt={PROMPT!r},"
        " account_id=client.account_id, model_parameters=ModelParameters(max_tokens=3)))(EGPClient())",
    )
    assert outcome["value"]["completion"]["text"] == " One showed the"


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGE = {"image_url": f"data:image/png;base64,{PIXEL}"}


@pytest.mark.parametrize(
    ("client", "call", "error"),
    [
        (
            V2,
            f"{EGP}.create(model={NAMES[0]!r}, prompt='What is it?', account_id=None,"
            f" images=[ImageCompletionRequests(**{IMAGE!r})])",
            "scale_egp.exceptions.EGPException",
        ),
        (V4, f"{SGP}(model={NAMES[0]!r}, prompt='What is it?', images=[{IMAGE!r}])", "scale_gp.BadRequestError"),
        (
            V4,
            f"{SGP}(model={NAMES[0]!r}, prompt='What is it?', images=[{IMAGE!r}], stream=True)",
            "scale_gp.BadRequestError",
        ),
    ],
    ids=["v2", "v4", "v4 stream"],
)
def test_a_model_of_text_says_that_it_takes_no_image(client: object, call: str, error: str, play: Play) -> None:
    outcome = play(client, call)  # type: ignore[arg-type]
    assert (outcome["kind"], outcome["type"]) == ("raised", error), outcome
    assert re.search("multimodal|image", outcome["message"])


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_v5_takes_a_vendor_in_front_of_the_model(stream: bool, play: Play, own: Own) -> None:
    given = f"model='vllm/{NAMES[2]}', max_tokens=24, temperature=0"
    client, last = 'SGPClient(account_id="a")', f", {V5_USAGE})" if stream else ")"
    outcome = play(V5, f"{client}.completions.create({given}, prompt={PROMPT!r}{last}")
    text, *counts = V5.read("stream" if stream else "sync", outcome)
    expected = own(prompt=PROMPT, max_tokens=24, temperature=0)
    assert text == expected["choices"][0]["text"]
    assert counts == [expected["usage"]["prompt_tokens"], 24]


V5_USAGE = 'stream=True, stream_options={"include_usage": True}'


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_v5_has_chats(stream: bool, play: Play, own: Own) -> None:
    """The test model's template is the message itself, so that a chat is the completion of its words."""
    chat = f"model={NAMES[0]!r}, messages=[dict(role='user', content={PROMPT!r})], max_tokens=24, temperature=0"
    outcome = play(V5, f"SGPClient(account_id='a').chat.completions.create({chat}{', stream=True' if stream else ''})")
    if stream:
        text = "".join(item["choices"][0]["delta"]["content"] or "" for item in outcome["items"])
    else:
        text = outcome["value"]["choices"][0]["message"]["content"]
    assert text == own(prompt=PROMPT, max_tokens=24, temperature=0)["choices"][0]["text"]


def test_models_are_the_served_names(play: Play) -> None:
    """A list that never ends would hang here: the client of v4 asks for pages until one is empty."""
    listed = {
        "v2": play(V2, "EGPClient(account_id='a').models().list()"),
        "v4": play(V4, "list(SGPClient().models.list())"),
        "v5": play(V5, "list(SGPClient(account_id='a').models.list())"),
    }
    for outcome in listed.values():
        assert [model["name"] for model in outcome["value"]] == list(NAMES)
    assert play(V2, f"EGPClient(account_id='a').models().get({NAMES[1]!r})")["value"]["id"] == NAMES[1]
    missing = play(V2, "EGPClient(account_id='a').models().get('unknown')")
    assert missing["type"] == "scale_egp.exceptions.ItemDoesNotExist"
