"""Aleph Alpha's completion: what is asked of the engine for the many values of a request."""

from __future__ import annotations

import re

from berth_apis import aleph_alpha_prompt as prompts
from berth_apis import engine
from berth_apis.aleph_alpha_answer import Events, Wanted, answer_of
from berth_apis.fields import EMULATES, IGNORES, PASSES, REFUSES, TRANSLATES, Parameter, read
from berth_apis.http import Object, Operation, Request, Serving, answer, dump, refused

MOST_CANDIDATES = 128
NO_STEERING = (
    "Sadly the model you chose does not provide that capability: This model does not support steering concepts."
    " Leave steering_concepts out."
)

PARAMETERS = (
    Parameter("model", "a string", PASSES, "a served name", required=True),
    Parameter("prompt", "a string or a list", TRANSLATES, "see `prompt[]`; an empty one begins a text", required=True),
    Parameter("maximum_tokens", "an integer", TRANSLATES, "`max_tokens`; missing: to the end of the context", low=0),
    Parameter(
        "minimum_tokens", "an integer", TRANSLATES, "`min_tokens`; no stop sequence ends it before either", low=0
    ),
    Parameter("temperature", "a number", PASSES, "0 is greedy; with `top_k` or `top_p` alone it is 1", low=0, high=2),
    Parameter("top_k", "an integer", PASSES, "0 is off, whatever the model's own default", low=0, high=2**31 - 1),
    Parameter("top_p", "a number", TRANSLATES, "0 is off: 1, whatever the model's own default", low=0, high=1),
    Parameter("presence_penalty", "a number", PASSES, "additive, of the completion's tokens", low=-2, high=2),
    Parameter("frequency_penalty", "a number", PASSES, "additive, of the completion's tokens", low=-2, high=2),
    Parameter("repetition_penalties_include_prompt", "true or false", REFUSES, "400 unless false"),
    Parameter("repetition_penalties_include_completion", "true or false", REFUSES, "400 unless true"),
    Parameter("use_multiplicative_presence_penalty", "true or false", REFUSES, "400 unless false"),
    Parameter("use_multiplicative_frequency_penalty", "true or false", REFUSES, "400 unless false"),
    Parameter("use_multiplicative_sequence_penalty", "true or false", REFUSES, "400 unless false"),
    Parameter("sequence_penalty", "a number", REFUSES, "400 unless 0"),
    Parameter("sequence_penalty_min_length", "an integer", REFUSES, "400 unless 2"),
    Parameter("penalty_bias", "a string", REFUSES, "400 unless empty"),
    Parameter("penalty_exceptions", "a list of strings", REFUSES, "400 unless empty"),
    Parameter(
        "penalty_exceptions_include_stop_sequences",
        "true or false",
        IGNORES,
        "penalties have no exceptions, these neither",
    ),
    Parameter("n", "an integer", TRANSLATES, "greedy: one completion, told n times", low=1, high=MOST_CANDIDATES),
    Parameter(
        "best_of",
        "an integer",
        EMULATES,
        "so many candidates; those of the highest mean log probability are told; not in a stream",
        low=1,
        high=MOST_CANDIDATES,
    ),
    Parameter("logit_bias", "an object", PASSES, "token id to −100 … 100"),
    Parameter("log_probs", "an integer", TRANSLATES, "`logprobs`; of the distribution before any sampling", low=0),
    Parameter("stop_sequences", "a list of strings", TRANSLATES, "`stop`, more than four too"),
    Parameter("tokens", "true or false", TRANSLATES, "`completion_tokens` in the answer"),
    Parameter("raw_completion", "true or false", TRANSLATES, "`raw_completion` in the answer"),
    Parameter("echo", "true or false", PASSES, "not with images"),
    Parameter("disable_optimizations", "true or false", IGNORES, "there are none"),
    Parameter(
        "completion_bias_inclusion",
        "a list of strings",
        TRANSLATES,
        "`structured_outputs.choice`: the completion is one of them, and ends after it",
    ),
    Parameter("completion_bias_inclusion_first_token_only", "true or false", REFUSES, "400 unless false"),
    Parameter("completion_bias_exclusion", "a list of strings", TRANSLATES, "`bad_words`"),
    Parameter("completion_bias_exclusion_first_token_only", "true or false", REFUSES, "400 unless false"),
    *prompts.ATTENTION,
    Parameter("steering_concepts", "a list of strings", REFUSES, "400 unless empty"),
    Parameter("stream", "true or false", TRANSLATES, "the answer as events"),
    Parameter("nice", "true or false", IGNORES, "in the query; requests are served as they come"),
    Parameter("hosting", "a string", IGNORES, "there is one place"),
    Parameter("tags", "a list", IGNORES, "the vendor's own"),
)

# What has no equivalent is refused unless it says what is the case anyway.
_ONLY: Object = {
    "repetition_penalties_include_prompt": False,
    "repetition_penalties_include_completion": True,
    "use_multiplicative_presence_penalty": False,
    "use_multiplicative_frequency_penalty": False,
    "use_multiplicative_sequence_penalty": False,
    "sequence_penalty": 0,
    "sequence_penalty_min_length": 2,
    "penalty_bias": "",
    "penalty_exceptions": [],
    "completion_bias_inclusion_first_token_only": False,
    "completion_bias_exclusion_first_token_only": False,
    "control_log_additive": True,
}

_PASSED = {
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "minimum_tokens": "min_tokens",
    "stop_sequences": "stop",
    "logit_bias": "logit_bias",
    "completion_bias_exclusion": "bad_words",
}


def complete(request: Request, serving: Serving) -> Operation:
    """POST complete."""
    values = read(PARAMETERS, request.object())
    refuse_unavailable(values)
    context_tokens = serving.context_tokens(values["model"])
    sampling = _sampling(values)
    wanted = _wanted(values, serving, greedy=sampling["temperature"] < engine.GREEDY_BELOW)
    items = prompts.items_of(values["prompt"])
    body: Object = {"model": values["model"], **sampling, **_translated(values)}
    if prompts.has_image(items):
        if values.get("echo"):
            raise refused("echo: a prompt with images cannot be echoed. Leave echo out.")
        path = engine.CHAT
        body["messages"] = prompts.messages(items)
        if "maximum_tokens" in values:
            body["max_tokens"] = values["maximum_tokens"] or 1
        if wanted.log_probs is not None:
            body |= {"logprobs": True, "top_logprobs": wanted.log_probs}
    else:
        path = engine.COMPLETIONS
        body["prompt"] = yield from prompts.for_engine(items, values["model"], context_tokens)
        body["max_tokens"] = values.get("maximum_tokens")
        if body["max_tokens"] is None:
            body["max_tokens"] = yield from engine.room(body["prompt"], values["model"], context_tokens)
        body["echo"] = wanted.echo or wanted.nothing  # of no tokens the engine can only tell the prompt
        if wanted.log_probs is not None:
            body["logprobs"] = wanted.log_probs
    if wanted.asked > 1:
        body["n"] = wanted.asked
    if wanted.special:
        body["skip_special_tokens"] = False
    if values.get("stream"):
        return engine.streamed(path, body, Events(wanted))
    found = yield from engine.ask(path, body)
    return answer(answer_of(found, wanted))


def refuse_unavailable(values: Object) -> None:
    """Raises Refused for a value that asks for what the engine cannot do."""
    for name, value in values.items():
        if name in _ONLY and value != _ONLY[name]:
            raise refused(
                f"{name}: this server has no equivalent of it. Leave it out, or send {dump(_ONLY[name]).decode()}."
            )
    if "contextual_control_threshold" in values:
        raise refused(f"contextual_control_threshold: {prompts.NO_CONTROL}")
    if values.get("steering_concepts"):
        raise refused(NO_STEERING, code="MISSING_CAPABILITY")


def _sampling(values: Object) -> Object:
    """All that the model's own defaults would be taken for otherwise."""
    temperature, top_k, top_p = values.get("temperature", 0), values.get("top_k", 0), values.get("top_p", 0)
    # The vendor: each of the three alone brings randomness, and temperature is always sent.
    if temperature == 0 and (top_k > 1 or 0 < top_p < 1):
        temperature = 1
    return {**engine.NEUTRAL, "temperature": temperature, "top_k": top_k, "top_p": top_p or 1}


def _translated(values: Object) -> Object:
    body = {to: values[name] for name, to in _PASSED.items() if values.get(name)}
    for token, bias in body.get("logit_bias", {}).items():
        if not re.fullmatch(r"[0-9]{1,9}", token) or type(bias) not in (int, float) or not -100 <= bias <= 100:
            raise refused("logit_bias must map token ids to numbers between -100 and 100.")
    if values.get("completion_bias_inclusion"):
        body["structured_outputs"] = {"choice": values["completion_bias_inclusion"]}
    return body


def _wanted(values: Object, serving: Serving, greedy: bool) -> Wanted:
    n, best_of = values.get("n", 1), values.get("best_of")
    if best_of is not None and best_of < n:
        raise refused(f"best_of must be at least n, which is {n}, not {best_of}.")
    if best_of is not None and values.get("stream"):
        raise refused("best_of: the best of several completions cannot be streamed. Leave best_of or stream out.")
    candidates = best_of or n
    no_tokens, echo = values.get("maximum_tokens") == 0, values.get("echo", False)
    nothing = no_tokens and not echo
    tokens, log_probs = values.get("tokens", False), values.get("log_probs")
    raw = values.get("raw_completion", False) or tokens or log_probs is not None
    same = greedy or no_tokens
    if nothing:
        log_probs = None
    elif log_probs is None and (raw or (candidates > n and not same)):
        log_probs = 0
    return Wanted(
        n=n,
        candidates=candidates,
        asked=1 if same else candidates,
        log_probs=log_probs,
        tell_raw=raw,
        tell_tokens=tokens,
        tell_log_probs="log_probs" in values,
        echo=echo,
        nothing=nothing,
        no_tokens=no_tokens,
        special=tuple(sorted(serving.special_tokens, key=len)) if raw else (),
    )
