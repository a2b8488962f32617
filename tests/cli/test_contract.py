"""`featurekit get-historical --contract` and `featurekit contract`: exit codes, tables and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contracted import frame, write_repo

from featurekit import Contract
from featurekit.cli import main
from featurekit.core.signing import PrivateKey

KEY = PrivateKey.make()
MAKE = ["get-historical", "churn", "frame.parquet", "--labels", "future", "--known-at",
        "2024-01-05T04:00"]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repo with a training set and its contract."""
    repo = write_repo(tmp_path_factory.mktemp("models"))
    pq.write_table(pa.Table.from_pylist(frame()), repo / "frame.parquet")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(repo)
        assert main([*MAKE, "-o", "train.parquet", "--contract", "c.json"]) == 0
    return repo


@pytest.fixture
def repo(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def test_the_contract_beside_a_training_set_is_that_of_its_rows(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads((repo / "train.parquet.manifest.json").read_bytes())
    assert Contract.load("c.json").content_hash == told["content_hash"]
    assert main(["contract", "verify", "c.json", "--training", "train.parquet"]) == 0
    said = capsys.readouterr().out
    assert "c.json is unchanged" in said
    assert "Its rows and its profile are those of train.parquet." in said


def test_statuses_of_a_training_set_are_compared_where_it_has_them(repo: Path) -> None:
    assert main([*MAKE, "--statuses", "-o", "s.parquet", "--contract", "s.json"]) == 0
    assert main(["contract", "verify", "s.json", "--training", "s.parquet"]) == 0


def test_a_contract_is_shown(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contract", "c.json"]) == 0
    said = capsys.readouterr().out
    assert "trained on 140 rows" in said
    assert "a row brings k (int), budget (int)" in said
    assert "Label next: future:next, int | None, 1d ahead" in said
    assert main(["contract", "show", "c.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == Contract.load("c.json").to_dict()


def test_rows_that_are_not_those_of_the_contract_are_told(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*MAKE[:3], "--known-at", "2024-01-05T04:00", "-o", "o.parquet"]) == 0
    assert main(["contract", "verify", "c.json", "--training", "o.parquet"]) == 2
    assert "it has no column 'next'" in capsys.readouterr().err
    table = pq.read_table("train.parquet")
    changed = table.set_column(
        table.schema.get_field_index("orders"), "orders", pa.array(range(140), pa.int64())
    )
    pq.write_table(changed, "other.parquet")
    assert main(["contract", "verify", "c.json", "--training", "other.parquet"]) == 3
    assert "its rows are not those that the contract was made of" in capsys.readouterr().err


def test_a_profile_that_is_stale_is_told_against_the_rows(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One whose counts are right, and whose values are another day's."""
    from featurekit.define.feature_contract.document import Body, written

    said = Contract.load("c.json").body.model_dump(mode="json")
    said["profile"]["columns"]["s"]["top"] = [["z", 3]]
    Path("stale.json").write_bytes(written(Body.model_validate_json(json.dumps(said)), None))
    assert main(["contract", "verify", "stale.json"]) == 0
    assert main(["contract", "verify", "stale.json", "--training", "train.parquet"]) == 3
    assert "the contract's profile of 's' is stale" in capsys.readouterr().err


def test_a_byte_that_was_changed_ends_with_3(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.json").write_bytes(Path("c.json").read_bytes().replace(b'"never"', b'"may"', 1))
    for words in (["verify", "bad.json"], ["show", "bad.json"], ["diff", "bad.json", "c.json"]):
        assert main(["contract", *words]) == 3
        assert "was changed after it was written" in capsys.readouterr().err
    assert main(["contract", "verify", "none.json"]) == 2


def test_who_holds_a_key_wants_it_signed(
    repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREKIT_SIGNING_KEY", KEY.text)
    assert main([*MAKE, "--contract", "signed.json"]) == 0
    for place in ("environment", "settings"):
        if place == "environment":
            monkeypatch.setenv("FEATUREKIT_PUBLIC_KEYS", KEY.public.text)
        else:
            monkeypatch.delenv("FEATUREKIT_PUBLIC_KEYS")
            settings = (repo / "feature_store.yaml").read_text(encoding="utf-8")
            keys = f"featurekit:\n  public_keys: [{KEY.public.text}]\n"
            (repo / "feature_store.yaml").write_text(settings + keys, encoding="utf-8")
        try:
            assert main(["contract", "verify", "signed.json"]) == 0
            assert f"It is signed by {KEY.public.text}" in capsys.readouterr().out
            assert main(["contract", "verify", "c.json"]) == 3
            assert "is not signed, and this reader holds" in capsys.readouterr().err
        finally:
            write_repo(repo)


def test_what_differs_ends_with_1(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["contract", "diff", "c.json"]) == 0
    assert main(["contract", "diff", "c.json", "c.json"]) == 0
    assert "agree" in capsys.readouterr().out
    other = write_repo(tmp_path / "other", "transform")
    assert main(["contract", "diff", "c.json", "--repo", str(other)]) == 1
    said = capsys.readouterr().out
    assert "total reads otherwise" in said
    assert main(["contract", "diff", "c.json", "--repo", str(other), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    found = {(d["name"], d["what"]) for d in document["differences"]}
    assert found >= {("total", "transform"), ("total", "version"), ("orders", "version")}
    assert main(["contract", "diff", "c.json", "c.json", "--live"]) == 64
    assert main(["contract", "diff", "c.json", "--live", "--repo", str(other)]) == 2
    assert "serves no service 'churn'" in capsys.readouterr().err


def test_the_help_of_both_verbs_tells_the_two_contracts_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for verb, other in (("contract", "contracts"), ("contracts", "contract")):
        assert main([verb, "--help"]) == 0
        assert f"see `featurekit {other}`" in " ".join(capsys.readouterr().out.split())


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from featurekit.define.feature_contract import document

    assert main(["contract", "schema"]) == 0
    published = Path(document.__file__).with_name("schema.json")
    assert capsys.readouterr().out == published.read_text(encoding="utf-8")
