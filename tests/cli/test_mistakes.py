"""What a beginner reads after each of the mistakes of `mistakes.py`: where, what was found, and
what to write instead.

The texts stand in snapshots/mistakes.txt; `FEATUREKIT_SNAPSHOTS=write pytest` rewrites them, and
their diff is the review.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mistakes import BY_NAME, MISTAKES, Mistake, fill, provoke, write_repo

from featurekit.online.store.server import release

SNAPSHOTS = Path(__file__).parents[1] / "snapshots" / "mistakes.txt"
FOREIGN = ("Traceback", "duckdb.", "pyarrow.", "redis.exceptions", "pydantic", "bug in featurekit")
KNOWN_CLASSES = {
    *("ArgumentError", "ConfigError", "DataError", "DefinitionError", "EntityFrameError"),
    *("BadRowError", "NotServed", "OnlineError", "RegistryError", "SourceError"),
    *("StoreUnavailable", "TypeError", "AttributeError"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Path]]:
    """The repo as it is written, and the repo that is applied and filled."""
    base = tmp_path_factory.mktemp("mistakes")
    made = {live: base / ("live" if live else "fresh") / "shop" for live in (False, True)}
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("FEATUREKIT_REDIS_URL", raising=False)
        patched.delenv("SHOP_REDIS", raising=False)
        patched.setenv("COLUMNS", "100")
        for folder in made.values():
            write_repo(folder)
        fill(made[True])
        if os.environ.get("FEATUREKIT_SNAPSHOTS") == "write":
            texts = [f"=== {m.name}\n{said_of(m, made)}\n" for m in MISTAKES]
            SNAPSHOTS.write_text("\n".join(texts), encoding="utf-8")
        yield made
        for folder in made.values():
            release(folder / ".featurekit" / "redis")


def said_of(mistake: Mistake, folders: dict[bool, Path]) -> str:
    """What is said of a mistake. How argparse lays out a usage depends on the Python."""
    said = provoke(mistake, folders[mistake.live])
    return re.sub(r"^usage: .*?(?=^featurekit: )", "", said, flags=re.M | re.S)


def snapshots() -> dict[str, str]:
    """The texts of the snapshot, by the names of the mistakes."""
    parts = re.split(r"^=== (\w+)\n", SNAPSHOTS.read_text(encoding="utf-8"), flags=re.M)[1:]
    return {name: text.strip("\n") for name, text in zip(parts[::2], parts[1::2], strict=True)}


def test_there_are_many_mistakes_and_each_has_a_name() -> None:
    assert len(BY_NAME) == len(MISTAKES) > 107


@pytest.mark.parametrize("name", BY_NAME)
def test_a_mistake_is_explained_as_the_snapshot_says(name: str, folders: dict[bool, Path]) -> None:
    assert said_of(BY_NAME[name], folders) == snapshots()[name]


def test_no_mistake_is_answered_in_the_words_of_a_library() -> None:
    for name, said in snapshots().items():
        assert not [word for word in FOREIGN if word in said], name
        first = said.split("\n")[0]
        if not first.startswith("exit "):
            assert first.partition(":")[0] in KNOWN_CLASSES, name


def test_no_mistake_in_a_definition_passes_in_silence() -> None:
    silent = {name for name, said in snapshots().items() if said.startswith(("exit 0", "nothing"))}
    assert silent == set()


@pytest.mark.parametrize("name", [m.name for m in MISTAKES if m.file == "features.py" and m.old])
def test_a_fault_of_a_definition_names_its_file_and_line(name: str) -> None:
    if BY_NAME[name].run != "plan":
        return  # a fault of the files, which names them
    said = snapshots()[name]
    whole_repo = "defines no FeatureView" in said
    assert whole_repo or re.search(r"(features|more)\.py:\d+", said), said
