"""`list`, `describe`, `search` and `completion`, errors as JSON, options in any order, and tables
that fit."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mistakes import FEATURES, write_repo

from featurekit.cli import main
from featurekit.cli.arguments import Parser
from featurekit.cli.parser import parser
from featurekit.core.screen import Screen
from featurekit.online.store.redis import RedisStore

DESCRIBED = FEATURES.replace(
    "source=orders,",
    'source=orders,\n    owner="growth",\n    description="What customers bought",\n'
    '    tags={"team": "shop"},',
)


@pytest.fixture
def shop(
    tmp_path: Path, redis_url: str, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The shop, described, in the current folder."""
    write_repo(tmp_path)
    (tmp_path / "features.py").write_text(DESCRIBED, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", redis_url)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(argv))
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    code, out, err = run(capsys, *argv, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_list_shows_features_with_types_owners_versions_and_freshness(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = document(capsys, "list")["features"]
    assert [(f["name"], f["type"], f["owner"], f["state"], f["fresh_until"]) for f in new][:2] == [
        ("customer_orders:spend_7d", "float", "growth", "new", None),
        ("customer_orders:orders_30d", "int", "growth", "new", None),
    ]
    assert new[-1]["name"] == "checkout:basket_vs_habit"
    assert not (shop / ".featurekit").exists(), "nothing was applied, so Redis is not asked"
    run(capsys, "apply")
    assert {f["state"] for f in document(capsys, "list")["features"]} == {"applied"}
    until = json.loads(run(capsys, "materialize", "--json")[1])["until"]
    filled = document(capsys, "list")["features"]
    assert [f["state"] for f in filled] == ["filled"] * 4 + ["live"]
    assert {f["fresh_until"] for f in filled} == {until}
    text = DESCRIBED.replace('window="7d"', 'window="8d"')
    (shop / "features.py").write_text(text, encoding="utf-8")
    (view,) = document(capsys, "list", "views")["views"]
    assert (view["state"], view["fresh_until"]) == ("changed", None)


def test_list_shows_every_kind(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {
        kind: [item["name"] for item in document(capsys, "list", kind)[kind]]
        for kind in ("views", "services", "sources", "entities")
    }
    assert names == {
        "views": ["customer_orders"],
        "services": ["checkout"],
        "sources": ["orders"],
        "entities": ["customer"],
    }
    assert run(capsys, "list", "--of", "checkout")[1].splitlines()[1].startswith("checkout:basket")
    assert run(capsys, "list", "view")[0] == 64


def test_list_works_where_redis_is_not_reached(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(capsys, "apply")
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", "redis://127.0.0.1:1/0")
    assert {f["state"] for f in document(capsys, "list")["features"]} == {"applied"}


def test_describe_tells_all_of_one_thing(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = document(capsys, "describe", "customer_orders:spend_7d")["found"]
    assert found["definition"] == "Sum of @feature amount over 1w, else 0.0"
    assert (found["owner"], found["tags"], found["keys"]) == (
        "growth",
        {"team": "shop"},
        {"customer_id": "int"},
    )
    assert found["place"].endswith("features.py:27")
    (service,) = document(capsys, "describe", "checkout")["found"]
    assert service["request"] == {"basket_value": "float"}
    (source,) = document(capsys, "describe", "orders")["found"]
    assert source["views"] == ["customer_orders"]
    assert document(capsys, "describe", "spend_7d")["found"] == [found]
    shown = run(capsys, "describe", "customer_orders")[1]
    assert "What customers bought" in shown
    code, _, err = run(capsys, "describe", "customer_order")
    assert code == 2
    assert "defines no 'customer_order'; did you mean 'customer_orders'?" in err


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["SPEND"], {"customer_orders:spend_7d", "customer_orders", "checkout"}),
        (["bought", "sum"], {"customer_orders:spend_7d"}),
        (["customer_id"], {"customer_orders", "orders", "customer", "checkout", "customer_orders:"
                           "spend_7d", "customer_orders:orders_30d", "customer_orders:country",
                           "customer_orders:mean_order_30d"}),
        (["nothing", "at", "all"], set()),
    ],
)  # fmt: skip
def test_search_finds_what_holds_every_word(
    shop: Path, capsys: pytest.CaptureFixture[str], words: list[str], names: set[str]
) -> None:
    assert {item["name"] for item in document(capsys, "search", *words)["found"]} == names
    assert run(capsys, "search", *words)[0] == 0


def test_search_shows_the_names_that_fit_first(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [item["name"] for item in document(capsys, "search", "country")["found"]]
    assert names[0] == "customer_orders:country"
    assert {"orders", "customer_orders"} <= {*names[1:]}, "its column and its feature"
    orders = [item["name"] for item in document(capsys, "search", "orders")["found"]]
    assert orders[0] == "orders"
    assert orders[1] == "customer_orders:orders_30d"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--owner", "GROW", "--kind", "view"], ["customer_orders"]),
        (["--owner", "nobody"], []),
        (["--tag", "team", "--kind", "view"], ["customer_orders"]),
        (["--tag", "team=shop", "spend_7d", "--kind", "feature"], ["customer_orders:spend_7d"]),
        (["--tag", "team=other"], []),
        (["--tag", "team", "--tag", "none"], []),
        (["--deprecated"], []),
        (["--kind", "entity"], ["customer"]),
    ],
)
def test_search_by_owner_tag_and_kind(
    shop: Path, capsys: pytest.CaptureFixture[str], options: list[str], names: list[str]
) -> None:
    assert [item["name"] for item in document(capsys, "search", *options)["found"]] == names


def test_search_says_what_was_meant(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'customer_orders'?" in run(capsys, "search", "custmer_orders")[1]
    assert run(capsys, "search", "zzz")[1].startswith("Nothing has 'zzz'; `featurekit list`")
    assert run(capsys, "search")[0] == 64
    code, _, err = run(capsys, "search", "--kind", "feture")
    assert code == 2
    assert "did you mean 'feature'" in err


def test_list_by_owner_and_tag(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "list", "views", "--owner", "growth", "--tag", "team=shop")
    assert [one["name"] for one in found["views"]] == ["customer_orders"]
    assert document(capsys, "list", "views", "--tag", "team=b")["views"] == []


# --- exit codes and errors ------------------------------------------------------------------------


def test_detailed_exitcode_tells_drift_from_none_and_from_errors(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ("plan", "--detailed-exitcode")
    assert run(capsys, *plan)[0] == 2
    assert run(capsys, "plan")[0] == 0
    run(capsys, "apply")
    assert run(capsys, *plan)[0] == 0
    for wrong in (DESCRIBED.replace('"country": str', '"country": int'), "x ="):
        (shop / "features.py").write_text(wrong, encoding="utf-8")
        assert run(capsys, *plan)[0] == 1
        assert run(capsys, "plan")[0] == 2


ERRORS = {
    "a definition": (("plan",), 2, "DefinitionErrors"),
    "a usage": (("get-online",), 64, "UsageError"),
    "an option": (("plan", "--nope"), 64, "UsageError"),
    "a verb": (("plam",), 64, "UsageError"),
    "a value": (("get-online", "checkout", "x"), 64, "UsageError"),
    "a name": (("versions", "nope"), 2, "RegistryError"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_json_where_json_is_asked_for(
    shop: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    argv, code, kind = ERRORS[name]
    two = DESCRIBED.replace('"customer_id": int}', '"customer_id": float}', 1).replace(
        "checkout = F", "1 / 0\ncheckout = F"
    )
    (shop / "features.py").write_text(two, encoding="utf-8")
    done, out, err = run(capsys, "--json", *argv)
    error = json.loads(out)["error"]
    assert (done, error["exit_code"], error["type"]) == (code, code, kind)
    assert error["message"] in err
    if name == "a definition":
        assert [fault["place"].rpartition(":")[2] for fault in error["faults"]] == ["4", "42"]
    assert run(capsys, *argv)[1] == ""


ORDERS = [
    ["checkout", "customer_id=1", "basket_value=3", "--as-of", "2026-10-04"],
    ["checkout", "--as-of", "2026-10-04", "customer_id=1", "basket_value=3"],
    ["--as-of", "2026-10-04", "checkout", "customer_id=1", "basket_value=3"],
    ["checkout", "customer_id=1", "--as-of", "2026-10-04", "basket_value=3"],
    ["checkout", "customer_id=1", "--as-of=2026-10-04", "basket_value=3", "--repo", "."],
]


def test_options_and_values_stand_in_any_order(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "apply")
    run(capsys, "materialize")
    first, *others = [document(capsys, "get-online", *order) for order in ORDERS]
    assert first["rows"][0]["features"]["spend_7d"] == 18.4
    assert all(other == first for other in others)
    listed = ["--features", "customer_orders:spend_7d,basket_vs_habit", "--as-of", "2026-10-04"]
    found = document(capsys, "get-online", *listed, "customer_id=1", "basket_value=3")
    assert found["rows"][0]["features"] == {
        n: first["rows"][0]["features"][n] for n in ("spend_7d", "basket_vs_habit")
    }
    told = document(
        capsys, "get-historical", "labels.csv", "--features", "customer_orders:spend_7d"
    )
    assert told["first_rows"][0]["spend_7d"] == 18.4


def test_verbs_work_from_a_sub_folder(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop / "data")
    assert document(capsys, "plan")["project"] == "shop"


# --- completion -----------------------------------------------------------------------------------


def filled(made: Parser) -> Iterator[Parser]:
    made.fill()
    yield made
    for action in made._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from filled(below)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_verb_and_option(
    capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    code, script, _ = run(capsys, "completion", shell)
    assert code == 0
    for made in filled(parser()):
        for action in made._actions:
            for option in action.option_strings:
                assert option.lstrip("-") in script, (made.prog, option)
            if isinstance(action, argparse._SubParsersAction):
                assert all(name in script for name in action.choices)


def test_bash_completes_verbs_and_options(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(run(capsys, "completion", "bash")[1], encoding="utf-8")

    def complete(*words: str) -> set[str]:
        asked = (
            f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); '
            'COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; '
            '$(complete -p featurekit | sed "s/.*-F \\([^ ]*\\).*/\\1/") featurekit "${@: -1}" ""; '
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "-c", asked, "bash", *words], capture_output=True, text=True, check=False
        )
        return {line.strip() for line in done.stdout.splitlines()}

    assert complete("featurekit", "mat") == {"materialize"}
    assert {"--as-of", "--features"} <= complete("featurekit", "get-online", "--")


# --- tables ---------------------------------------------------------------------------------------

COLUMNS = ("name", "type", "owner", "version", "until")
ROWS = [
    ("customer_orders:mean_order_30d", "float | None", "growth", "9e69782e922e", "2026-12-01"),
    ("x", "int", None, "4d270ca1aec3", None),
]


def shown(monkeypatch: pytest.MonkeyPatch, columns: int | None) -> list[str]:
    """The lines of a table, in a terminal of so many columns or in a pipe."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    Screen().table(COLUMNS, ROWS)
    return out.getvalue().splitlines()


def test_a_row_is_a_line_in_a_pipe_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROWS", [("n" * 200, "t" * 200, "o", "v", "u"), *ROWS])
    head, *lines = shown(monkeypatch, None)
    assert head.split() == list(COLUMNS)
    assert [line.split()[0] for line in lines] == [row[0] for row in ROWS]


def test_a_narrow_terminal_shows_each_row_as_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 40)
    assert max(map(len, lines)) <= 40
    assert lines == [
        "name customer_orders:mean_order_30d",
        "  type: float | None",
        "  owner: growth",
        "  version: 9e69782e922e",
        "  until: 2026-12-01",
        "name x",
        "  type: int",
        "  version: 4d270ca1aec3",
    ]


def test_a_wide_terminal_shows_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(shown(monkeypatch, 100)) == 1 + len(ROWS)
