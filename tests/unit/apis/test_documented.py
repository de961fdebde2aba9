"""docs/apis.md leaves nothing out: every parameter and field of the published pages, all that clients really send."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from berth_apis import DIALECTS, aleph_alpha, llm_engine, open_ai, scale_egp
from tests.unit.apis import recorded

PAGE = (Path(__file__).parents[3] / "docs" / "apis.md").read_text()

# As the pages name them, by API: the two guides and the client's reference of LLM Engine, "Create Completion" of Scale,
# the reference of text completion of Aleph Alpha.
PARAMETERS = {
    llm_engine: "model prompt max_new_tokens temperature stream stop_sequences return_token_log_probs presence_penalty"
    " frequency_penalty top_k top_p include_stop_str_in_output guided_json guided_regex guided_choice guided_grammar"
    " skip_special_tokens",
    scale_egp: "account_id model prompt images model_parameters stream model_parameters.temperature"
    " model_parameters.max_tokens model_parameters.stop_sequences images[].image_url images[].detail",
    aleph_alpha: "prompt maximum_tokens temperature top_k top_p presence_penalty frequency_penalty stop_sequences n"
    " best_of log_probs echo steering_concepts model",
}
ANSWERS = {
    llm_engine: "request_id output.text output.num_completion_tokens outputs[] error",
    scale_egp: "completion.text completion.finish_reason token_usage",
    aleph_alpha: "model_version completions[] num_tokens_prompt_total num_tokens_generated optimized_prompt index"
    " completions[].completion completions[].completion_tokens completions[].finish_reason completions[].raw_completion"
    " completions[].log_probs completion log_probs raw_completion completion_tokens finish_reason",
}
# What has tables for a call: its own keys are there under another heading.
COMPLETIONS = re.compile(r"completions-(sync|stream)|/v[24]/completions|/complete$")


def documented(dialect: ModuleType) -> set[str]:
    return {where + parameter.name for where, parameters in dialect.PARAMETERS.items() for parameter in parameters}


@pytest.mark.parametrize("dialect", PARAMETERS, ids=lambda dialect: dialect.NAME)
def test_the_pages_parameters_are_all_there(dialect: ModuleType) -> None:
    assert set(PARAMETERS[dialect].split()) <= documented(dialect)


@pytest.mark.parametrize("dialect", ANSWERS, ids=lambda dialect: dialect.NAME)
def test_the_pages_fields_are_all_there(dialect: ModuleType) -> None:
    fields = [field.name for field in dialect.ANSWER]
    missing = [
        name
        for name in ANSWERS[dialect].split()
        if not any(re.match(rf"{re.escape(name)}($|\W)", field) for field in fields)
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("dialect", "api"), [(llm_engine, "llm-engine"), (scale_egp, "scale-egp"), (aleph_alpha, "aleph-alpha")]
)
def test_what_clients_send_is_all_there(dialect: ModuleType, api: str) -> None:
    sent = {
        key
        for _, request in recorded.requests(api)
        if isinstance(request.get("json"), dict) and COMPLETIONS.search(request["target"].partition("?")[0])
        for key in request["json"]
    }
    assert len(sent) > 4
    assert sent <= documented(dialect)


@pytest.mark.parametrize("dialect", [each for each in DIALECTS if each is not open_ai], ids=lambda each: each.NAME)
def test_the_page_shows_all_that_the_checks_know(dialect: ModuleType) -> None:
    shown = set(re.findall(r"^\| `([^`]*)` \|", PAGE, re.MULTILINE))
    fields: Any = {field.name for field in dialect.ANSWER}
    assert documented(dialect) | fields <= shown
