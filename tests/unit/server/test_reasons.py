"""The catalogue of reasons against the launcher's sources, its tests and the operator.

Inputs: every file of the launcher, parsed; the contract tests that the catalogue names.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from berth.decide.verdicts import PERMANENT
from berth_server import protocol
from berth_server.reasons import PHASES, REAL, REASONS, RECORDED, UNPROVEN
from tests.unit.server.test_diagnose import CASES

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "images" / "server" / "berth_server").glob("*.py"))
CONTRACTS = ROOT / "tests" / "contracts" / "launcher"


def raised() -> Iterator[tuple[str, bool]]:
    """Every text that a source gives as the reason of a Failure or of a pattern, and whether it suggests something."""
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        values = {
            target.id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Failure", "_known") and node.args:
                given = node.args[0]
                given = values.get(given.id, given) if isinstance(given, ast.Name) else given
                suggests = getattr(node.func, "id", "") == "Failure" and len(node.args) + len(node.keywords) > 2
                yield from ((text, suggests) for text in texts(given))


def texts(node: ast.AST) -> set[str]:
    """The strings that an expression may be."""
    if isinstance(node, ast.IfExp):
        return texts(node.body) | texts(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def test_every_reason_of_the_launcher_is_in_the_catalogue_and_every_one_there_exists() -> None:
    assert {reason for reason, _ in raised()} == REASONS.keys()
    assert tuple(PHASES) == protocol.PHASES


def test_what_no_restart_mends_is_what_the_operator_calls_stalled() -> None:
    assert {name for name, reason in REASONS.items() if reason.permanent} == PERMANENT


def test_only_proven_reasons_suggest_something() -> None:
    unproven = {name for name, reason in REASONS.items() if reason.evidence == UNPROVEN}
    assert not [name for name in unproven if REASONS[name].suggestion]
    assert not unproven & {reason for reason, suggests in raised() if suggests}


@pytest.mark.parametrize("name", [name for name, reason in REASONS.items() if reason.evidence == REAL])
def test_a_real_reason_has_a_contract_test_that_asserts_it(name: str) -> None:
    file, _, function = REASONS[name].proof.partition("::")
    tree = ast.parse((CONTRACTS / file).read_text())
    (test,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    asserted = [ast.unparse(node.test) for node in test.body if isinstance(node, ast.Assert)]
    assert any("reason" in text and (repr(name) in text or "case.reason" in text) for text in asserted)
    assert name in strings(test, tree)


def strings(test: ast.FunctionDef, tree: ast.Module) -> set[str]:
    """Every string in a test, in its parameters, and in the tables of its module that the parameters name."""
    named = {node.id for decorator in test.decorator_list for node in ast.walk(decorator) if isinstance(node, ast.Name)}
    tables = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and any(isinstance(at, ast.Name) and at.id in named for at in node.targets)
    ]
    return {
        node.value
        for part in (test, *tables)
        for node in ast.walk(part)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize("name", [name for name, reason in REASONS.items() if reason.evidence == RECORDED])
def test_a_recorded_reason_has_a_recording_and_a_public_source(name: str) -> None:
    assert name in {case.reason for case in CASES}
    assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+(, [\w.-]+/[\w.-]+#\d+)*", REASONS[name].proof)


def test_every_reason_is_real_recorded_or_unproven() -> None:
    assert {reason.evidence for reason in REASONS.values()} <= {REAL, RECORDED, UNPROVEN}
