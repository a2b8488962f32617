"""docs/rules.md has every rule that is cited, and each of its rules names tests that exist."""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
RULE = re.compile(r"\b[STRAVQF][1-9]\d?\b|\bF0\b")
RANGE = re.compile(r"\b([STRAVQF])(\d+)–(?:\1)?(\d+)\b")
LINK = re.compile(r"\[`(\w+)`\]\(\.\./(tests/[\w/]+\.py)\)")
NOT_BUILT = "*Not built yet:*"
LINTER = re.compile(r"^select = .*$", re.M)  # its rules have ids like ours
HERE = str(Path(__file__).relative_to(ROOT))


def sections() -> dict[str, str]:
    """The text of each rule, by its id."""
    parts = re.split(r"^### (\w+)$", PAGE, flags=re.M)
    rules = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert len(rules) == len(parts[1::2]), "a rule stands twice"
    return {rule: re.split(r"^## ", text, flags=re.M)[0] for rule, text in rules.items()}


RULES = sections()


@functools.cache
def texts() -> dict[str, str]:
    """Where rules may be cited: the text of each file, by its path in the repo."""
    names = ("featurekit", "tests", "benchmarks", "feature_repo")
    modules = [path for name in names for path in (ROOT / name).rglob("*.py")]
    pages = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md"), ROOT / "pyproject.toml"]
    files = {str(p.relative_to(ROOT)): p.read_text(encoding="utf-8") for p in (*modules, *pages)}
    return {path: LINTER.sub("", text) for path, text in files.items() if path != HERE}


def prose(path: str, text: str) -> str:
    """Of a module its comments and strings, else all."""
    if not path.endswith(".py"):
        return text
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join(token.string for token in tokens if token.type in kinds)


def cited(text: str) -> set[str]:
    """The rules that a text cites, those between the ends of a range among them."""
    found = set(RULE.findall(text))
    for letter, low, high in RANGE.findall(text):
        found |= {f"{letter}{n}" for n in range(int(low), int(high) + 1)}
    return found


def functions(path: str) -> set[str]:
    """The names of the test functions that a file defines."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_rule_that_is_cited_is_on_the_page() -> None:
    found = {path: cited(text) for path, text in texts().items()}
    assert set().union(*found.values()) >= {"S1", "T7", "R3", "A2", "V1", "Q1", "F1"}
    unknown = {path: rules - RULES.keys() for path, rules in found.items()}
    # A name of code may look like a rule, so the little that is unknown is looked at again.
    again = {p: cited(prose(p, texts()[p])) - RULES.keys() for p, rules in unknown.items() if rules}
    assert {path: rules for path, rules in again.items() if rules} == {}


def test_every_text_cites_a_rule_in_one_form() -> None:
    """By its id, as in (T7), or as rule T7."""
    other = re.compile(r"\b(?:semantics?|section|§) ?[STRAVQF]\d|\bsemantics, \"", re.I)
    assert {path: other.findall(text) for path, text in texts().items() if other.search(text)} == {}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_names_tests(rule: str) -> None:
    said, _, tests = RULES[rule].partition("\nTests:")
    assert said.strip().startswith("**")
    assert LINK.findall(tests)


def test_every_test_that_is_named_exists() -> None:
    named = LINK.findall(PAGE)
    assert [(name, path) for name, path in named if name not in functions(path)] == []


def test_every_link_to_a_test_is_one_that_is_checked() -> None:
    assert PAGE.count("](../tests/") == len(LINK.findall(PAGE)) + 2  # the folder, and the oracle


def test_every_test_of_the_rules_is_named_by_a_rule() -> None:
    named = set(LINK.findall(PAGE))
    paths = {str(p.relative_to(ROOT)) for p in Path(__file__).parent.glob("test_*.py")} - {HERE}
    tests = {(name, p) for p in paths for name in functions(p) if name.startswith("test_")}
    assert sorted(tests - named) == []


def test_the_list_of_what_is_not_built_is_what_the_rules_say() -> None:
    (listed,) = re.findall(r"^\*\*Not built yet\*\*(.*?)\n\n", PAGE, re.M | re.S)
    said = [rule for rule, text in RULES.items() if NOT_BUILT in text]
    assert re.findall(r"\[(\w+)\]\(#(\w+)\)", listed) == [(rule, rule.lower()) for rule in said]


def test_every_link_to_a_place_of_the_page_leads_there() -> None:
    titles = re.findall(r"^##+ (.+)$", PAGE, re.M)
    places = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    inner = re.findall(r"\]\(#([\w-]+)\)", PAGE)
    outer = [a for text in texts().values() for a in re.findall(r"rules\.md#([\w-]+)\)", text)]
    assert outer
    assert sorted({*inner, *outer} - places) == []
