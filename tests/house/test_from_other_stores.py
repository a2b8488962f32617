"""The page for those who come from other stores: each expression of it compiles, and what it says
is not there is not."""

from __future__ import annotations

import linecache
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from featurekit import FeatureView, aggregates
from featurekit.aggregates import Aggregate
from featurekit.define.compile_view import compile_view
from featurekit.errors import DefinitionError

PAGE = Path(__file__).parents[2] / "docs" / "from_other_stores.md"
TEXT = PAGE.read_text(encoding="utf-8")
HERE = [line.strip("|").split("|")[-1] for line in TEXT.splitlines() if line.startswith("| ")]
"""What featurekit has, of each row of the tables, and their heads."""
PROSE = TEXT.partition("## What means otherwise")[2]
CODE = re.compile(r"(?<!no )`([^`]+)`")
EXPRESSION = re.compile(r"(?!.*…)(?:[A-Z]\w*\(|\{)")
MISSING = re.compile(r"\b[Nn]o `(\w+=?)`")


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the first block of the page defines."""
    block = re.search(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
    assert block is not None
    code, place = block[1], "<the page's first block>"
    linecache.cache[place] = (len(code), None, code.splitlines(keepends=True), place)
    found: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, place, "exec"), found)
    return found


def expressions(cells: list[str]) -> list[str]:
    """The expressions of Python among the code of some cells."""
    return [code for cell in cells for code in CODE.findall(cell) if EXPRESSION.match(code)]


def check(code: str, names: Mapping[str, Any]) -> None:
    """Raises DefinitionError, or a TypeError, where an expression is not a definition."""
    made = eval(code, dict(names))
    if isinstance(made, FeatureView):
        compile_view(made)
    elif isinstance(made, (dict, Aggregate)):
        some = made if isinstance(made, dict) else {"one": made}
        view = FeatureView(
            "view", entities=[names["customer"]], source=names["orders"], features=some
        )
        compile_view(view)


def is_there(name: str) -> bool:
    """Whether an aggregate has a name or, if it ends in "=", takes a parameter."""
    kinds = [Aggregate, *aggregates.BY_NAME.values()]
    if name.endswith("="):
        return any(name[:-1] in {f.name for f in fields(kind) if f.init} for kind in kinds)
    return name in aggregates.BY_NAME


def test_the_page_has_expressions() -> None:
    assert len(expressions(HERE)) > 60


def test_every_aggregate_has_a_row() -> None:
    assert set(aggregates.BY_NAME) - {code.partition("(")[0] for code in expressions(HERE)} == set()


@pytest.mark.parametrize("code", expressions([*HERE, PROSE]))
def test_an_expression_of_the_page_compiles(code: str, names: dict[str, Any]) -> None:
    check(code, names)


@pytest.mark.parametrize("name", sorted({n for cell in HERE for n in MISSING.findall(cell)}))
def test_what_is_said_to_be_missing_is_missing(name: str) -> None:
    assert not is_there(name), f"docs/{PAGE.name} says that there is no {name}; say how to write it"


@pytest.mark.parametrize(
    "code",
    [
        'Sum("country", window="7d")',
        'Sum("amount", within="7d")',
        'Sum("amount", window="7d", exclude="row")',
        'FeatureView("v", entities=[customer], source=orders, features={"x": "amuont"})',
    ],
)
def test_what_does_not_compile_is_found(code: str, names: dict[str, Any]) -> None:
    assert expressions([f"so: `{code}`"]) == [code]
    with pytest.raises((DefinitionError, TypeError)):
        check(code, names)


def test_what_is_there_is_found() -> None:
    assert MISSING.findall("no `Sum`: and no `rows=`, or No `n=`.") == ["Sum", "rows=", "n="]
    assert all(map(is_there, ("Sum", "rows=", "n=", "half_life=")))
    assert not any(map(is_there, ("Summ", "row=", "implementation=")))
