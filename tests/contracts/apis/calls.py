"""The same greedy completion in the words of every client library, and where its answers hold what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Json = Any
Read = Callable[[Json], tuple[str, int | None, int]]
"""Text, tokens of the prompt, or None where the client does not show them, and tokens of the completion."""


@dataclass(frozen=True)
class Client:
    """A client library.

    base: its address below the endpoint's.  calls: expressions in {model}, {prompt} and {tokens}, by how the call is
    made: `sync`, `async`, `stream`, `async stream`; none is tried again.  answer: reads what a plain call returned.
    stream: reads the list of what a stream yielded.  errors: what is raised for an unknown model, a bad value, a wrong
    key.  stream_errors: the same for a stream, where it differs.
    """

    package: str
    version: str
    base: str
    calls: Mapping[str, str]
    answer: Read
    stream: Read
    errors: tuple[str, str, str]
    stream_errors: tuple[str, str, str] | None = None

    def call(self, way: str, model: str, prompt: str, tokens: int) -> str:
        """The expression for tests/clients/play.py."""
        text = self.calls[way].replace("{model}", repr(model)).replace("{tokens}", str(tokens))
        return text.replace("{prompt}", repr(prompt))

    def read(self, way: str, outcome: Json) -> tuple[str, int | None, int]:
        """Text and counts of an outcome, which must not be an error."""
        if "stream" in way:
            assert outcome["kind"] == "yielded", outcome
            return self.stream(outcome["items"])
        assert outcome["kind"] == "returned", outcome
        return self.answer(outcome["value"])

    def expected_errors(self, way: str) -> tuple[str, str, str]:
        return self.stream_errors or self.errors if "stream" in way else self.errors


def _named(module: str, *names: str) -> Any:
    return tuple(f"{module}.{name}" for name in names)


def _llm_engine(version: str, model: str = "model", temperature: float = 0) -> Client:
    """model: what the generation calls it.  temperature: some generations refuse the 0 of greedy."""
    # The first generations give up after 10 seconds.
    given = f"{model}={{model}}, prompt={{prompt}}, max_new_tokens={{tokens}}, temperature={temperature}, timeout=300"

    def counted(text: str, output: Json) -> tuple[str, int | None, int]:
        return text, output.get("num_prompt_tokens"), output["num_completion_tokens"]

    def answer(value: Json) -> Any:
        output = value["outputs"][0] if "outputs" in value else value["output"]
        return counted(output["text"], output)

    def stream(items: Json) -> Any:
        outputs = [item["output"] for item in items]
        assert [output["finished"] for output in outputs] == [False] * (len(outputs) - 1) + [True]
        return counted("".join(output["text"] for output in outputs), outputs[-1])

    calls = {
        "sync": f"Completion.create({given})",
        "async": f"Completion.acreate({given})",
        "stream": f"Completion.create({given}, stream=True)",
        "async stream": f"Completion.acreate({given}, stream=True)",
    }
    errors = _named("llmengine.errors", "NotFoundError", "BadRequestError", "UnauthorizedError")
    return Client("scale-llm-engine", version, "/llm-engine/", calls, answer, stream, errors)


def _egp_answer(value: Json) -> Any:
    usage = value["token_usage"]
    assert usage["total"] == usage["prompt"] + usage["completion"]
    return value["completion"]["text"], usage["prompt"], usage["completion"]


def _egp_stream(items: Json) -> Any:
    assert all(item["token_usage"] is None for item in items[:-1])
    reasons = [item["completion"]["finish_reason"] for item in items]
    assert reasons[:-1] == [None] * (len(items) - 1)
    assert reasons[-1] in ("stop", "length")
    _, *counts = _egp_answer(items[-1])
    return "".join(item["completion"]["text"] for item in items), *counts


def _scale_egp() -> Client:
    given = (
        "model={model}, prompt={prompt}, account_id=None,"
        " model_parameters=ModelParameters(temperature=0, max_tokens={tokens})"
    )
    calls = {
        "sync": f'EGPClient(account_id="a").completions().create({given})',
        "stream": f'EGPClient(account_id="a").completions().stream({given})',
    }
    errors = _named("scale_egp.exceptions", "ItemDoesNotExist", "EGPException", "EGPException")
    # The client looks at no status of a stream: the error is a line that it cannot parse.
    lines = _named("builtins", *["ValueError"] * 3)
    return Client("scale-egp", "1.1.15", "/egp", calls, _egp_answer, _egp_stream, errors, lines)


def _scale_gp() -> Client:
    given = 'model={model}, prompt={prompt}, model_parameters={"temperature": 0, "max_tokens": {tokens}}'
    errors = _named("scale_gp", "NotFoundError", "BadRequestError", "AuthenticationError")
    calls = _stainless("SGPClient", given)
    return Client("scale-gp", "0.1.0a62", "/egp", calls, _egp_answer, _egp_stream, errors)


def _stainless(client: str, given: str, options: str = "") -> dict[str, str]:
    """Calls of the libraries made by one generator; `Async` before the class is the asynchronous client."""
    options = f"max_retries=0{options}"

    def asynchronous(arguments: str) -> str:
        return f"within(Async{client}({options}), lambda client: client.completions.create({arguments}))"

    return {
        "sync": f"{client}({options}).completions.create({given})",
        "async": asynchronous(given),
        "stream": f"{client}({options}).completions.create({given}, stream=True)",
        "async stream": asynchronous(f"{given}, stream=True"),
    }


def _open_ai_answer(value: Json) -> Any:
    return value["choices"][0]["text"], value["usage"]["prompt_tokens"], value["usage"]["completion_tokens"]


def _open_ai_stream(items: Json) -> Any:
    text = "".join(item["choices"][0]["text"] for item in items[:-1])
    return text, items[-1]["usage"]["prompt_tokens"], items[-1]["usage"]["completion_tokens"]


def _open_ai(package: str, version: str, base: str, client: str, options: str = "") -> Client:
    calls = _stainless(client, "model={model}, prompt={prompt}, max_tokens={tokens}, temperature=0", options)
    calls = {way: call.replace("stream=True", _WITH_USAGE) for way, call in calls.items()}
    errors = _named(package.replace("-", "_"), "NotFoundError", "BadRequestError", "AuthenticationError")
    return Client(package, version, base, calls, _open_ai_answer, _open_ai_stream, errors)


_WITH_USAGE = 'stream=True, stream_options={"include_usage": True}'

_HOST = 'os.environ["ALEPH_ALPHA_TOKEN"], os.environ["ALEPH_ALPHA_HOST"], total_retries=0'


def _aleph_alpha() -> Client:
    given = "CompletionRequest(prompt=Prompt.from_text({prompt}), maximum_tokens={tokens}), model={model}"

    def answer(value: Json) -> Any:
        return value["completions"][0]["completion"], value["num_tokens_prompt_total"], value["num_tokens_generated"]

    def stream(items: Json) -> Any:
        *chunks, summary, total = items
        assert {chunk["__class__"] for chunk in chunks} == {"StreamChunk"}
        assert (summary["__class__"], total["__class__"]) == ("StreamSummary", "CompletionSummary")
        text = "".join(chunk["completion"] for chunk in chunks)
        return text, total["num_tokens_prompt_total"], total["num_tokens_generated"]

    calls = {
        "sync": f"Client({_HOST}).complete({given})",
        "async": f"within(AsyncClient({_HOST}), lambda client: client.complete({given}))",
        "async stream": f"within(AsyncClient({_HOST}), lambda client: client.complete_with_streaming({given}))",
    }
    errors = _named("builtins", "RuntimeError", "ValueError", "PermissionError")
    return Client("aleph-alpha-client", "11.5.1", "/aleph-alpha", calls, answer, stream, errors)


CLIENTS = (
    _open_ai("openai", "", "/v1", "OpenAI"),
    _llm_engine("0.0.0a1", model="model_name"),
    _llm_engine("0.0.0b3", temperature=0.01),
    _llm_engine("0.0.0b12"),
    _llm_engine("0.0.0b22"),
    _llm_engine("0.0.0b45"),
    _scale_egp(),
    _scale_gp(),
    _open_ai("scale-gp-beta", "0.7.0", "/egp", "SGPClient", ', account_id="a"'),
    _aleph_alpha(),
)
