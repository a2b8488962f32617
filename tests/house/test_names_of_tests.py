"""pytest tells files of tests apart by their names, and leaves the second one of a name out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_no_two_files_of_tests_have_one_name() -> None:
    files = [f for f in TESTS.rglob("test_*.py") if not (f.parent / "__init__.py").exists()]
    assert len(files) > 100
    assert [name for name, n in Counter(f.name for f in files).items() if n > 1] == []
