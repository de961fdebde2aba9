"""Aleph Alpha's evaluation: how likely a model thinks a given completion."""

from __future__ import annotations

from typing import Any

from berth_apis import aleph_alpha_prompt as prompts
from berth_apis import engine
from berth_apis.aleph_alpha_complete import refuse_unavailable
from berth_apis.fields import IGNORES, PASSES, TRANSLATES, Field, Parameter, read
from berth_apis.http import Call, Object, Operation, Request, Serving, answer, refused

PARAMETERS = (
    Parameter("model", "a string", PASSES, "a served name", required=True),
    Parameter("prompt", "a string or a list", TRANSLATES, "as that of a completion, without images", required=True),
    Parameter("completion_expected", "a string", TRANSLATES, "tokenized, and put behind the prompt", required=True),
    *prompts.ATTENTION,
    Parameter("hosting", "a string", IGNORES, "there is one place"),
    Parameter("tags", "a list", IGNORES, "the vendor's own"),
)

ANSWER = (
    Field("model_version", "the engine's `model`: the first served name"),
    Field("result.log_probability", "the sum over the tokens of `completion_expected`"),
    Field("result.log_perplexity", "the same, negated"),
    Field("result.log_perplexity_per_token", "divided by `token_count`"),
    Field("result.log_perplexity_per_character", "divided by `character_count`"),
    Field("result.correct_greedy", "whether each of its tokens is the most likely one"),
    Field("result.token_count", "of `completion_expected`"),
    Field("result.character_count", "of `completion_expected`"),
    Field("result.completion", "the most likely token at each of its places, as text"),
    Field("num_tokens_prompt_total", "of the prompt and `completion_expected`"),
)


def evaluate(request: Request, serving: Serving) -> Operation:
    """POST evaluate."""
    values = read(PARAMETERS, request.object())
    refuse_unavailable(values)
    model, expected = values["model"], values["completion_expected"]
    context_tokens = serving.context_tokens(model)
    items = prompts.items_of(values["prompt"])
    if prompts.has_image(items):
        raise refused("prompt: an evaluation takes no images.")
    before = yield from prompts.token_ids(items, model, context_tokens)
    after = yield from engine.tokenized(expected, model, special=False)
    if not after:
        raise refused("completion_expected must not be empty.")
    # Nothing is generated: what is evaluated is echoed.
    body: Object = {"model": model, "prompt": before + after, "max_tokens": 0, "echo": True, "logprobs": 1}
    found = yield from engine.ask(engine.COMPLETIONS, body)
    places = found["choices"][0]["prompt_logprobs"][len(before) :]
    log_probability = sum(place[str(token)]["logprob"] for token, place in zip(after, places, strict=True))
    best = [max(place, key=lambda token: float(place[token]["logprob"])) for place in places]
    reply = yield Call("POST", "/detokenize", {"model": model, "tokens": [int(token) for token in best]})
    completion: Any = engine.decoded(reply)["prompt"]
    result = {
        "log_probability": log_probability,
        "log_perplexity": -log_probability,
        "log_perplexity_per_token": -log_probability / len(after),
        "log_perplexity_per_character": -log_probability / len(expected),
        "correct_greedy": all(place[str(token)]["rank"] == 1 for token, place in zip(after, places, strict=True)),
        "token_count": len(after),
        "character_count": len(expected),
        "completion": completion,
    }
    total = len(before) + len(after)
    return answer({"model_version": found["model"], "result": result, "num_tokens_prompt_total": total})
