"""The recipes of docs/train.md for other trackers, run offline: each keeps the bytes of contract
and manifest."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurekit import Contract

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
KEPT = ("churn.contract.json", "train.parquet.manifest.json")


def block(begins: str) -> str:
    """The block of Python of the page that has a line."""
    found = [text for text in re.findall(r"```python\n(.*?)^```", PAGE, re.M | re.S)
             if re.search(rf"^{begins}$", text, re.M)]  # fmt: skip
    assert len(found) == 1
    return str(found[0])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repo that `featurekit init` writes, with the labels of the page, applied."""
    above = tmp_path_factory.mktemp("trackers")
    featurekit("init", "shop", folder=above)
    (label,) = re.findall(r"cat > future.py <<'EOF'\n(.*?)^EOF", PAGE, re.M | re.S)
    (above / "shop" / "future.py").write_text(label)
    featurekit("apply", folder=above / "shop")
    return above / "shop"


def featurekit(*words: str, folder: Path) -> None:
    run([sys.executable, "-m", "featurekit.cli", *words], folder)


def run(command: list[str], folder: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder),
           "WANDB_DATA_DIR": str(folder), "WANDB_CACHE_DIR": str(folder / "cache")}  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3_000:]


def contents(folder: Path, patterns: tuple[str, ...]) -> Iterator[bytes]:
    """The bytes of all that lies below, and in archives there."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.suffix == ".zip":
                with zipfile.ZipFile(path) as archive:
                    yield from map(archive.read, archive.namelist())
            elif path.is_file():
                yield path.read_bytes()


@pytest.mark.parametrize(
    ("package", "begins", "where"),
    [
        ("wandb", "import wandb", ("artifacts/staging/**/*", "wandb/**/*")),
        ("comet_ml", "import comet_ml", ("comet/*.zip",)),
        ("neptune", "import neptune", (".neptune/**/*",)),
    ],
)
def test_a_tracker_keeps_contract_and_manifest(
    shop: Path, package: str, begins: str, where: tuple[str, ...]
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"not installed: {package}")
    code = block('training.to_parquet\\("train.parquet"\\)') + block(begins)
    run([sys.executable, "-P", "-W", "ignore", "-c", code], shop)
    kept = list(contents(shop, where))
    for name in KEPT:
        wanted = (shop / name).read_bytes()
        assert wanted in kept, name
    assert Contract.load(shop / KEPT[0]).service == "checkout"
