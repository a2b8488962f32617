"""Patterns that may take long: found, warned of, and decided in linear time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from feature_repos import MakeRepo
from hypothesis import example, given
from hypothesis import strategies as st
from slow_patterns import EXPONENTIAL, POWERS, QUICK, UNKNOWN
from three_ways import module

from featurekit.cli import main
from featurekit.define.parameters import slow_patterns
from featurekit.language.ops.ambiguity import Verdict, judged
from featurekit.language.ops.linear import _automaton, _decided, decider, decides
from featurekit.language.parse import parse
from featurekit.language.to_python import to_python

_RUN = """
import json, re, sys
method, pattern, text = json.load(sys.stdin)
compiled = re.compile(pattern)
print("begun", flush=True)
compiled.sub("", text) if method == "sub" else getattr(compiled, method)(text)
"""


def _takes_longer(method: str, pattern: str, text: str, *, than_s: float) -> bool:
    """Whether `re` takes longer for a text, in a process of its own."""
    command = [sys.executable, "-c", _RUN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(json.dumps([method, pattern, text]))
        run.stdin.close()
        assert run.stdout.readline() == "begun\n"
        try:
            assert run.wait(than_s) == 0
        except subprocess.TimeoutExpired:
            run.kill()
            return True
    return False


def _named(value: object) -> str:
    """A short name: the texts are long, and the name of a test is in its processes' environment."""
    return str(value)[:40]


@pytest.mark.parametrize(("method", "pattern", "text"), EXPONENTIAL, ids=_named)
def test_a_pattern_that_may_take_exponential_time_is_found(
    method: str, pattern: str, text: str
) -> None:
    assert judged(method, pattern).kind == "exponential"


@pytest.mark.parametrize(("method", "pattern", "text", "degree"), POWERS, ids=_named)
def test_a_pattern_that_takes_a_power_of_the_length_is_found(
    method: str, pattern: str, text: str, degree: int
) -> None:
    assert judged(method, pattern) == Verdict("power", degree)


@pytest.mark.parametrize(("method", "pattern", "text"), UNKNOWN, ids=_named)
def test_what_cannot_be_shown_to_be_quick_is_unknown(method: str, pattern: str, text: str) -> None:
    assert judged(method, pattern).kind == "unknown"


@pytest.mark.parametrize(("method", "pattern", "text"), QUICK, ids=_named)
def test_a_common_harmless_pattern_is_quick(method: str, pattern: str, text: str) -> None:
    assert judged(method, pattern).kind == "quick"
    if pattern != "(":
        assert not _takes_longer(method, pattern, text, than_s=30)


_SLOW = (*EXPONENTIAL, *(row[:3] for row in POWERS), *UNKNOWN)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "pattern", "text"), _SLOW, ids=_named)
def test_the_patterns_that_are_called_slow_take_long(method: str, pattern: str, text: str) -> None:
    """What the table says of `re`, by `re`. Most of them end in no lifetime."""
    assert _takes_longer(method, pattern, text, than_s=0.5)


def test_a_pattern_too_large_to_be_judged_is_unknown() -> None:
    assert judged("search", "(?:a|b+c)?" * 800 + "x").kind == "unknown"
    assert judged("search", "(" * 400 + "a" + ")" * 400).kind in ("quick", "unknown")


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
    found = _automaton(pattern)
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

@feature(on_unsupported="python")
def folded(text: str) -> bool:
    return bool(re.findall(r"(?:aa|AA)+b", text, re.IGNORECASE))

@feature
def trimmed(text: str) -> str:
    return re.sub(r"\s+$", "", text)

@feature
def doubled(text: str) -> bool:
    return re.match(r"(a|b)\1*c", text) is not None

@feature
def bounded(text: str) -> str:
    return re.sub(r"\s{1,50}$", "", text)

@feature
def harmless(text: str) -> bool:
    return re.match(r"^C\d+$", text) is not None
"""


def test_each_place_of_a_slow_pattern_is_pointed_at() -> None:
    space = module(FEATURES)
    names = ("spelt", "found", "cleaned", "words", "shouted", "folded", "harmless", "bounded")
    texts = slow_patterns(space[name] for name in names)
    shown = []
    for text in texts:
        lines = text.splitlines()
        shown.append(lines[1][lines[2].index("^") :].split("(")[0])
    assert shown == ['r"^', 'r"', 'r"', "WORDS.search", 'r"', 'r"']
    assert all("doubles with each character" in text for text in texts)
    decided = [True, True, False, True, False, False]
    assert ["only whether it matches" in text for text in texts] == decided


def test_each_kind_is_told_in_its_own_words() -> None:
    space = module(FEATURES)
    [square, unknown] = slow_patterns(space[name] for name in ("trimmed", "doubled"))
    assert "time that grows with the square of a text's length" in square
    assert r"give bounds to what repeats, as \s{1,50} for \s+" in square
    assert "it could not be shown that this pattern is quick for every text" in unknown


def test_whether_a_slow_pattern_matches_is_decided_at_once() -> None:
    """Python's own engine would take 2**5000 steps."""
    text = "a" * 5_000 + "!"
    began = time.monotonic()
    assert to_python(parse(module(FEATURES)["spelt"]))(text) is False
    assert repr(to_python(parse(module(FEATURES)["found"]))(text)) == "ERROR"
    assert time.monotonic() - began < 60


def test_what_is_not_read_is_left_to_python() -> None:
    assert not decides("search", r"(?=(a+)+$)a")


def test_a_long_text_is_decided_at_once_where_a_power_of_its_length_would_be_taken() -> None:
    began = time.monotonic()
    assert not decider("match", r".*.*.*=")("x" * 5_000)
    assert decider("match", r".*.*.*=")("x" * 5_000 + "=")
    assert time.monotonic() - began < 60


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
