"""The pages that commands write: axe-core finds no barrier, wide or narrow, in light or dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, LOOKS, Page, browser

from featurekit.cli import main
from featurekit.online.store.server import release

PAGES = {
    "parity": ("parity", "sample", "checkout", "--values", "200"),
    "operators": ("parity", "operators", "--only", "round", "--values", "1000"),
    "contracts": ("validate",),
    "lineage": ("lineage", "checkout"),
}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shop") / "feature_repo"
    assert main(["init", str(folder)]) == 0
    try:
        assert main(["--repo", str(folder), "apply"]) == 0
        assert main(["--repo", str(folder), "materialize"]) == 0
        yield folder
    finally:
        release(folder / ".featurekit" / "redis")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.mark.parametrize("kind", PAGES)
def test_axe_finds_nothing(shop: Path, page: Page, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "page.html"
    main(["--repo", str(shop), *PAGES[kind], "--html", str(path)])
    for width, dark in LOOKS:
        page.look(width, dark=dark)
        page.go(path.as_uri())
        assert page.barriers() == [], (width, dark)


def test_a_barrier_is_found(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<!doctype html><title>x</title><img src='x.png'>", encoding="utf-8")
    page.go(path.as_uri())
    assert "image-alt" in dict(page.barriers())
