"""Patterns that may take exponential time: found, warned of, and decided in linear time."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from feature_repos import MakeRepo
from hypothesis import example, given
from hypothesis import strategies as st
from three_ways import module

from featurekit.cli import main
from featurekit.define.parameters import slow_patterns
from featurekit.language.ops.linear import _automaton, _decided, decides, is_slow
from featurekit.language.parse import parse
from featurekit.language.to_python import to_python

SLOW = (
    r"^(a+)+$", r"(a*)*b", r"(a|a)*b", r"(a|ab|b)*c", r"(\w+\s?)+$", r"(.*,)+x", r"([a-z]+)*\d",
    r"(x+x+)+y", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(\d+|\w)+$", r"(?:a+){2,}b", r"(a{1,3})*b",
    r"((a+)b?)+c", r"(ab|a|b)*$", r"(?i)(A+)+b", r"(?=(a+)+$)a", r"((a?)?b)+c", r"(?:(?:a+)*x?)+y",
)  # fmt: skip
QUICK = (
    r"^C\d{5,6}$", r"(\w+\s)+x", r"[a-z]+@[a-z]+\.com", r"(a|b)*c", r"(ab)+", r"\d+-\d+", r"a*b*",
    r"^\s*(\w+)\s*$", r"(a+b)+", r"(?:[a-z]+,)*[a-z]+", r"x.*y.*z", r"(a|bc)+d", r"\w+",
    r"(a?)*b", r"(?i)(a|b)*", r"^(GIFT|DOT|POST)",
    r"(\d{1,3}\.){3}\d{1,3}", r"(a?b)*c", r"(a|[ab])+$", "", "(",
)  # fmt: skip


@pytest.mark.parametrize("pattern", SLOW)
def test_a_pattern_that_may_take_exponential_time_is_found(pattern: str) -> None:
    assert is_slow(pattern)


@pytest.mark.parametrize("pattern", QUICK)
def test_another_pattern_is_not_called_slow(pattern: str) -> None:
    assert not is_slow(pattern)


def _patterns() -> st.SearchStrategy[str]:
    atoms = st.sampled_from(("a", "b", "[ab]", "[^a]", ".", r"\w", r"\s", r"\D", "\n", "é"))
    repeats = st.sampled_from(("*", "+", "?", "{2}", "{1,3}", "*?", "+?", "{0,2}", "{2,}", ""))
    made = st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
            st.tuples(inner, repeats).map(lambda one: f"({one[0]}){one[1]}"),
        ),
        max_leaves=5,
    )
    begins, ends = st.sampled_from(("", "^", r"\A")), st.sampled_from(("", "$", r"\Z"))
    return st.tuples(begins, made, ends).map("".join)


@given(
    _patterns(), st.text("aab1 \né", max_size=7), st.sampled_from(["search", "match", "fullmatch"])
)
@example("a$", "a\n", "search")
@example("a$", "a\n", "match")
@example("a$", "a\n", "fullmatch")
@example(r"a\Z", "a\n", "search")
@example("a$", "a\n\n", "search")
@example("(?:a?)*$", "b\n", "match")
@example("^a", "ba", "search")
@example("(?:a{2}){2,}", "aaaaa", "fullmatch")
def test_deciding_in_linear_time_is_what_re_decides(pattern: str, text: str, method: str) -> None:
    found = _automaton(pattern, exact=True)
    assert found is not None
    assert _decided(*found, method, text) == (getattr(re, method)(pattern, text) is not None)


FEATURES = r"""
import re
WORDS = re.compile(r"(\w+\s?)+$")

@feature
def spelt(text: str) -> bool:
    return re.match(r"^(a+)+$", text) is not None

@feature
def found(text: str) -> str:
    return re.search(r"(a|a)*b", text).group(0)

@feature
def cleaned(text: str) -> str:
    return re.sub(r"(.*,)+x", "", text)

@feature
def words(text: str) -> bool:
    return WORDS.search(text) is not None

@feature(on_unsupported="python")
def shouted(text: str) -> bool:
    return bool(re.findall(r"(\d+|\w)+!", text))

@feature
def harmless(text: str) -> bool:
    return re.match(r"^C\d+$", text) is not None
"""


def test_each_place_of_a_slow_pattern_is_pointed_at() -> None:
    space = module(FEATURES)
    names = ("spelt", "found", "cleaned", "words", "shouted", "harmless")
    texts = slow_patterns(space[name] for name in names)
    shown = []
    for text in texts:
        lines = text.splitlines()
        shown.append(lines[1][lines[2].index("^") :].split("(")[0])
    assert shown == ['r"^', 'r"', 'r"', "WORDS.search", 'r"']
    assert all("doubles with each character" in text for text in texts)
    assert ["only whether it matches" in text for text in texts] == [True] * 5


def test_whether_a_slow_pattern_matches_is_decided_at_once() -> None:
    """Python's own engine would take 2**5000 steps."""
    text = "a" * 5_000 + "!"
    began = time.monotonic()
    assert to_python(parse(module(FEATURES)["spelt"]))(text) is False
    assert repr(to_python(parse(module(FEATURES)["found"]))(text)) == "ERROR"
    assert time.monotonic() - began < 60


def test_what_is_not_read_is_left_to_python() -> None:
    assert is_slow(r"(?=(a+)+$)a") is True
    assert not decides(r"(?=(a+)+$)a")


def test_plan_warns_of_a_slow_pattern(
    make_repo: MakeRepo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_repo(
        """
    import re
    from featurekit import FeatureService, feature

    @feature
    def spelt(text: str) -> bool:
        return re.match(r"^(a+)+$", text) is not None

    service = FeatureService("service", features=[spelt], request={"text": str})
    """,
        {},
    )
    monkeypatch.chdir(folder)
    assert main(["plan"]) == 0
    told: Any = capsys.readouterr().out
    assert f"warning: {Path('definitions.py')}" in told.replace(f"{folder}/", "")
    assert ":7:21: this pattern may take time" in told.replace("\n", "").replace("  ", " ")
