"""Which files of a folder are a repo's modules, how they import each other, and what they hold."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from featurekit.define.modules import Watched
from featurekit.define.repo import Repo, load_repo
from featurekit.errors import CompileError, ConfigError, DefinitionError, DefinitionErrors

BASE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
user = Entity("user", join_keys={"user_id": int})
clicks = EventSource(
    "clicks", path="clicks.csv", schema={"user_id": int, "page": str}, timestamp_field="at"
)
def view(name):
    return FeatureView(name, entities=[user], source=clicks, features={"page": "page"})
"""


def load(folder: Path, files: dict[str, str], ignore: tuple[str, ...] = ()) -> Repo:
    """The repo of these files; BASE is in base.py."""
    for name, text in {"base.py": BASE, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return load_repo(folder, ignore)


def test_modules_in_sub_folders_are_loaded_at_any_depth(tmp_path: Path) -> None:
    repo = load(
        tmp_path,
        {
            "web/pages.py": "from base import view\na = view('a')",
            "web/deep/er/more.py": "from base import view\nb = view('b')",
        },
    )
    assert set(repo.views) == {"a", "b"}


IMPORTS = {
    "by name": "from shared.people import person",
    "a whole module": "import shared.people\nperson = shared.people.person",
    "relatively, up": "from ..shared.people import person",
    "through a package": "from shared import people\nperson = people.person",
    "of a neighbour": "from .near import person",
}


@pytest.mark.parametrize("how", IMPORTS)
@pytest.mark.parametrize("package", [False, True])
def test_modules_import_each_other_and_run_once(tmp_path: Path, how: str, package: bool) -> None:
    init = {"shared/__init__.py": "", "web/__init__.py": ""} if package else {}
    repo = load(
        tmp_path,
        {
            **init,
            "shared/people.py": "from base import view\nperson = view('person')",
            "web/near.py": "from shared.people import person",
            "web/pages.py": f"{IMPORTS[how]}\nfrom ..base import view\nkept = person",
        },
    )
    assert list(repo.views) == ["person"]


def test_a_module_of_the_folder_itself_imports_relatively(tmp_path: Path) -> None:
    assert list(load(tmp_path, {"a.py": "from .base import view\nx = view('x')"}).views) == ["x"]


def test_nothing_of_a_repo_stays_in_the_interpreter(tmp_path: Path) -> None:
    before, path = set(sys.modules), list(sys.path)
    load(tmp_path, {"a.py": "from base import view\nx = view('x')", "s/b.py": "import base, a"})
    assert not {n for n in set(sys.modules) - before if n.split(".")[0] in ("a", "base", "s")}
    assert "featurekit_repo" not in sys.modules
    assert (sys.path, sys.meta_path[0].__class__.__name__ != "_Aliases") == (path, True)


BAD = "raise RuntimeError('this module is no part of the repo')"
GOOD = {"a.py": "from base import view\nx = view('x')"}


@pytest.mark.parametrize(
    "name",
    ["test_a.py", "a_test.py", "conftest.py", "web/test_b.py", "tests/c.py", ".venv/lib/d.py",
     "node_modules/e.py", "setup.py", ".ipynb_checkpoints/f.py", "__pycache__/g.py"],
)  # fmt: skip
def test_tests_and_environments_are_no_modules(tmp_path: Path, name: str) -> None:
    assert list(load(tmp_path, {**GOOD, name: BAD}).views) == ["x"]


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("scratch.py", "scratch.py"),
        ("scratch.py", "web/scratch.py"),
        ("/web/", "web/b.py"),
        ("**/try_*.py", "deep/er/try_this.py"),
        ("# a comment\n\n*.py\n!a.py\n!base.py", "other.py"),
    ],
)
def test_an_ignore_file_has_the_syntax_of_gitignore(
    tmp_path: Path, pattern: str, name: str
) -> None:
    with pytest.raises(DefinitionError, match="no part of the repo"):
        load(tmp_path, {**GOOD, name: BAD})
    assert list(load(tmp_path, {".featurekitignore": pattern}).views) == ["x"]
    (tmp_path / ".featurekitignore").unlink()
    assert list(load_repo(tmp_path, pattern.split("\n")).views) == ["x"]


def test_an_ignore_file_that_is_edited_in_place_changes_which_modules_there_are(
    tmp_path: Path,
) -> None:
    """Its folder stays as it is, and so does its length."""
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("")
    ignored = tmp_path / ".featurekitignore"
    ignored.write_text("a.py")
    watched = Watched(tmp_path)
    assert not watched.changed()
    ignored.write_text("b.py")
    assert watched.changed()
    assert not watched.changed()


def test_a_pattern_takes_a_test_in_again(tmp_path: Path) -> None:
    files = {"test_x.py": "from base import view\nx = view('x')", ".featurekitignore": "!test_x.py"}
    assert list(load(tmp_path, files).views) == ["x"]


def test_a_sub_folder_with_settings_is_another_repo(tmp_path: Path) -> None:
    files = {**GOOD, "other/feature_store.yaml": "project: other", "other/b.py": BAD}
    assert list(load(tmp_path, files).views) == ["x"]


def test_an_ignore_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".featurekitignore").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"\.featurekitignore cannot be read"):
        load(tmp_path, GOOD)


@pytest.mark.parametrize("name", ["json.py", "redis.py", "email/a.py"])
def test_a_module_must_not_hide_a_library(tmp_path: Path, name: str) -> None:
    with pytest.raises(DefinitionError, match="hides a library; rename it, or leave it out"):
        load(tmp_path, {**GOOD, name: "x = 1"})


@pytest.mark.parametrize(
    "kept",
    ["[s]", "(s,)", "{'one': s}", "{'many': [s]}", "[{'deep': (s,)}]", "{s.name: {'x': [s]}}"],
)
def test_services_in_lists_and_dicts_are_found(tmp_path: Path, kept: str) -> None:
    text = f"""
from base import *
def make():
    s = FeatureService("s", features=[view("v")])
    return {kept}
made = make()
"""
    repo = load(tmp_path, {"a.py": text})
    assert (list(repo.services), list(repo.views), repo.unnamed) == (["s"], ["v"], [])


def test_what_a_module_makes_and_does_not_hold_is_told(tmp_path: Path) -> None:
    text = "from base import *\nx = view('x')\n[FeatureService('lost', features=[x])]\nview('gone')"
    repo = load(tmp_path, {"a.py": text})
    assert [(d.name, str(d.place)) for d in repo.unnamed] == [
        ("lost", f"{tmp_path / 'a.py'}:3"),
        ("gone", f"{tmp_path / 'base.py'}:8"),
    ]


# --- faults ---------------------------------------------------------------------------------------

FAULTS = """
from base import *
one = Entity("one", join_keys={"k": float})
of_one = FeatureView("of_one", entities=[one], source=clicks, features={"page": "page"})
service = FeatureService("service", features=[of_one[["page"]]])
two = FeatureView("two", entities=[user], source=clicks, features={"page": "pgae"})
of_two = FeatureService("of_two", features=[two])

@feature
def long(page: str) -> int:
    return len(open(page).read())

three = FeatureView("three", entities=[user], source=clicks, features={"long": long})
"""


def test_all_faults_of_a_repo_are_told_at_once_and_each_once(tmp_path: Path) -> None:
    with pytest.raises(DefinitionErrors) as raised:
        load(tmp_path, {"a.py": FAULTS, "b.py": "import a\n1 / 0", "c.py": "import b\n("})
    at = [fault.place for fault in raised.value.faults]
    files = {name: str(tmp_path / f"{name}.py") for name in "abc"}
    assert at == [
        f"{files['a']}:3",
        f"{files['b']}:2",
        f"{files['c']}:2",
        f"{files['a']}:11",
        f"{files['a']}:6",
    ]
    assert str(raised.value).startswith("5 faults:\n\n")
    assert isinstance(raised.value.faults[3], CompileError)


def test_one_fault_is_raised_as_itself(tmp_path: Path) -> None:
    with pytest.raises(CompileError):
        load(
            tmp_path,
            {
                "a.py": FAULTS.replace("float", "int")
                .replace("pgae", "page")
                .replace('"k"', '"user_id"')
            },
        )


def test_a_fault_is_placed_at_the_feature_that_it_is_about(tmp_path: Path) -> None:
    text = """
from base import *
from featurekit.aggregates import *
v = FeatureView(
    "v",
    entities=[user],
    source=clicks,
    features={
        "one": Count(window="1d"),
        "two": Sum("page", window="1d"),
        **{f"made_{n}": Last("gone", window=f"{n}d") for n in (1, 2)},
    },
)
"""
    with pytest.raises(DefinitionError) as raised:
        load(tmp_path, {"a.py": text})
    assert raised.value.place == f"{tmp_path / 'a.py'}:10"


def test_the_line_of_a_syntax_error_is_shown_with_a_caret(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as raised:
        load(tmp_path, {"a.py": "x = 1\nif x:\n    y = (1,\n"})
    assert str(raised.value) == (
        f"{tmp_path / 'a.py'}:3:9: SyntaxError: '(' was never closed\n"
        "    y = (1,\n"
        "        ^\n"
        "  hint: this ( is closed nowhere below: write the ) after what it holds"
    )


def test_an_exit_in_a_module_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"a\.py:1: SystemExit: 3\n.*\n  hint: .*leave"):
        load(tmp_path, {"a.py": "raise SystemExit(3)"})
