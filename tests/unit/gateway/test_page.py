"""docs/gateway.md against the code: texts, limits and clients' patience are those that there are."""

from __future__ import annotations

import re
from pathlib import Path

from berth_gateway import choice, destination, exchange, holding, looks, paths, reading
from berth_gateway.settings import Settings
from tests.contracts.apis.calls import CLIENTS
from tests.node.patience import IMPATIENT, patience

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "gateway.md").read_text()
CODE = "\n".join(path.read_text() for path in (ROOT / "images").rglob("*.py"))
MIB = 1024 * 1024


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def row(title: str, *words: str) -> str:
    """The only row of a section's tables that has these words."""
    (found,) = [
        line for line in section(title).splitlines() if line.startswith("| ") and all(word in line for word in words)
    ]
    return found


def test_every_answer_that_is_explained_is_in_the_code() -> None:
    quoted = re.findall(r"^\| \d{3} `([^`]+)`", section("When something is wrong"), re.MULTILINE)
    assert len(quoted) > 10
    for text in (*quoted, "key_unusable", "requests_cut"):
        assert text in CODE, text


def test_every_call_that_passes_is_named() -> None:
    for path in paths._OPEN_AI:
        assert f"`{path}`" in PAGE.replace("`POST ", "`"), path


def test_limits_are_those_of_the_code() -> None:
    limits = Settings()
    numbers = {
        "`mostBodyBytes`": (f"{limits.most_body_bytes // MIB} MiB",),
        "`mostBodiesBytes`": (f"{limits.most_bodies_bytes // MIB} MiB",),
        "first line, head, headers": (
            f"{reading.MOST_LINE_BYTES // 1024} KiB",
            f"{reading.MOST_HEAD_BYTES // 1024} KiB",
            f"{reading.MOST_HEADERS} ",
        ),
        "a head that does not": (f"{looks.HEAD_SECONDS} s",),
        "a pause within a request": (f"{looks.BODY_PAUSE_SECONDS} s",),
        "a client that takes nothing": (f"{looks.UNSENT_SECONDS} s",),
        "a connection without": (f"{looks.CLIENT_IDLE_SECONDS} s",),
        "`connectSeconds`": (f"{limits.connect_seconds:.0f} s",),
        "`firstByteSeconds`": (f"{limits.first_byte_seconds:.0f} s",),
        "`betweenBytesSeconds`": (f"{limits.between_bytes_seconds:.0f} s",),
        "`totalSeconds`": (f"{limits.total_seconds:,.0f} s",),
        "`holdPerEndpoint`": (f"{limits.hold_per_endpoint:,}", f"{limits.hold_in_all:,}"),
        "`holdBytesPerEndpoint`": (f"{limits.hold_bytes_per_endpoint // MIB} MiB", "1 GiB"),
        "`holdSeconds`": (f"{limits.hold_seconds:.0f} s",),
        "attempts for one request": (f"{exchange.MOST_ATTEMPTS} pods",),
    }
    for what, values in numbers.items():
        for value in values:
            assert value in row("Limits", what), (what, value)
    assert limits.hold_bytes_in_all == 1024 * MIB
    assert f"serves on for {limits.further_seconds:.0f} s" in PAGE
    assert f"has {limits.drain_seconds:.0f} s for what" in PAGE.replace("\n", " ")


def test_numbers_of_the_choice_are_those_of_the_code() -> None:
    text = " ".join(section("Which pod").split())
    assert f"first {choice.PREFIX_CHARACTERS} characters" in text
    assert f"at most {choice.BOUND} times the mean" in text
    assert (choice.FAILURES, holding.COMMENT_SECONDS) == (3, 5.0)
    assert f"left out for {choice.EJECTED_SECONDS:.0f} s" in text
    assert f"up to {choice.MOST_EJECTED_SECONDS:.0f} s" in text
    assert reading.SESSION_HEADER.decode() in text.lower()
    assert destination.ENDPOINT_KEY.decode() in PAGE.lower()


def test_the_patience_of_every_client_is_told() -> None:
    for found in CLIENTS:
        seconds = f"{patience(found, 'sync').between_bytes_seconds:.0f} s"
        if found.package == "scale-llm-engine":
            line = row("At zero", "`scale-llm-engine`", ", ".join(IMPATIENT) if found.version in IMPATIENT else "from")
        else:
            line = row("At zero", f"`{found.package}`")
        assert seconds in line, (found.package, found.version)
