"""docs/apis.md, written from the tables that each API checks its requests with."""

from collections.abc import Iterable, Iterator
from types import ModuleType

from berth.cli.markdown import page, table

TITLES = {
    "LLMEngine": ("Scale LLM Engine", "…/llm-engine/", "`LLM_ENGINE_BASE_PATH`, with the slash at its end"),
    "ScaleEGP": (
        "Scale EGP and SGP",
        "…/egp",
        "`EGP_ENDPOINT_URL`, `SGP_CLIENT_BASE_URL`, or the argument of the client",
    ),
    "AlephAlpha": ("Aleph Alpha", "…/aleph-alpha", "`host=` of the client, which has no default"),
}

INTRODUCTION = """An endpoint answers OpenAI's API, which is vLLM's own, and those below. Code that was written for one
of them changes its base URL and key, nothing else. `status.urls` of the endpoint has the base URL of each. vLLM is
asked in its own API inside its own process, so every limit and every log probability is the engine's."""

WORDS = """*passes*: as it is, under the same name. *translates*: under another name or in another form. *emulates*:
Berth does what the engine has no parameter for. *accepts, no effect*: has none here. *refuses*: an error that says so.
A parameter that is not in the table is refused with status 400, unless it is null, false, 0 or empty."""


def apis_page(dialects: Iterable[ModuleType]) -> str:
    """The page. dialects: the modules of `berth_apis`, in the order of the page."""
    return page("The APIs of an endpoint", [INTRODUCTION, WORDS, *(part for found in dialects for part in _api(found))])


def _api(dialect: ModuleType) -> Iterator[str]:
    title, url, setting = TITLES[dialect.NAME]
    yield f"## {title}"
    yield f"`{dialect.NAME}` in `spec.server.apis`. The base URL is `{url}`: {setting}."
    yield table(["Call", "Berth", "How"], ([f"`{call}`", does, how] for call, does, how in dialect.OPERATIONS))
    yield "### Parameters"
    rows = (
        [f"`{where}{parameter.name}`", parameter.kind, parameter.does, parameter.how]
        for where, parameters in dialect.PARAMETERS.items()
        for parameter in parameters
    )
    yield table(["Parameter", "Kind", "Berth", "How"], rows)
    yield "### Answer"
    yield table(["Field", "Where it comes from"], ([f"`{field.name}`", field.how] for field in dialect.ANSWER))
