"""Rules are taken from suites of Great Expectations and schemas of pandera, and given back (S5)."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from contracts.shop import GOOD, MODULE, USERS, orders
from feature_repos import MakeRepo

from featurekit import (
    Between,
    Fresh,
    Holds,
    Length,
    Matches,
    Monotone,
    NotNull,
    NotNullShare,
    OneOf,
    RowCount,
    Share,
    Unique,
    feature,
)
from featurekit.cli import main
from featurekit.core.types import DATE, DATETIME, FLOAT, INT, STR
from featurekit.define.contracts.code import as_code
from featurekit.define.contracts.gx import from_gx, to_gx
from featurekit.define.contracts.pandera import from_pandera, to_pandera
from featurekit.errors import DataError

SCHEMA = {"q": INT, "s": STR.or_none(), "x": FLOAT, "day": DATE, "seen": DATETIME}
DAY = dt.date(2024, 1, 2)


@feature
def even(q: int) -> bool:
    return q % 2 == 0


def expectation(kind: str, severity: str = "critical", **kwargs: Any) -> dict[str, Any]:
    """One as release 1.24 writes it."""
    return {"type": f"expect_{kind}", "kwargs": kwargs, "meta": {}, "severity": severity}


def suite(*expectations: dict[str, Any]) -> dict[str, Any]:
    about = {"meta": {"great_expectations_version": "1.24.1"}, "notes": None}
    return {"name": "orders", "id": None, "expectations": list(expectations), **about}


GX = [
    (
        expectation(
            "column_values_to_be_between", column="q", mostly=0.9, min_value=0.0, max_value=10.0,
            strict_max=True,
        ),
        Share(Between("q", 0, below=10), 0.9),
    ),
    (expectation("column_values_to_be_between", column="x", min_value=0.5), Between("x", 0.5)),
    (
        expectation("column_values_to_be_between", column="day", min_value="2024-01-02"),
        Between("day", DAY),
    ),
    (
        expectation("column_values_to_be_between", column="seen", max_value="2024-01-02T03:00:00"),
        Between("seen", high=dt.datetime(2024, 1, 2, 3, tzinfo=dt.UTC)),
    ),
    (expectation("column_min_to_be_between", column="q", min_value=1), Between("q", 1)),
    (
        expectation("column_values_to_be_in_set", column="s", value_set=["a", "b"]),
        OneOf("s", ["a", "b"]),
    ),
    (
        expectation("column_values_to_match_regex", column="s", regex="[a-z]+"),
        Matches("s", "[a-z]+", how="search"),
    ),
    (
        expectation("column_values_to_match_regex", column="s", regex="\\A(?:[a-z]+)\\Z"),
        Matches("s", "[a-z]+"),
    ),
    (
        expectation("column_values_to_not_be_null", "warning", column="s"),
        NotNull("s", severity="warn"),
    ),
    (
        expectation("column_values_to_not_be_null", column="s", mostly=0.5),
        NotNullShare("s", 0.5),
    ),
    (expectation("column_values_to_be_unique", column="q"), Unique("q")),
    (expectation("compound_columns_to_be_unique", column_list=["q", "x"]), Unique(["q", "x"])),
    (
        expectation("column_value_lengths_to_be_between", column="s", min_value=1, max_value=3),
        Length("s", 1, 3),
    ),
    (expectation("table_row_count_to_be_between", min_value=1, max_value=9), RowCount(1, 9)),
    (expectation("table_row_count_to_equal", value=4), RowCount(4, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("given", "rule"), GX)
def test_an_expectation_with_a_counterpart_is_taken(given: dict[str, Any], rule: Any) -> None:
    taken = from_gx(suite(given), SCHEMA)
    assert (taken.rules, taken.left_out) == ([rule], [])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (expectation("column_mean_to_be_between", column="q", min_value=1), "no counterpart"),
        (expectation("column_to_exist", column="q"), "the schema of the source says it"),
        (expectation("column_values_to_be_between", column="z", min_value=1), "no column 'z'"),
        (expectation("column_values_to_be_between", column="s", min_value=1), "takes no str"),
        (expectation("column_max_to_be_between", column="q", min_value=1), "no counterpart"),
        (expectation("compound_columns_to_be_unique", column_list=["q", "s"]), "some nulls"),
        (expectation("column_values_to_be_between", column="q"), "has no limit"),
        (expectation("column_values_to_match_regex", column="s", regex="("), "not a regular"),
        (
            expectation("column_values_to_be_unique", column="q", row_condition="x > 1"),
            "a condition on rows",
        ),
    ],
)
def test_what_does_not_carry_over_is_listed(given: dict[str, Any], why: str) -> None:
    taken = from_gx(suite(given), SCHEMA)
    assert taken.rules == []
    (said,) = taken.left_out
    assert said.startswith((given["type"], "Between", "Matches"))
    assert why in said


RULES = [
    Between("q", 0, 10, severity="quarantine"),
    Between("x", above=0.5, below=1.5, severity="warn", name="share_of_x"),
    Between("day", DAY),
    OneOf("s", ["a", "b"]),
    Matches("s", r"[a-z]\d", name="whole"),
    Matches("s", "a", how="match", name="begins"),
    Matches("s", "b", how="search", name="has"),
    Length("s", 1, 3),
    NotNull("s", severity="warn"),
    NotNullShare("s", 0.5, name="some"),
    Share(OneOf("q", [1, 2]), 0.25),
    Unique("q"),
    Unique(["q", "s"]),
    RowCount(1, 10),
]


def test_a_suite_gives_back_the_rules_it_was_made_of() -> None:
    made, left_out = to_gx("orders", RULES)
    taken = from_gx(json.loads(json.dumps(made)), SCHEMA)
    assert (taken.rules, taken.left_out, left_out) == (RULES, [], [])


def test_a_suite_leaves_out_what_it_cannot_say() -> None:
    rules = [Holds(even), Fresh("1d"), Monotone("q"), RowCount(change=0.5), Between("q", 1)]
    made, left_out = to_gx("orders", rules)
    assert len(made["expectations"]) == 1
    assert [said.split(":")[0] for said in left_out] == [rule.written for rule in rules[:4]]


# As release 0.35 writes it.
PANDERA: dict[str, Any] = {
    "schema_type": "dataframe",
    "api": "pandas",
    "columns": {
        "q": {
            "dtype": "int64", "unique": True, "greater_than_or_equal_to": 0, "less_than": 5,
            "in_range": {
                "min_value": 0, "max_value": 10, "include_min": False, "include_max": True
            },
        },
        "s": {
            "dtype": "string[python]", "required": False, "isin": ["a", "b"],
            "str_matches": "[a-z]\\d", "notin": ["z"], "str_startswith": "a.",
            "str_length": {"min_value": 1, "max_value": 3, "exact_value": None},
        },
        "x": {
            "dtype": "float64", "nullable": True,
            "greater_than": {"min_value": 0, "raise_warning": True},
        },
        "day": {"dtype": "datetime64[ns]", "nullable": True, "less_than": "2024-01-02"},
    },
    "strict": True,
    "unique": ["q", "s"],
}  # fmt: skip


def test_a_schema_of_pandera_is_taken() -> None:
    taken = from_pandera(PANDERA, SCHEMA)
    assert taken.rules == [
        Unique("q"),
        Between("q", 0, below=5),
        Between("q", above=0, high=10, name="q_between_2"),
        NotNull("s"),
        OneOf("s", ["a", "b"]),
        Matches("s", "[a-z]\\d", how="match"),
        Matches("s", r"a\.", how="match", name="s_matches_2"),
        Length("s", 1, 3),
        Between("x", above=0, severity="warn"),
        Between("day", below=DAY),
        Unique(["q", "s"]),
    ]
    assert [said.split(":")[0] for said in taken.left_out] == [
        "column 's', notin=['z']",
        "strict=True",
    ]


def test_a_schema_of_pandera_gives_back_the_rules_it_was_made_of() -> None:
    rules = [RULES[1], *RULES[3:5], RULES[7], NotNull("s"), *RULES[11:13]]
    rules[0] = Between("x", above=0.5, below=1.5, severity="warn")
    rules[2] = Matches("s", r"[a-z]\d")
    made, left_out = to_pandera(SCHEMA, rules)
    taken = from_pandera(json.loads(json.dumps(made)), SCHEMA)
    assert left_out == []
    assert sorted(map(repr, taken.rules)) == sorted(map(repr, rules))
    _, left_out = to_pandera(SCHEMA, [Between("q", 1), Between("q", 2), Fresh("1d")])
    assert [said.split(": ")[1] for said in left_out] == [
        "the column has a check greater_than_or_equal_to already", "it has no counterpart"
    ]  # fmt: skip


def test_the_verbs_take_and_give(
    make_repo: MakeRepo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = 'Between("n", 1, 100, severity="quarantine"), Matches("sku", r"[A-Z]\\d+"), cheap'
    folder = make_repo(MODULE.format(rules=rules), {"orders": orders(*GOOD), "users": USERS})
    repo = ["--repo", str(folder)]
    for to in ("gx", "pandera"):
        file = tmp_path / f"{to}.json"
        assert main(["contracts", "export", "orders", "--to", to, "-o", str(file), *repo]) == 0
        assert "left out: Holds(cheap): it has no counterpart" in capsys.readouterr().err
        assert main(["contracts", "import", str(file), "--source", "orders", *repo]) == 0
        code = capsys.readouterr().out
        assert 'Matches("sku", r"[A-Z]\\d+")' in code
        assert code.startswith("from featurekit import Between, Matches\n")
    (tmp_path / "x.json").write_text("[1]")
    assert main(["contracts", "import", str(tmp_path / "x.json")]) == 2
    assert "no suite of Great Expectations" in capsys.readouterr().err
    assert main(["contracts", "import", str(tmp_path / "none.json")]) == 2
    with pytest.raises(DataError, match='no object "columns"'):
        from_pandera({"columns": 1})


def test_code_is_what_it_was_made_of() -> None:
    import featurekit

    names = {name: getattr(featurekit, name) for name in featurekit.__all__}
    names |= {"even": even, "datetime": dt}
    rules = [*RULES, Holds(even), Fresh("1d"), Matches("s", 'a"\\d', name="odd")]
    code = as_code(rules, ["what is lacking"])
    assert code.endswith("# left out: what is lacking\n")
    body = code.partition("expect=")[2].rpartition(",\n# left out")[0]
    assert eval(body, names) == rules
