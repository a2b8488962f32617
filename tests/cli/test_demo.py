"""The demo: the whole main job on the example, on generated and on real data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featurekit.cli import main
from featurekit.cli.demo.run import example_repo
from featurekit.cli.demo.sample_data import write_sample_data

REAL = Path(__file__).parents[3] / "shared" / "data" / "online_retail.parquet"


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = main(["demo", *map(str, argv)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def demo_json(capsys: pytest.CaptureFixture[str], *argv: object) -> Any:
    code, out, err = run(capsys, *argv, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_the_demo_does_every_step_and_ends_with_its_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, out, err = run(capsys, "--values", 1000, "--labels", 200)
    assert (code, err) == (0, "")
    steps = ("Data", "Plan and apply", "Training data", "Materialise", "Look up", "Push", "Parity")
    for number, step in enumerate(steps, 1):
        assert f"\n── {number}. {step} ──\n" in out
    assert "Online and offline agree: 10" in out.splitlines()[-1]
    assert max(map(len, out.splitlines())) <= 100


def test_the_demo_tells_programs_what_it_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = demo_json(capsys, "--values", 1000, "--labels", 200, "--folder", tmp_path / "shop")
    assert made["ok"] is True
    assert made["compared"] >= 1000
    assert made["differing"] == 0
    assert [t["rows"] for t in made["training"].values()] == [200, 200]
    before, after = made["pushed"]["before"], made["pushed"]["after"]
    assert (before["lines_7d"], after["lines_7d"]) == (0, 1)
    assert (tmp_path / "shop" / "training_checkout_v1.parquet").is_file()


def test_the_same_demo_gives_the_same_content_hash(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # The price list comes from the order lines alone, so the same lines are the same shop.
    write_sample_data(tmp_path, lines=2000)
    lines = tmp_path / "order_lines.parquet"
    argv = ("--data", lines, "--values", 200, "--labels", 300)
    one, two = (demo_json(capsys, *argv)["training"] for _ in range(2))
    assert [t["content_hash"] for t in one.values()] == [t["content_hash"] for t in two.values()]


def test_the_demo_keeps_away_from_the_store_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", "redis://127.0.0.1:1")
    assert demo_json(capsys, "--values", 100, "--labels", 50)["ok"] is True


def test_the_data_that_the_demo_generates_may_be_had_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = demo_json(capsys, "--write-data", tmp_path / "alone")
    assert sorted(made["files"]) == ["order_lines", "price_list"]
    again = write_sample_data(tmp_path / "again")
    for name, path in made["files"].items():
        assert Path(path).parent == tmp_path / "alone"
        assert Path(path).read_bytes() == again[name].read_bytes()
    code, _, err = run(capsys, "--write-data", tmp_path / "again")
    assert (code, "order_lines.parquet is there already; remove it" in err) == (2, True)
    for option in ("--data", "--folder"):
        code, _, err = run(capsys, "--write-data", tmp_path / "other", option, tmp_path / "x")
        assert (code, "--write-data does nothing else" in err) == (64, True)
    assert not (tmp_path / "other").exists()


def test_the_demo_overwrites_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    code, _, err = run(capsys, "--folder", tmp_path)
    assert (code, "is there already and not empty" in err) == (2, True)


def test_data_that_is_no_order_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_sample_data(tmp_path, lines=200)
    table = pq.read_table(tmp_path / "order_lines.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    pq.write_table(table.drop_columns(["country"]), tmp_path / "lacking.parquet")
    text = table.set_column(3, "quantity", pa.array(["x"] * table.num_rows))
    pq.write_table(text, tmp_path / "text.parquet")
    (tmp_path / "no.parquet").write_text("no")
    for name, part in {
        "absent.parquet": "cannot be read",
        "no.parquet": "is no Parquet file",
        "empty.parquet": "holds no row",
        "lacking.parquet": "lacks country; --data takes invoice_no",
        "text.parquet": "quantity",
    }.items():
        code, _, err = run(capsys, "--data", tmp_path / name)
        assert (code, part in err, "Traceback" in err) == (2, True, False), (name, err)


def test_the_example_in_a_clone_is_the_one_at_its_root() -> None:
    assert example_repo() == Path(__file__).parents[2] / "feature_repo"


@pytest.mark.slow  # `test_real_data` reads the same file
@pytest.mark.skipif(not REAL.is_file(), reason=f"{REAL} is absent")
def test_on_the_real_file_not_one_of_100_000_values_differs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = demo_json(capsys, "--data", REAL)
    assert made["compared"] >= 100_000
    assert made["differing"] == 0
    assert all(report["differing"] == 0 for report in made["parity"])
    assert [t["rows"] for t in made["training"].values()] == [20_000, 20_000]
    assert sum(t["features"] for t in made["training"].values()) >= 6
