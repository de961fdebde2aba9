"""Guards of the layout."""

import operator
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_nothing_in_the_operator_folder_shadows_the_standard_library() -> None:
    """`operator/__init__.py`, or a module beside the package, would be imported as the standard `operator`."""
    assert [path.name for path in (ROOT / "operator").iterdir() if path.is_file()] == []
    assert sorted(path.name for path in (ROOT / "operator").iterdir() if path.name != "__pycache__") == ["berth"]
    assert Path(operator.__file__).parent != ROOT / "operator"


def test_modules_stay_small_enough_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in (ROOT / "operator").rglob("*.py")
    }
    assert {name: lines for name, lines in long.items() if lines > 400} == {}
