"""What only Aleph Alpha has, with its client: the fields of a request, several answers, prompts of parts, tokens.

Inputs: calls with one field each. Outputs: what vLLM's own API gives for the same, as the vendor names and counts it.
"""

from __future__ import annotations

import ast
import json
from itertools import chain
from typing import Any

import pytest

from local.model import PAGE
from tests.contracts.apis.calls import CLIENTS
from tests.contracts.apis.conftest import NAMES, Own, Play

(CLIENT,) = (client for client in CLIENTS if client.package == "aleph-alpha-client")
HOST = 'os.environ["ALEPH_ALPHA_TOKEN"], os.environ["ALEPH_ALPHA_HOST"], total_retries=0'
PROMPT = PAGE[: PAGE.index(" One showed the hour")]
NEAR_THE_END = PAGE[: PAGE.index(" Those lenses threw it")][-500:]
REST = PAGE[PAGE.index(" Those lenses threw it") :]
TOKENS = 24


def call(stream: bool = False, prompt: str = f"Prompt.from_text({PROMPT!r})", **fields: Any) -> str:
    """prompt: an expression."""
    given = {"maximum_tokens": TOKENS, **fields}
    request = f"CompletionRequest(prompt={prompt}, **{given!r}), model={NAMES[2]!r}"
    if stream:
        return f"within(AsyncClient({HOST}), lambda client: client.complete_with_streaming({request}))"
    return f"Client({HOST}).complete({request})"


def completed(play: Play, expression: str) -> Any:
    outcome = play(CLIENT, expression)
    assert outcome["kind"] == "returned", outcome
    return outcome["value"]


def refused(play: Play, expression: str) -> Any:
    """The body of a 400."""
    outcome = play(CLIENT, expression)
    assert (outcome["kind"], outcome["type"]) == ("raised", "builtins.ValueError"), outcome
    status, body = ast.literal_eval(outcome["message"])
    assert status == 400
    return json.loads(body)


CASES = {
    "nothing": ({}, {}, "maximum_tokens"),
    "stop": ({"stop_sequences": ["brass"]}, {"stop": ["brass"]}, "stop_sequence_reached"),
    "many stops": ({"stop_sequences": ["q", "z", "x", "#", "brass"]}, {"stop": ["brass"]}, "stop_sequence_reached"),
    "top k 1": ({"temperature": 1.0, "top_k": 1}, {}, "maximum_tokens"),
    "top p": ({"temperature": 1.0, "top_p": 0.001}, {}, "maximum_tokens"),
    "presence": ({"presence_penalty": 2.0}, {"presence_penalty": 2.0}, "maximum_tokens"),
    "frequency": (
        {"frequency_penalty": 2.0, "maximum_tokens": 100},
        {"frequency_penalty": 2.0, "max_tokens": 100},
        "maximum_tokens",
    ),
    "logit bias": ({"logit_bias": {300: 100}}, {"logit_bias": {"300": 100}}, "maximum_tokens"),
    "inclusion": (
        {"completion_bias_inclusion": ["lamp", "tide"]},
        {"structured_outputs": {"choice": ["lamp", "tide"]}},
        "end_of_text",
    ),
    "exclusion": ({"completion_bias_exclusion": ["One"]}, {"bad_words": ["One"]}, "maximum_tokens"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("name", CASES)
def test_a_field_does_what_it_does_in_vllm(name: str, stream: bool, play: Play, own: Own) -> None:
    given, expected, reason = CASES[name]
    outcome = play(CLIENT, call(stream, **given))
    text, *counts = CLIENT.read("async stream" if stream else "sync", outcome)
    answer = own(**{"prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, **expected})
    assert text == answer["choices"][0]["text"]
    assert counts == [answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]]
    told = outcome["items"][-2] if stream else outcome["value"]["completions"][0]
    assert told["finish_reason"] == reason
    if name in ("logit bias", "exclusion"):
        assert text != own(prompt=PROMPT, max_tokens=TOKENS, temperature=0)["choices"][0]["text"]


def test_without_a_maximum_a_completion_goes_on_to_the_end_of_the_text(play: Play) -> None:
    prompt = f"Prompt.from_text({NEAR_THE_END!r})"
    (found,) = completed(play, call(prompt=prompt, maximum_tokens=None, raw_completion=True))["completions"]
    assert (found["completion"], found["finish_reason"]) == (REST, "end_of_text")
    assert found["raw_completion"] == REST + "<|end|>"


def test_a_minimum_of_tokens_puts_the_end_off(play: Play, own: Own) -> None:
    prompt = PAGE[-500:]
    value = completed(play, call(prompt=f"Prompt.from_text({prompt!r})", minimum_tokens=5))
    expected = own(prompt=prompt, max_tokens=TOKENS, temperature=0, min_tokens=5)
    assert value["completions"][0]["completion"] == expected["choices"][0]["text"]
    assert value["num_tokens_generated"] == expected["usage"]["completion_tokens"] >= 5


@pytest.mark.parametrize("echo", [False, True], ids=["", "echo"])
def test_log_probabilities_and_tokens_are_vllms(echo: bool, play: Play, own: Own) -> None:
    value = completed(play, call(log_probs=3, tokens=True, echo=echo))
    (found,) = value["completions"]
    answer = own(prompt=PROMPT, max_tokens=TOKENS, temperature=0, logprobs=3, echo=echo)
    expected = answer["choices"][0]
    assert found["completion"] == expected["text"]
    assert found["completion_tokens"] == expected["logprobs"]["tokens"]
    likely = [each or {} for each in expected["logprobs"]["top_logprobs"]]
    assert found["log_probs"] == [pytest.approx(each, abs=1e-4) for each in likely]
    assert value["num_tokens_generated"] == TOKENS


def test_log_probabilities_of_a_stream_are_the_same(play: Play) -> None:
    plain = completed(play, call(log_probs=3, tokens=True))["completions"][0]
    chunks = play(CLIENT, call(stream=True, log_probs=3, tokens=True))["items"][:-2]
    assert list(chain(*(chunk["completion_tokens"] for chunk in chunks))) == plain["completion_tokens"]
    found = list(chain(*(chunk["log_probs"] for chunk in chunks)))
    assert found == [pytest.approx(each, abs=1e-4) for each in plain["log_probs"]]


def test_an_echo_of_nothing_tells_the_prompt(play: Play, own: Own) -> None:
    value = completed(play, call(maximum_tokens=0, echo=True, log_probs=0, tokens=True))
    expected = own(prompt=PROMPT, max_tokens=0, temperature=0, echo=True, logprobs=0)
    (found,) = value["completions"]
    assert found["completion"] == PROMPT == expected["choices"][0]["text"]
    assert found["log_probs"][0] == {}
    assert len(found["log_probs"]) == value["num_tokens_prompt_total"] == expected["usage"]["prompt_tokens"]
    assert value["num_tokens_generated"] == 0


def test_no_tokens_at_all(play: Play, own: Own) -> None:
    value = completed(play, call(maximum_tokens=0))
    prompt_tokens = own(prompt=PROMPT, max_tokens=1, temperature=0)["usage"]["prompt_tokens"]
    assert (value["num_tokens_prompt_total"], value["num_tokens_generated"]) == (prompt_tokens, 0)
    assert [found["completion"] for found in value["completions"]] == [""]


@pytest.mark.parametrize(
    ("fields", "told", "counted"),
    [
        ({"n": 3}, 3, 3),
        ({"best_of": 2}, 1, 2),
        ({"n": 2, "best_of": 3}, 2, 3),
        ({"n": 2, "temperature": 0.3}, 2, 2),
        ({"n": 2, "best_of": 4, "temperature": 0.3}, 2, 4),
    ],
    ids=str,
)
def test_several_answers_are_counted_all(fields: Any, told: int, counted: int, play: Play, own: Own) -> None:
    value = completed(play, call(**fields))
    usage = own(prompt=PROMPT, max_tokens=TOKENS, temperature=0)["usage"]
    assert len(value["completions"]) == told
    assert all(PAGE.startswith(PROMPT + found["completion"]) for found in value["completions"])
    assert value["num_tokens_prompt_total"] == counted * usage["prompt_tokens"]
    assert value["num_tokens_generated"] == counted * TOKENS


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_several_answers_stream_each_to_its_summary(temperature: float, play: Play, own: Own) -> None:
    *items, total = play(CLIENT, call(stream=True, n=2, temperature=temperature))["items"]
    for index in (0, 1):
        *chunks, summary = [item for item in items if item["index"] == index]
        assert summary["__class__"] == "StreamSummary"
        assert PAGE.startswith(PROMPT + "".join(chunk["completion"] for chunk in chunks))
    usage = own(prompt=PROMPT, max_tokens=TOKENS, temperature=0)["usage"]
    assert total["num_tokens_prompt_total"] == 2 * usage["prompt_tokens"]
    assert total["num_tokens_generated"] == 2 * TOKENS


def ids_of(play: Play, text: str) -> list[int]:
    request = f"TokenizationRequest({text!r}, tokens=True, token_ids=True)"
    found: list[int] = completed(play, f"Client({HOST}).tokenize({request}, model={NAMES[2]!r})")["token_ids"]
    return found


@pytest.mark.parametrize("kind", ["ids", "text and ids", "two texts", "bare values"])
def test_a_prompt_of_parts_is_their_tokens(kind: str, play: Play, own: Own) -> None:
    cut = PROMPT.index(" kept")
    first, second = PROMPT[:cut], PROMPT[cut:]
    # Each text is tokenized alone; the test model's tokenizer puts a blank in front, so the second has none.
    prompt = {
        "ids": f"Prompt.from_tokens({ids_of(play, PROMPT)})",
        "text and ids": f"Prompt([Text.from_text({first!r}), Tokens.from_token_ids({ids_of(play, second[1:])})])",
        "two texts": f"Prompt([Text.from_text({first!r}), Text.from_text({second[1:]!r})])",
        "bare values": f"Prompt([{first!r}, {ids_of(play, second[1:])}])",
    }[kind]
    text, *counts = CLIENT.read("sync", play(CLIENT, call(prompt=prompt)))
    expected = own(prompt=PROMPT, max_tokens=TOKENS, temperature=0)
    assert text == expected["choices"][0]["text"]
    assert counts == [expected["usage"]["prompt_tokens"], TOKENS]


def test_an_empty_prompt_needs_a_token_for_the_beginning(play: Play) -> None:
    """The test model has none. What is asked of one that has is in the unit tests."""
    assert "beginning of a text" in refused(play, call(prompt="Prompt.from_text('')"))["error"]


UNAVAILABLE: dict[str, Any] = {
    "repetition_penalties_include_prompt": True,
    "repetition_penalties_include_completion": False,
    "use_multiplicative_presence_penalty": True,
    "use_multiplicative_frequency_penalty": True,
    "use_multiplicative_sequence_penalty": True,
    "sequence_penalty": 0.5,
    "sequence_penalty_min_length": 3,
    "penalty_bias": "the",
    "penalty_exceptions": ["the"],
    "completion_bias_inclusion_first_token_only": True,
    "completion_bias_exclusion_first_token_only": True,
    "contextual_control_threshold": 0.5,
    "control_log_additive": False,
    "steering_concepts": ["_sc-1"],
}


@pytest.mark.parametrize("name", UNAVAILABLE)
def test_what_is_not_available_is_never_dropped_in_silence(name: str, play: Play) -> None:
    error = refused(play, call(**{name: UNAVAILABLE[name]}))
    assert name in error["error"]
    assert error["code"] == ("MISSING_CAPABILITY" if name == "steering_concepts" else "TASK_VALIDATION")


def test_controls_and_the_best_of_a_stream_are_not_available_either(play: Play) -> None:
    control = "TextControl(0, 4, 0.5, ControlTokenOverlap.Complete)"
    assert "ttention control" in refused(play, call(prompt=f"Prompt([Text('The sea', [{control}])])"))["error"]
    assert "best_of" in refused(play, call(stream=True, best_of=2))["error"]


def test_tokens_and_texts_there_and_back(play: Play) -> None:
    request = "TokenizationRequest('The harbour', tokens=True, token_ids=True)"
    found = completed(play, f"Client({HOST}).tokenize({request}, model={NAMES[2]!r})")
    assert found["tokens"][0].startswith("Ġ")
    assert len(found["tokens"]) == len(found["token_ids"])
    back = f"Client({HOST}).detokenize(DetokenizationRequest({found['token_ids']}), model={NAMES[2]!r})"
    assert completed(play, back)["result"].strip() == "The harbour"
    tokenizer = f"Client({HOST}).tokenizer({NAMES[2]!r}).encode('The harbour').ids"
    assert completed(play, tokenizer) == found["token_ids"]


def test_the_version_and_the_models(play: Play) -> None:
    assert play(CLIENT, f"Client({HOST}).validate_version()") == {"kind": "returned", "value": None}
    models = completed(play, f"Client({HOST}).models()")
    assert [model["name"] for model in models] == list(NAMES)
    assert {model["max_context_size"] for model in models} == {2048}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_chat_is_whole(stream: bool, play: Play, own: Own) -> None:
    """Of an event with a finish reason the client reads no text: vLLM's last one has both."""
    message = f"messages=[Message(role=Role.User, content={PROMPT!r})]"
    chat = f"ChatRequest(model={NAMES[2]!r}, {message}, maximum_tokens={TOKENS}, temperature=0.0)"
    if stream:
        expression = f"within(AsyncClient({HOST}), lambda c: c.chat_with_streaming({chat}, model={NAMES[2]!r}))"
        items = play(CLIENT, expression)["items"]
        text = "".join(item["content"] or "" for item in items if isinstance(item, dict) and "content" in item)
    else:
        text = completed(play, f"Client({HOST}).chat({chat}, model={NAMES[2]!r})")["message"]["content"]
    assert text == own(prompt=PROMPT, max_tokens=TOKENS, temperature=0)["choices"][0]["text"]


def test_an_evaluation_sums_vllms_log_probabilities(play: Play, own: Own) -> None:
    expected = " One showed the hour"
    request = f"EvaluationRequest(prompt=Prompt.from_text({PROMPT!r}), completion_expected={expected.strip()!r})"
    value = completed(play, f"Client({HOST}).evaluate({request}, model={NAMES[2]!r})")
    logprobs = own(prompt=PROMPT, max_tokens=4, temperature=0, logprobs=0)["choices"][0]["logprobs"]
    assert "".join(logprobs["tokens"]) == expected
    result = value["result"]
    assert result["log_probability"] == pytest.approx(sum(logprobs["token_logprobs"]), abs=1e-3)
    assert (result["correct_greedy"], result["token_count"]) == (True, 4)


def test_steering_concepts_are_not_made(play: Play) -> None:
    example = "SteeringPairedExample(negative='a', positive='b')"
    request = f"Client({HOST}).create_steering_concept(SteeringConceptCreationRequest([{example}]))"
    assert "steering" in refused(play, request)["error"]
