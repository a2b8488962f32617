"""The page of a parity check: what it says, and that a browser shows it."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from featurekit.aggregates import exact
from featurekit.cli import main
from featurekit.parity.budget import Budget
from featurekit.parity.modes.operators import check_operators
from featurekit.parity.report import Difference, Report
from featurekit.parity.reports.page import operators_page, page
from tests.planted.skews import SKEWS

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def report(*, differing: bool) -> Report:
    made = Report("check<out>", 3, mode="fuzz", rows=10, seconds=2.5)
    made.count("view__sum", compared=900, statuses={"PRESENT": 890, "NULL_VALUE": 10})
    made.count("view__row", compared=90, statuses={"OUTSIDE_MAX_AGE": 45, "PRESENT": 45})
    if differing:
        pairs = [(0.1, 0.30000000000000004), (1.0, None), (2.0, 2.0000000000000004)]
        for i, (offline, online) in enumerate(pairs):
            as_of = f"2024-01-0{i + 1}T00:00:00+00:00"
            status = "NULL_VALUE" if online is None else "PRESENT"
            row = {"key": "<script>alert(1)</script>"}
            made.count("view__sum", compared=1, differing=1, statuses={"PRESENT": 1})
            made.keep(Difference("view__sum", row, as_of, (offline, "PRESENT"), (online, status)))
    return made


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", html, flags=re.S))


def test_a_page_says_what_the_report_holds() -> None:
    html = page([report(differing=True).to_dict()], made_at=NOW)
    text = text_of(html)
    for part in ("3 differ", "993", "mode fuzz", "seed 3", "view__sum", "50.0 %", "1.1 %",
                 "2026-01-02 03:04:05 UTC", "0x1.0000000000000p+1"):  # fmt: skip
        assert part in text, part
    assert html.count("<g class='series") == 3
    assert "1 ulps apart" in html
    assert "not between two finite floats" in html


def test_a_difference_stands_at_its_instant_and_at_its_distance() -> None:
    """Within the grid, from its left end at the first instant to its right one at the last."""
    html = page([report(differing=True).to_dict()], made_at=NOW)
    ends = re.search(r"<path class='grid' d='M(\d+) [0-9.]+H(\d+)'/>", html)
    assert ends is not None
    left, right = map(float, ends.groups())
    grid = [float(y) for y in re.findall(r"<path class='grid' d='M\d+ ([0-9.]+)H", html)]
    places = re.findall(r"<g class='series [^>]*translate\(([0-9.-]+) ([0-9.-]+)\)", html)
    (many, none, one) = [(float(x), float(y)) for x, y in places]
    assert (many[0], none[0], one[0]) == (left + 8, (left + right) / 2, right - 8)
    assert one[1] == max(grid)  # 10**0 ulps
    assert min(grid) < many[1] < max(grid)
    assert none[1] < min(grid)  # no number of ulps


def test_a_page_without_differences_has_no_plot() -> None:
    html = page([report(differing=False).to_dict()], made_at=NOW)
    assert "every bit agrees" in text_of(html)
    assert "<figure>" not in html
    assert "<h3>Differences" not in html


def test_what_comes_from_data_is_no_markup_and_nothing_is_fetched() -> None:
    html = page([report(differing=True).to_dict()], made_at=NOW)
    assert "alert(1)" in html
    assert "<script>alert" not in html
    assert "check<out>" not in html
    assert not re.search(r"(src|href)=.?(https?:|//)|@import|url\(", html)


def test_a_page_of_nothing_says_so() -> None:
    assert "nothing compared" in text_of(page([Report("s", 0).to_dict()], made_at=NOW))


def test_a_check_writes_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A planted skew is on the page, with its likely cause and a test to paste."""
    repo, out = str(tmp_path / "repo"), tmp_path / "parity.html"
    assert main(["init", repo]) == 0
    monkeypatch.setattr(exact, "exact_sum", lambda values: sum(values, 0.25))
    capsys.readouterr()
    asked = ["history", "--budget", "500", "--html", str(out), "--json"]
    assert main(["--repo", repo, "parity", *asked]) == 1
    found = json.loads(capsys.readouterr().out)["services"][0]
    text = text_of(out.read_text(encoding="utf-8"))
    assert f"{found['differing']} differ" in text
    cause = found["differences"][0]["diagnosis"]["cause"]
    assert f"Likely cause: {cause}" in text
    assert "def test_" in text


def test_the_operators_page_shows_each_row_and_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "operators.html"
    argv = ["parity", "operators", "--only", "str.lower", "--inputs", "20", "--html", str(out)]
    assert main(argv) == 0
    capsys.readouterr()
    text = text_of(out.read_text(encoding="utf-8"))
    for part in ("every bit agrees", "str.lower(str)", "operators 1 ", "hybrid"):
        assert part in text, part

    SKEWS["floor_division_truncates_offline"].plant(monkeypatch)
    found = check_operators(budget=Budget(values=2_000), only="//(int")
    text = text_of(operators_page(found.to_dict(), made_at=NOW))
    assert f"{found.differing:,} differ" in text
    assert found.differing > 0
    assert "<h3>Differences" in operators_page(found.to_dict(), made_at=NOW)


PROBE = """<script>addEventListener('load', () => {
  document.querySelectorAll('details').forEach(d => d.open = true);
  const root = document.documentElement;
  const small = [...document.querySelectorAll('summary, button, input, a:not(.skip)')]
    .filter(e => e.getBoundingClientRect().height < 12).length;
  document.title = JSON.stringify({wide: root.scrollWidth, window: innerWidth, small});
});</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
@pytest.mark.parametrize("width", [500, 1280])
def test_a_browser_shows_the_page_without_scrolling_sideways(tmp_path: Path, width: int) -> None:
    html = page([report(differing=True).to_dict()] * 2, made_at=NOW)
    file = tmp_path / "page.html"
    file.write_text(html.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
         f"--window-size={width},900", "--dump-dom", f"file://{file}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    seen: dict[str, Any] = json.loads(title[1])
    assert seen["wide"] <= seen["window"]
    assert seen["small"] == 0
