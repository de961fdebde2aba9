"""What only Scale LLM Engine has, with its newest client: every parameter of a completion, log probabilities, models.

Inputs: calls with one parameter each. Outputs: what vLLM's own API gives for the same, under the names of this one.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from local.model import PAGE
from tests.contracts.apis.calls import CLIENTS
from tests.contracts.apis.conftest import NAMES, Own, Play

CLIENT = next(client for client in CLIENTS if client.version == "0.0.0b45")
OLDEST_WITH_LOG_PROBS = next(client for client in CLIENTS if client.version == "0.0.0b12")

PROMPT = PAGE[: PAGE.index(" One showed the hour")]
# Where the model must say what it does not know, a penalty changes what it says.
LETTERS = "[a-z ]{60}"
TOKENS = 40
LAST_WORDS = PAGE[PAGE.index("you may notice a slow shadow") :]
END = " returning home one step at a time.\n"
STOPS = ["never", "nowhere", "none", "nothing", "brass", "noon"]
PERSON = {
    "type": "object",
    "properties": {"name": {"enum": ["Ilse", "Anselm"]}, "keeper": {"type": "boolean"}},
    "required": ["name", "keeper"],
    "additionalProperties": False,
}


def create(tokens: int = TOKENS, prompt: str = PROMPT, **parameters: Any) -> str:
    given = {"model": NAMES[0], "prompt": prompt, "max_new_tokens": tokens, "temperature": 0.0, "timeout": 300}
    return f"Completion.create(**{given | parameters!r})"


# Parameters of the client, the same for vLLM, and a pattern that the text must match whole.
CASES = {
    "stop": ({"stop_sequences": ["brass"]}, {"stop": ["brass"]}, " One showed the hour on land, "),
    "more stops than vLLM takes by default": ({"stop_sequences": STOPS}, {"stop": ["brass"]}, ".* on land, "),
    "stop included": (
        {"stop_sequences": ["brass"], "include_stop_str_in_output": True},
        {"stop": ["brass"], "include_stop_str_in_output": True},
        " One showed the hour on land, brass",
    ),
    "presence penalty": (
        {"presence_penalty": 2.0, "guided_regex": LETTERS},
        {"presence_penalty": 2.0, "structured_outputs": {"regex": LETTERS}},
        LETTERS,
    ),
    "frequency penalty": (
        {"frequency_penalty": 2.0, "guided_regex": LETTERS},
        {"frequency_penalty": 2.0, "structured_outputs": {"regex": LETTERS}},
        LETTERS,
    ),
    "top k": ({"temperature": 1.0, "top_k": 1}, {}, " One showed.*"),
    "top p": ({"temperature": 1.0, "top_p": 0.001}, {}, " One showed.*"),
    # Without the penalty the model fills the object with line breaks.
    "json": (
        {"guided_json": PERSON, "frequency_penalty": 2.0, "max_new_tokens": 120},
        {"structured_outputs": {"json": PERSON}, "frequency_penalty": 2.0, "max_tokens": 120},
        r"\{.*\}",
    ),
    "regex": ({"guided_regex": "[0-9]{4}"}, {"structured_outputs": {"regex": "[0-9]{4}"}}, "[0-9]{4}"),
    "choice": (
        {"guided_choice": ["lamp", "tide"]},
        {"structured_outputs": {"choice": ["lamp", "tide"]}},
        "lamp|tide",
    ),
    "grammar": (
        {"guided_grammar": 'root ::= "berth " ("eight" | "nine")'},
        {"structured_outputs": {"grammar": 'root ::= "berth " ("eight" | "nine")'}},
        "berth (eight|nine)",
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("name", CASES)
def test_a_parameter_does_what_it_does_in_vllm(name: str, stream: bool, play: Play, own: Own) -> None:
    given, expected, pattern = CASES[name]
    outcome = play(CLIENT, create(**given, **({"stream": True} if stream else {})))
    text, _, tokens = CLIENT.read("stream" if stream else "sync", outcome)
    answer = own(**{"prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, **expected})
    assert (text, tokens) == (answer["choices"][0]["text"], answer["usage"]["completion_tokens"])
    assert re.fullmatch(pattern, text, re.DOTALL), text
    if name == "json":
        assert json.loads(text)["name"] in ("Ilse", "Anselm")
    elif "penalty" in name:
        without = own(prompt=PROMPT, max_tokens=TOKENS, temperature=0, structured_outputs={"regex": LETTERS})
        assert text != without["choices"][0]["text"]


@pytest.mark.parametrize("hidden", [True, False])
def test_special_tokens_are_hidden_unless_asked_for(hidden: bool, play: Play) -> None:
    prompt = LAST_WORDS.removesuffix(END)
    outcome = play(CLIENT, create(40, prompt, skip_special_tokens=hidden, include_stop_str_in_output=True))
    assert CLIENT.read("sync", outcome)[0].endswith(END if hidden else END + "<|end|>")


@pytest.mark.parametrize("client", [OLDEST_WITH_LOG_PROBS, CLIENT], ids=lambda client: client.version)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_log_probabilities_are_vllms(client: Any, stream: bool, play: Play, own: Own) -> None:
    outcome = play(client, create(return_token_log_probs=True, **({"stream": True} if stream else {})))
    text, _, count = client.read("stream" if stream else "sync", outcome)
    items = outcome.get("items", ())
    tokens = [item["output"]["token"] for item in items] or outcome["value"]["output"]["tokens"]
    logprobs = own(prompt=PROMPT, max_tokens=TOKENS, temperature=0, logprobs=0)["choices"][0]["logprobs"]
    assert [token["token"] for token in tokens] == logprobs["tokens"]
    assert [token["log_prob"] for token in tokens] == pytest.approx(logprobs["token_logprobs"], abs=1e-4)
    assert "".join(token["token"] for token in tokens) == text
    assert len(tokens) == count


BAD = {
    "top_k 0": {"top_k": 0, "temperature": 1.0},
    "top_k when greedy": {"top_k": 5},
    "top_p when greedy": {"top_p": 0.5},
    "no token at all": {"tokens": 0},
    "regex": {"guided_regex": "[0-9"},
    "grammar": {"guided_grammar": "root ::= ("},
    "empty prompt": {"prompt": ""},
    "an empty stop": {"stop_sequences": [""]},
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_a_bad_request(name: str, stream: bool, play: Play) -> None:
    """Also one that vLLM finds out after it has said 200 to a stream."""
    outcome = play(CLIENT, create(**BAD[name], **({"stream": True} if stream else {})))
    assert outcome["kind"] == "raised", outcome
    assert outcome["type"] == "llmengine.errors.BadRequestError", outcome
    assert outcome["message"]


def test_models_are_the_served_names(play: Play) -> None:
    listed = play(CLIENT, "Model.list()")["value"]["model_endpoints"]
    assert [model["name"] for model in listed] == list(NAMES)
    for name in NAMES:
        found = play(CLIENT, f"Model.get({name!r})")["value"]
        assert (found["name"], found["status"], found["inference_framework"]) == (name, "READY", "vllm")
    assert play(CLIENT, "Model.get('nope')")["type"] == "llmengine.errors.NotFoundError"


UNSUPPORTED = {
    "batch": "Completion.batch_create('s3://b/o', CreateBatchCompletionsModelConfig(model='llama-7b'),"
    " CreateBatchCompletionsRequestContent(prompts=['a'], max_new_tokens=4, temperature=0.0))",
    "batch v2": "Completion.batch_create('s3://b/o', CreateBatchCompletionsModelConfig(model='llama-7b'),"
    " [FilteredCompletionV2Request(prompt='a')], use_v2=True)",
    "get batch": "Completion.get_batch_completion('job-1')",
    "cancel batch": "Completion.cancel_batch_completion('job-1')",
    "delete": "Model.delete('llama-7b')",
    "fine-tunes": "FineTune.list()",
    "files": "File.list()",
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_served_says_so(name: str, play: Play) -> None:
    outcome = play(CLIENT, UNSUPPORTED[name])
    assert (outcome["kind"], outcome["type"]) == ("raised", "llmengine.errors.BadRequestError"), outcome
    assert "not supported" in outcome["message"]
