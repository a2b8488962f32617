"""Turns training sets in files into what DVC tracks: the rows go into its cache, and a small file
with their MD5 and size goes into git, beside the manifest.

DVC is asked by its own command, which may be installed apart from featurekit, as by pipx.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.core.attributes import Named
from featurekit.errors import ConfigError, DataError, WriteError
from featurekit.offline.manifest import MANIFEST, ContentHash, labels_beside, read_manifest

_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Tracked(Named):
    """A training set that DVC tracks: the MD5 and the bytes of each of its files by path, the
    `content_hash` of its rows (F2), and `commit`, the files that git is to keep."""

    files: Mapping[str, tuple[str, int]]
    content_hash: str
    commit: tuple[str, ...]


def track(path: str | os.PathLike[str]) -> Tracked:
    """Let DVC track the training set that `to_parquet` or `to_csv` wrote to `path`, and its labels.

    The manifest stays as it is, for git: it is small, and says which features of which events these
    are. ConfigError where DVC is not installed, DataError where there is no training set, its rows
    are not those of its manifest, or the folder is in no repository of DVC; WriteError for what DVC
    says otherwise.
    """
    command = _command()
    rows = Path(path).absolute()
    beside = rows.with_name(f"{rows.name}{MANIFEST}")
    if not rows.is_file() or not beside.is_file():
        lacking = rows if not rows.is_file() else beside
        raise DataError(
            f"{lacking}: there is no such file; write the training set with to_parquet or "
            "`featurekit get-historical -o`, and name its file"
        )
    told = read_manifest(beside)
    _check_rows(rows, told)
    files = [rows, *(one for one in [labels_beside(beside)] if one.is_file())]
    root = _root(rows.parent)
    run = subprocess.run(
        [command, "add", "--", *(str(file.relative_to(root)) for file in files)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    if run.returncode:
        said = " ".join(run.stderr.split()).removeprefix("ERROR: ")
        raise WriteError(f"dvc add {rows}: {said or f'it ended with {run.returncode}'}")
    pointers = [file.with_name(f"{file.name}.dvc") for file in files]
    found = {str(f): _pointed(p) for f, p in zip(files, pointers, strict=True)}
    ignored = rows.with_name(".gitignore")
    commit = [*pointers, beside, *([ignored] if ignored.is_file() else [])]
    return Tracked(found, str(told["content_hash"]), tuple(map(str, commit)))


def _command() -> str:
    found = shutil.which("dvc")
    if found is None:
        raise ConfigError(
            "DVC is not installed: there is no command dvc; pip install 'featurekit[dvc]', or "
            "install it apart, as by `pipx install dvc`"
        )
    return found


def _root(folder: Path) -> Path:
    """The folder of the repository of DVC that a folder is in."""
    for above in (folder, *folder.parents):
        if (above / ".dvc").is_dir():
            return above
    raise DataError(
        f"{folder}: it is in no repository of DVC; run `git init` and `dvc init` in the folder "
        "that is to be one"
    )


def _check_rows(rows: Path, told: Mapping[str, Any]) -> None:
    """DataError where a Parquet file has other rows than its manifest says. Of CSV that cannot be
    told, since its columns have no types."""
    if rows.suffix.lower() == ".csv":
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(rows)
        digest = ContentHash(file.schema_arrow)
        for batch in file.iter_batches():
            digest.update(batch)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{rows}: no training set in Parquet can be read there ({error})") from None
    if digest.hexdigest() != told["content_hash"]:
        raise DataError(
            f"{rows}: its rows are not those of its manifest: their content hash is "
            f"{digest.hexdigest()[:12]}, and the manifest's is {told['content_hash'][:12]}; write "
            "it again, or `dvc checkout` the file that the manifest is of"
        )


def _pointed(pointer: Path) -> tuple[str, int]:
    """The MD5 and the size that a file of DVC names."""
    fields = dict(_fields(pointer))
    return fields["md5"], int(fields["size"])


def _fields(pointer: Path) -> Iterator[tuple[str, str]]:
    for line in pointer.read_text(encoding="utf-8").splitlines():
        name, colon, value = line.lstrip("- ").partition(": ")
        if colon:
            yield name, value
