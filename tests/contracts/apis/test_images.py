"""Images on a model that sees, in every API that takes them.

Inputs: the same texts and images through each client library and through vLLM's own chat. Outputs: what vLLM says to
them there, from the count of the tokens to the log probabilities, and errors that name what is wrong with an image.
"""

from __future__ import annotations

import ast
import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contracts.apis.calls import CLIENTS, Client
from tests.contracts.apis.conftest import KEY, NAMES, Endpoint, Play, playing, started
from tests.contracts.apis.images import BLUE, RED, STRIPES, data_url

V2, V4, ALEPH_ALPHA, OPEN_AI = (
    next(client for client in CLIENTS if client.package == name)
    for name in ("scale-egp", "scale-gp", "aleph-alpha-client", "openai")
)
HOST = 'os.environ["ALEPH_ALPHA_TOKEN"], os.environ["ALEPH_ALPHA_HOST"], total_retries=0'
TOKENS = 8
Part = str | bytes
"""A text or an image's file."""


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """An endpoint as anybody gets it, but for its model."""
    weights = tmp_path_factory.mktemp("weights")
    script = Path(__file__).with_name("tiny_vision_model.py")
    subprocess.run([os.environ["BERTH_VLLM_PYTHON"], script, weights], check=True, capture_output=True)
    with started(tmp_path_factory.mktemp("seeing"), weights=weights) as launched:
        yield Endpoint(f"http://127.0.0.1:{launched.port}", KEY)


@pytest.fixture(scope="module")
def look(seeing: Endpoint) -> Iterator[Play]:
    with playing(seeing) as play:
        yield play


Chat = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def own(seeing: Endpoint) -> Iterator[Chat]:
    """vLLM's own chat of one message with these parts."""
    headers = {"Authorization": f"Bearer {seeing.key}"}
    with httpx.Client(base_url=seeing.url, headers=headers, timeout=300) as http:

        def ask(*parts: Part) -> dict[str, Any]:
            wanted = {"max_tokens": TOKENS, "temperature": 0, "logprobs": True, "top_logprobs": 2}
            body = {"model": NAMES[0], "messages": [{"role": "user", "content": content(parts)}], **wanted}
            response = http.post("/v1/chat/completions", json=body)
            assert response.status_code == 200, response.text
            found: dict[str, Any] = response.json()
            return found

        yield ask


def content(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": data_url(part)}}
        for part in parts
    ]


def egp(client: Client, stream: bool, prompt: str, urls: list[str]) -> str:
    given = f"model={NAMES[0]!r}, prompt={prompt!r}"
    if client is V2:
        images = ", ".join(f"ImageCompletionRequests(image_url={url!r})" for url in urls)
        given += f", account_id='a', images=[{images}]"
        given += f", model_parameters=ModelParameters(temperature=0, max_tokens={TOKENS})"
        return f"EGPClient(account_id='a').completions().{'stream' if stream else 'create'}({given})"
    given += f", images={[{'image_url': url} for url in urls]!r}"
    given += f", model_parameters={{'temperature': 0, 'max_tokens': {TOKENS}}}{', stream=True' if stream else ''}"
    return f"SGPClient(max_retries=0).completions.create({given})"


def aleph_alpha(stream: bool, parts: tuple[Part, ...], tokens: int = TOKENS) -> str:
    items = [
        f"Text.from_text({part!r})"
        if isinstance(part, str)
        else f"Image({base64.b64encode(part).decode()!r}, cropping=None, controls=[])"
        for part in parts
    ]
    request = (
        f"CompletionRequest(prompt=Prompt([{', '.join(items)}]), maximum_tokens={tokens}, log_probs=2, tokens=True)"
    )
    if stream:
        call = f"client.complete_with_streaming({request}, model={NAMES[0]!r})"
        return f"within(AsyncClient({HOST}), lambda client: {call})"
    return f"Client({HOST}).complete({request}, model={NAMES[0]!r})"


def test_what_is_said_hangs_on_what_is_seen_and_where(own: Chat) -> None:
    """Otherwise the tests below would compare what is all the same."""
    seen: list[tuple[Part, ...]] = [("the ships", RED), ("the ships", BLUE), ("the ships", STRIPES), ("the ships",)]
    told = [own(*parts)["choices"][0] for parts in [*seen, (RED, "the ships")]]
    assert len({json.dumps(choice["logprobs"]) for choice in told}) == len(told)
    assert len({choice["message"]["content"] for choice in told}) == len(told)
    assert own("the ships", RED)["choices"][0] == told[0]


SEEN: dict[str, tuple[bytes, ...]] = {
    "red": (RED,),
    "blue": (BLUE,),
    "two": (RED, BLUE),
    "two the other way": (BLUE, RED),
    "the same twice": (STRIPES, STRIPES),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("client", [V2, V4], ids=["v2", "v4"])
@pytest.mark.parametrize("name", SEEN)
def test_scales_images_follow_the_prompt(name: str, client: Client, stream: bool, look: Play, own: Chat) -> None:
    call = egp(client, stream, "the ships", [data_url(image) for image in SEEN[name]])
    text, *counts = client.read("stream" if stream else "sync", look(client, call))
    expected = own("the ships", *SEEN[name])
    assert text == expected["choices"][0]["message"]["content"]
    assert counts == [expected["usage"]["prompt_tokens"], expected["usage"]["completion_tokens"]]


MIXED: dict[str, tuple[Part, ...]] = {
    "image": (RED,),
    "before": ("the ships", RED),
    "behind": (RED, "the ships"),
    "between": ("the ", RED, "ships"),
    "many": ("the ", RED, "ships", BLUE, " the harbour"),
    "many the other way": ("the ", BLUE, "ships", RED, " the harbour"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("name", MIXED)
def test_aleph_alphas_items_stay_in_their_order(name: str, stream: bool, look: Play, own: Chat) -> None:
    outcome = look(ALEPH_ALPHA, aleph_alpha(stream, MIXED[name]))
    text, *counts = ALEPH_ALPHA.read("async stream" if stream else "sync", outcome)
    told = outcome["items"][:-2] if stream else outcome["value"]["completions"]
    answer = own(*MIXED[name])
    (expected,) = answer["choices"]
    assert text == expected["message"]["content"]
    assert counts == [answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]]
    content = expected["logprobs"]["content"]
    likely = [{top["token"]: top["logprob"] for top in [*token["top_logprobs"], token]} for token in content]
    assert list(chain(*(part["log_probs"] for part in told))) == [pytest.approx(each, abs=1e-5) for each in likely]
    assert list(chain(*(part["completion_tokens"] for part in told))) == [token["token"] for token in content]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_open_ais_client_sends_them_too(stream: bool, look: Play, own: Chat) -> None:
    messages = [{"role": "user", "content": content(MIXED["many"])}]
    given = f"model={NAMES[0]!r}, messages={messages!r}, max_tokens={TOKENS}, temperature=0, stream={stream}"
    outcome = look(OPEN_AI, f"OpenAI(max_retries=0).chat.completions.create({given})")
    if stream:
        text = "".join(item["choices"][0]["delta"]["content"] or "" for item in outcome["items"])
    else:
        text = outcome["value"]["choices"][0]["message"]["content"]
    assert text == own(*MIXED["many"])["choices"][0]["message"]["content"]


def test_no_tokens_are_counted_with_the_images_alone(look: Play, own: Chat) -> None:
    value = look(ALEPH_ALPHA, aleph_alpha(False, MIXED["between"], tokens=0))["value"]
    prompt_tokens = own(*MIXED["between"])["usage"]["prompt_tokens"]
    assert (value["num_tokens_prompt_total"], value["num_tokens_generated"]) == (prompt_tokens, 0)


def test_aleph_alpha_tells_which_model_sees(look: Play, play: Play) -> None:
    for played, sees in ((look, True), (play, False)):
        value = played(ALEPH_ALPHA, f"Client({HOST}).models()")["value"]
        assert [model["image_support"] for model in value] == [sees] * len(NAMES)


# What vLLM says of it, where no name of the API's own comes first.
BROKEN = {
    "no picture": (data_url(b"GIF89a"), "cannot identify image"),
    "half a picture": (data_url(RED[:50]), "truncated"),
    "no base64": ("data:image/png;base64,@@@@", "base64"),
    "not said to be base64": ("data:image/png,abc", "base64"),
    "no data": ("data:image/png;base64", "data URL"),
    "nothing": ("", "empty"),
    "another scheme": ("ftp://pictures.example/1.png", "URL"),
    "a file": ("file:///etc/passwd", "--allowed-local-media-path"),
    "any host": ("http://127.0.0.1:1/1.png", "allowed-media-domains in spec.server.args"),
    "any name": ("https://pictures.example/1.png", "allowed-media-domains in spec.server.args"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_image_that_cannot_be_had_is_the_clients_error(name: str, look: Play) -> None:
    url, why = BROKEN[name]
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    given = f"model={NAMES[0]!r}, messages={messages!r}, max_tokens=1"
    calls = [
        (V2, egp(V2, False, "the", [url]), "scale_egp.exceptions.EGPException"),
        (V2, egp(V2, True, "the", [url]), "builtins.ValueError"),
        (V4, egp(V4, False, "the", [url]), "scale_gp.BadRequestError"),
        (V4, egp(V4, True, "the", [url]), "scale_gp.BadRequestError"),
        (OPEN_AI, f"OpenAI(max_retries=0).chat.completions.create({given})", "openai.BadRequestError"),
    ]
    for client, call, error in calls:
        outcome = look(client, call)
        assert (outcome["kind"], outcome.get("type")) == ("raised", error), outcome
        assert why in outcome["message"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_aleph_alphas_client_gets_its_error_too(stream: bool, look: Play) -> None:
    for image, why in ((RED[:50], "truncated"), (b"GIF89a", "cannot identify image"), (b"nothing known", "PNG")):
        outcome = look(ALEPH_ALPHA, aleph_alpha(stream, ("the", image)))
        assert (outcome["kind"], outcome.get("type")) == ("raised", "builtins.ValueError"), outcome
        status, body = ast.literal_eval(outcome["message"])
        assert status == 400
        assert why in json.loads(body)["error"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_model_of_text_says_so(stream: bool, play: Play) -> None:
    """To the clients of Scale in test_scale_egp.py."""
    outcome = play(ALEPH_ALPHA, aleph_alpha(stream, ("the", RED)))
    assert (outcome["kind"], outcome.get("type")) == ("raised", "builtins.ValueError"), outcome
    assert "is not a multimodal model" in outcome["message"]
