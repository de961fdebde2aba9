"""Scale LLM Engine: the completion calls of the `llmengine` client, three generations on the same two paths.

What each generation demands of an answer differs; one answer with the keys of all serves all. The rules are those of
the open reference server; where a client's exception depends on the status, 400 is used for what its caller can mend.
"""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import unquote

from berth_apis import engine
from berth_apis.fields import EMULATES, IGNORES, PASSES, REFUSES, TRANSLATES, Field, Parameter, read
from berth_apis.http import (
    Answer,
    Failure,
    Object,
    Operation,
    Request,
    Routes,
    Serving,
    Streaming,
    answer,
    event,
    refused,
    retry_after,
)

NAME = "LLMEngine"

GUIDED = ("json", "regex", "choice", "grammar")

_BODY = (
    Parameter("prompt", "a string", PASSES, "`prompt`"),
    Parameter("prompts", "a list of strings", TRANSLATES, "`prompt`; the first client generation's name of it"),
    Parameter("max_new_tokens", "an integer", TRANSLATES, "`max_tokens`", required=True),
    Parameter("temperature", "a number", PASSES, "0 is greedy; the page's 0 … 1 is widened to 0 … 2", True, 0, 2),
    Parameter("stop_sequences", "a list of strings", TRANSLATES, "`stop`, more than four too"),
    Parameter("return_token_log_probs", "true or false", TRANSLATES, "`logprobs: 0`: the sampled token's"),
    Parameter("presence_penalty", "a number", PASSES, "", low=-2, high=2),
    Parameter("frequency_penalty", "a number", PASSES, "", low=-2, high=2),
    Parameter("top_k", "an integer", PASSES, "-1 is off; 0, or any with temperature 0, is refused", low=-1),
    Parameter("top_p", "a number", PASSES, "other than 1 with temperature 0 is refused", low=0, high=1),
    Parameter("include_stop_str_in_output", "true or false", PASSES, ""),
    Parameter("guided_json", "an object or a string", TRANSLATES, "`structured_outputs.json`; one `guided_*` at most"),
    Parameter("guided_regex", "a string", TRANSLATES, "`structured_outputs.regex`"),
    Parameter("guided_choice", "a list of strings", TRANSLATES, "`structured_outputs.choice`"),
    Parameter("guided_grammar", "a string", TRANSLATES, "`structured_outputs.grammar`"),
    Parameter("skip_special_tokens", "true or false", PASSES, ""),
    Parameter("stream", "true or false", IGNORES, "the path decides"),
    Parameter("model", "a string", IGNORES, "the query decides"),
    Parameter("model_endpoint_name", "a string", TRANSLATES, "`model`; in the query"),
)

PARAMETERS = {"": _BODY}

ANSWER = (
    Field("request_id", "the engine's id of the completion"),
    Field("output.text", "the text"),
    Field("output.num_prompt_tokens", "from the engine's usage; in a stream on the last event only"),
    Field("output.num_completion_tokens", "from the engine's usage; in a stream the count so far"),
    Field("output.tokens[].token", "with `return_token_log_probs`; else null"),
    Field("output.tokens[].log_prob", "of the distribution before temperature and penalties"),
    Field("output.token", "in a stream: one token an event, with `return_token_log_probs`"),
    Field("output.finished", "in a stream: true on the last event"),
    Field("error.status_code", "in a stream: of a failure after it began"),
    Field("error.content.error", "what happened"),
    Field("error.content.timestamp", "when, in UTC"),
    Field("status", "`SUCCESS`, or `FAILURE` on an error event; for the first client generation"),
    Field("outputs[]", "one for each of `prompts`; for the first client generation"),
    Field("traceback", "the error's text, or null; for the first client generation"),
    Field("detail", "the text of every error that is not in a stream"),
)


def below(path: str) -> str | None:
    """The path below the prefix; at the root too, as the client drops a prefix without a trailing slash."""
    if path.startswith("/llm-engine/"):
        return path[len("/llm-engine") :]
    return path if path.startswith(("/v1/llm/", "/v2/batch-completions")) else None


def failure(failure: Failure, request: Request) -> Answer:
    """{"detail": text}, of which every generation of the client makes its exception."""
    return answer({"detail": failure.message}, failure.status, retry_after(failure))


def _sync(request: Request, serving: Serving) -> Operation:
    body, values = _body(request)
    found = yield from engine.ask(engine.COMPLETIONS, body)
    prompts = values.get("prompts") or [values.get("prompt")]
    logged = values.get("return_token_log_probs", False)
    usage = found["usage"]
    if len(prompts) == 1:
        counts = [(usage["prompt_tokens"], usage["completion_tokens"])]
    else:
        counts = [(None, len((choice.get("logprobs") or {}).get("tokens") or ())) for choice in found["choices"]]
    outputs = [
        {
            "text": choice["text"],
            "num_prompt_tokens": prompt_tokens,
            "num_completion_tokens": completion_tokens,
            "tokens": _tokens(choice) if logged else None,
        }
        for choice, (prompt_tokens, completion_tokens) in zip(found["choices"], counts, strict=True)
    ]
    return answer(
        {"request_id": found["id"], "output": outputs[0], "status": "SUCCESS", "outputs": outputs, "traceback": None}
    )


def _stream(request: Request, serving: Serving) -> Streaming:
    body, values = _body(request)
    if len(values.get("prompts", ())) > 1:
        raise refused("prompts: a stream has one prompt.")
    return engine.streamed(engine.COMPLETIONS, body, _Events(serving), counts=True)


def _body(request: Request) -> tuple[Object, Object]:
    """What the engine is asked, and the values that the client sent."""
    query = {"model_endpoint_name": request.query.get("model_endpoint_name")}
    values = read(_BODY, {**request.object(), **query})
    if "model_endpoint_name" not in values:
        raise refused("model_endpoint_name is missing in the query. It must name the model.")
    if ("prompt" in values) == ("prompts" in values):
        raise refused("prompt must be given, or prompts, not both." if "prompt" in values else "prompt is missing.")
    if values.get("prompts") == []:
        raise refused("prompts must hold at least one prompt.")
    body: Object = {
        "model": values["model_endpoint_name"],
        "prompt": values.get("prompt", values.get("prompts")),
        "max_tokens": values["max_new_tokens"],
        **{name: values[name] for name in _PASSED if name in values},
        **_sampling(values),
    }
    if "stop_sequences" in values:
        body["stop"] = values["stop_sequences"]
    # Of several prompts the engine counts the tokens together; their own are counted from these.
    if values.get("return_token_log_probs") or len(values.get("prompts", ())) > 1:
        body["logprobs"] = 0
    guided = [kind for kind in GUIDED if f"guided_{kind}" in values]
    if len(guided) > 1:
        raise refused(f"guided_{guided[0]} and guided_{guided[1]} exclude each other. Give one guided_ parameter.")
    if guided:
        body["structured_outputs"] = {guided[0]: values[f"guided_{guided[0]}"]}
    return body, values


_PASSED = ("presence_penalty", "frequency_penalty", "include_stop_str_in_output", "skip_special_tokens")


def _sampling(values: Object) -> Object:
    """temperature, top_k and top_p under the reference server's rules."""
    top_k, top_p = values.get("top_k", -1), values.get("top_p", 1)
    if top_k == 0:
        raise refused("top_k must be -1 (off) or at least 1, not 0.")
    if values["temperature"] == 0 and top_k != -1:
        raise refused("top_k has no effect with temperature 0, which is greedy. Leave it out, or raise temperature.")
    if values["temperature"] == 0 and top_p != 1:
        raise refused("top_p has no effect with temperature 0, which is greedy. Leave it out, or raise temperature.")
    return engine.NEUTRAL | {name: values[name] for name in ("temperature", "top_k", "top_p") if name in values}


def _tokens(choice: Object) -> list[Object]:
    logprobs = choice.get("logprobs") or {"tokens": [], "token_logprobs": []}
    return [
        {"token": token, "log_prob": log_prob if log_prob is not None else 0.0}
        for token, log_prob in zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True)
    ]


class _Events:
    """The stream. It ends without a `[DONE]`, on which the client would raise."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._id = ""

    def chunk(self, chunk: Object) -> bytes:
        self._id = chunk.get("id", self._id)
        if not chunk["choices"]:  # the usage alone, which the last event has told
            return b""
        choice, usage = chunk["choices"][0], chunk["usage"]
        finished = choice.get("finish_reason") is not None
        tokens: list[Any] = _tokens(choice) or [None]
        texts = [token["token"] for token in tokens if token]
        if not texts or "".join(texts) != choice["text"]:  # text is held back where a stop sequence may begin
            texts = [choice["text"], *[""] * (len(tokens) - 1)]
        before = usage["completion_tokens"] - len(tokens)
        events = [
            {
                "text": text,
                "finished": finished and number == len(tokens),
                "num_prompt_tokens": usage["prompt_tokens"] if finished and number == len(tokens) else None,
                "num_completion_tokens": before + number,
                "token": token,
            }
            for number, (token, text) in enumerate(zip(tokens, texts, strict=True), 1)
        ]
        return b"".join([self._event(event) for event in events])

    def end(self) -> bytes:
        return b""

    def failure(self, failure: Failure) -> bytes:
        return stream_failure(failure, self._serving.clock(), self._id)

    def _event(self, output: Object) -> bytes:
        told = {"request_id": self._id, "output": output, "error": None, "status": "SUCCESS", "traceback": None}
        return event(told)


def stream_failure(failure: Failure, now: float, request_id: str = "") -> bytes:
    """The event of a failure after the client was told 200. now: seconds since 1970."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    content = {"error": failure.message, "timestamp": stamp}
    error = {"status_code": failure.status, "content": content}
    told = {"request_id": request_id, "output": None, "error": error, "status": "FAILURE", "traceback": failure.message}
    return event(told)


def _models(request: Request, serving: Serving) -> Answer:
    return answer({"model_endpoints": [_model(model) for model in serving.models]})


def _one_model(request: Request, serving: Serving) -> Answer:
    name = unquote(request.path.removeprefix("/v1/llm/model-endpoints/"))
    model = serving.model(name)
    if model is None:
        raise refused(f"Model endpoint {name[:100]!r} is not served here. GET model-endpoints lists what is.", 404)
    return answer(_model(model))


def _model(model: Object) -> Object:
    # The client knows no other frameworks and sources than its own, and raises on another word.
    return {
        "id": model["id"],
        "name": model["id"],
        "model_name": model["id"],
        "source": "hugging_face",
        "status": "READY",
        "inference_framework": "vllm",
        "inference_framework_tag": None,
        "num_shards": None,
        "quantize": None,
        "spec": None,
    }


def _not_supported(request: Request, serving: Serving) -> Answer:
    raise refused(
        f"{request.method} {request.path[:100]} is not supported by this server: it serves completions and the list of"
        " models. Models are created, changed and deleted as ModelEndpoint objects in Kubernetes."
    )


ROUTES: Routes = (
    ("POST", re.compile(r"/v1/llm/completions-sync"), _sync),
    ("POST", re.compile(r"/v1/llm/completions-stream"), _stream),
    ("GET", re.compile(r"/v1/llm/model-endpoints"), _models),
    ("GET", re.compile(r"/v1/llm/model-endpoints/.+"), _one_model),
    ("*", re.compile(r"/v1/llm/model-endpoints(/.+)?"), _not_supported),
    ("*", re.compile(r"/v1/llm/(batch-completions|fine-tunes)(/.*)?"), _not_supported),
    ("*", re.compile(r"/v2/batch-completions(/.*)?"), _not_supported),
    ("*", re.compile(r"/v1/files(/.*)?"), _not_supported),
)

OPERATIONS = (
    ("POST v1/llm/completions-sync", TRANSLATES, "`Completion.create`, `acreate`"),
    ("POST v1/llm/completions-stream", TRANSLATES, "the same with `stream=True`"),
    ("GET v1/llm/model-endpoints", EMULATES, "`Model.list`: the served names of this endpoint"),
    ("GET v1/llm/model-endpoints/{name}", EMULATES, "`Model.get`"),
    ("other v1/llm/model-endpoints", REFUSES, "400: models are ModelEndpoint objects"),
    ("v1/llm/batch-completions, v2/batch-completions", REFUSES, "400: not supported"),
    ("v1/llm/fine-tunes, v1/files", REFUSES, "400: not supported"),
)
