"""The docs build into a site without a warning, and its reference has what the code has."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import featurekit
import featurekit.results
import featurekit.testing
from featurekit import aggregates, errors
from featurekit.cli.verbs import VERBS
from featurekit.language.ops import TABLE
from featurekit.project.config import FeaturekitConfig

PUBLIC = (featurekit, featurekit.results, featurekit.testing)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def headings(page: Path) -> set[str]:
    """The headings of a page, as text."""
    found = re.findall(r"<h[1-4][^>]*>(.*?)<", page.read_text(encoding="utf-8"), re.S)
    return {re.sub(r"\s+", " ", one).strip() for one in found}


def test_every_verb_has_its_help(site: Path) -> None:
    missing = {f"featurekit {verb}" for verb in VERBS} - headings(site / "reference" / "cli.html")
    assert missing == set()


def test_every_aggregate_is_there(site: Path) -> None:
    assert headings(site / "reference" / "aggregates.html") >= set(aggregates.BY_NAME)


def test_every_operator_is_there(site: Path) -> None:
    """A row for each tuple of types that it takes."""
    page = (site / "reference" / "operators.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr>\s*<td>(?:<code>)?(.*?)(?:</code>)?</td>", page)
    assert sorted(map(html.unescape, rows)) == sorted(op.name for op in TABLE.values())


def test_every_setting_is_there(site: Path) -> None:
    page = (site / "reference" / "settings.html").read_text(encoding="utf-8")
    assert [n for n in FeaturekitConfig.model_fields if f"<code>{n}</code>" not in page] == []


def test_every_error_has_a_remedy() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    heads = set(re.findall(r"\w+", " ".join(re.findall(r"^## (.*)$", page, re.M))))
    kinds = {n for n, k in vars(errors).items() if getattr(k, "__module__", "") == errors.__name__}
    assert kinds - heads == set()


def test_every_public_name_is_there(site: Path) -> None:
    page = (site / "reference" / "api.html").read_text(encoding="utf-8")
    shown = {place.split(".")[-1] for place in re.findall(r'id="([\w.]+)"', page)}
    assert {name for module in PUBLIC for name in module.__all__} - shown == set()


def test_the_site_asks_nobody_on_the_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://[^"]+"', text) == []
