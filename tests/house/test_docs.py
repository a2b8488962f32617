"""Docs name only what is there: files and folders, names of Python, commands, and the rooms."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_imports import RANKS

from featurekit.errors import ConfigError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
REFERENCE = set(
    re.findall(
        r'^        "(\w+)": _', (ROOT / "docs" / "site.py").read_text(encoding="utf-8"), re.M
    )
)
"""The pages that the site makes from the code."""
STARTER = ("features.py",)
"""The files of the repo that `init` writes."""

FENCE = re.compile(r"^```.*?^```", re.M | re.S)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(
    r"(?<![\w./*-])\.?\w[\w.-]*(?:/[\w.-]+)*(?:/|\.(?:py|md|svg|png|json|yml|toml)\b)"
)
FOLDERS = ("featurekit", "tests", "docs", "benchmarks", "locks")
NAME = re.compile(r"\b(?:featurekit|tests|benchmarks)(?:\.[A-Za-z_]\w*)+")
COMMAND = re.compile(r"(?<!from )(\./run|python -m|\bfeaturekit|\bmake) ([a-z][\w.-]*)")


def names(text: str) -> Iterator[str]:
    """Names of Python that are written with their package, in prose or in code."""
    for name in NAME.findall(text):
        if not name.endswith((".py", ".html", ".svg")):
            yield name


def paths(text: str) -> Iterator[str]:
    """Paths of files and folders that stand in prose as code. A file in a folder is one, and so is
    a folder of the repo or of the package; another folder belongs to the reader."""
    for code in CODE.findall(FENCE.sub("", text)):
        for path in PATH.findall(code):
            top = path.split("/")[0]
            if path.endswith("/"):
                if top in FOLDERS or (ROOT / "featurekit" / top).is_dir():
                    yield path
            elif path.endswith(".py") or top in FOLDERS:
                yield path


def there(path: str) -> bool:
    """Whether a path of the repo or of the package exists."""
    return path in STARTER or any((base / path).exists() for base in (ROOT, ROOT / "featurekit"))


def importable(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    if name.startswith("tests."):
        parts = ROOT.joinpath(*name.split("."))
        return parts.is_dir() or parts.with_suffix(".py").exists()
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        except ConfigError:  # a plugin is there, and its library is not
            listed = ROOT.joinpath(*parts[:cut], "__init__.py")
            offers = listed.exists() and f'"{parts[-1]}",' in listed.read_text(encoding="utf-8")
            return cut == len(parts) or offers
        for part in parts[cut:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def commands() -> dict[str, set[str]]:
    """What each of our programs can be told."""
    run = (ROOT / "run").read_text(encoding="utf-8")
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    verbs = importlib.import_module("featurekit.cli.verbs").VERBS
    return {
        "./run": set(re.findall(r"^([a-z][a-z-]*)(?: \|.*)?\)$", run, re.M)),
        "make": set(re.findall(r"^([a-z][a-z-]*):", make, re.M)),
        "featurekit": set(verbs),
    }


def faults(text: str, where: Path) -> list[str]:
    """What a page names that is not there."""
    found = [f"no file {path}" for path in paths(text) if not there(path)]
    found += [f"nothing is named {name}" for name in names(text) if not importable(name)]
    known = commands()
    code = [
        *CODE.findall(text),
        *(line for fence in FENCE.findall(text) for line in fence.split("\n")),
    ]
    for program, what in (pair for one in code for pair in COMMAND.findall(one)):
        if program == "python -m":
            if what.split(".")[0] in ("tests", "benchmarks") and not importable(what):
                found.append(f"no module {what}")
        elif what not in known[program]:
            found.append(f"no command {program} {what}")
    for target in LINK.findall(FENCE.sub("", text)):
        path, _, place = target.partition("#")
        if ":" in target:
            continue
        page = where.parent / path if path else where
        if page.parent.name == "reference" and page.stem in REFERENCE:
            continue
        if not page.exists():
            found.append(f"no file {target}")
        elif place and place not in anchors(page):
            found.append(f"no heading {target}")
    return found


def anchors(page: Path) -> set[str]:
    """The places of a page, as GitHub names its headings."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    assert faults(page.read_text(encoding="utf-8"), page) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("see `offline/attic.py`", "no file offline/attic.py"),
        ("see `attic.py`", "no file attic.py"),
        ("see `featurekit/attic/`", "no file featurekit/attic/"),
        ("see `tests/test_attic.py`", "no file tests/test_attic.py"),
        ("see [here](attic.md)", "no file attic.md"),
        ("see [here](../README.md#the-attic)", "no heading ../README.md#the-attic"),
        ("as `featurekit.attic`", "nothing is named featurekit.attic"),
        ("as `featurekit.errors.Attic`", "nothing is named featurekit.errors.Attic"),
        ("run `./run attic`", "no command ./run attic"),
        ("```\nmake attic\n```", "no command make attic"),
        ("run `featurekit attic --all`", "no command featurekit attic"),
        ("run `python -m tests.attic`", "no module tests.attic"),
    ],
)
def test_a_planted_fault_is_told(text: str, fault: str) -> None:
    assert fault in faults(text, ROOT / "docs" / "page.md")


@pytest.mark.parametrize(
    "text",
    [
        "`offline/join.py`, `offline/`, `featurekit/offline/join.py`, `tests/rules/`, `store.py`",
        "`a // b`, `data/orders.parquet`, `my_repo/`, `-0.0`, ```\nmake ci\n```",
        "`featurekit.errors.UnprovenEngine`, `python -m tests.planted --diagnose`",
        "```python\nfrom featurekit import FeatureStore\n```",
    ],
)
def test_what_is_there_is_no_fault(text: str) -> None:
    assert faults(text, ROOT / "docs" / "page.md") == []


def test_make_lists_the_commands_of_run() -> None:
    known = commands()
    assert known["make"] - {"ci"} == known["./run"] | {"help"}
    listed = re.findall(r"^#   \./run ([\w-]+)", (ROOT / "run").read_text(encoding="utf-8"), re.M)
    assert {*listed, "help"} == known["./run"] | {"help"}


def test_the_rooms_are_listed_in_the_order_of_their_imports() -> None:
    page = (ROOT / "docs" / "how_it_works.md").read_text(encoding="utf-8")
    listed = re.findall(r"^[├└]── (\w+)(?:/|\.py) ", page, re.M)
    rooms = {p.stem for p in (ROOT / "featurekit").iterdir()} - {"__init__", "__pycache__", "py"}
    assert sorted(listed) == sorted(rooms)
    assert listed == sorted(listed, key=RANKS.__getitem__)


def test_every_folder_of_the_house_says_what_it_is() -> None:
    silent = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "featurekit").rglob("__init__.py"))
        if not path.read_text(encoding="utf-8").startswith('"""')
    ]
    assert silent == []
