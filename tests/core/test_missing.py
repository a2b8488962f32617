"""What is said of a path at which nothing is: where it was looked for, and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurekit.core.missing import no_file, no_folder, no_match


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("labels.csv", "data/orders.csv", "data/visits.parquet", ".hidden.csv"):
        (tmp_path / name).write_text("x\n1\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("label.csv", "labels.csv"),
        ("data/order.csv", "data/orders.csv"),
        ("orders.csv", "data/orders.csv"),
        ("dat/orders.csv", "data/orders.csv"),
    ],
)
def test_a_file_that_is_nearly_there_is_named(folder: Path, written: str, meant: str) -> None:
    said = no_file(written, folder)
    assert said.startswith(f"there is no file {written!r} in {folder}")
    assert said.endswith(f"; did you mean {meant!r}?")


def test_files_of_the_same_kind_are_listed_where_none_is_near(folder: Path) -> None:
    assert no_file("zzz.csv", folder).endswith(
        "; the folder has labels.csv: write the path of a file that is there"
    )
    assert no_file("zzz.jsonl", folder).endswith("; write the path of a file that is there")


def test_a_folder_that_is_nearly_there_is_named(folder: Path) -> None:
    assert no_folder("dta", folder).endswith("; did you mean 'data'?")
    assert no_folder("zzz", folder) == f"there is no folder 'zzz' in {folder}"
    assert no_folder(folder / "zzz") == f"there is no folder {str(folder / 'zzz')!r}"


def test_a_path_that_is_none_is_no_file(folder: Path) -> None:
    for written in ("a\0b", "x" * 5000, ""):
        assert no_file(written, folder).startswith("there is no file")


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("data/2026/*.csv", "data/*.csv"),
        ("data/o*.parquet", "data/o*.csv"),
        ("dat/*.csv", "data/*.csv"),
    ],
)
def test_a_glob_that_matches_is_proposed(folder: Path, pattern: str, meant: str) -> None:
    said = no_match(pattern, folder)
    assert said.startswith(f"no file matches {pattern!r} in {folder}")
    assert said.endswith(f"; did you mean {meant!r}?")


def test_a_glob_beside_which_nothing_matches_says_so(folder: Path) -> None:
    assert no_match("zzz/*.orc", folder).endswith("; write a glob whose files are there")
