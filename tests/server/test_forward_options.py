"""Targets and routes that do not fit together are refused before anything is served, by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import serving
from serving import World

from featurekit.cli import main

URL = "http://127.0.0.1:9"
THREE, FOUR = f"{URL},name=churn@3,service=plain", f"{URL},name=churn@4,service=plain"
BOTH = ["--forward", THREE, "--forward", FOUR]
REFUSED = [
    (["--forward", f"{URL},name=churn,service=palin"], "target churn: "),
    (["--forward", f"{URL},name=churn,service=plain@0123"], "target churn: "),
    (["--forward", f"{URL},name=churn,service=every"], "which model servers do not read"),
    (["--forward", URL], "nothing says which features it takes"),
    (["--forward", f"{URL},nmae=churn"], "'nmae=churn' is no part of it"),
    (["--forward", f"{THREE},service=plain"], "service stands there twice"),
    (["--forward", f"{THREE},nan=nil"], "nan is 'nil'"),
    (["--forward", f"{THREE},timeout=soon"], "soon"),
    (["--forward", f"{THREE},protocol=grpc"], "protocol is 'grpc'; write oip or mlflow"),
    (["--forward", f"{THREE},protocol=mlflow,model_version=3"], "serves one model"),
    (["--forward", f"{THREE},contract=none.json"], "none.json: no feature contract can be read"),
    (["--forward", "models:8080,service=plain"], "url is no address of a server"),
    (["--forward", THREE, "--forward", THREE], "two targets are called churn@3"),
    (BOTH, "no route; write --route churn@3=95,churn@4=5"),
    ([*BOTH, "--route", "churn@3=95,churn@4=6"], "add up to 101"),
    ([*BOTH, "--route", "churn@3=95,churn@5=5"], "'churn@5', which is no target"),
    ([*BOTH, "--route", "churn@3=95,churn@4=much"], "'much' is no number"),
    ([*BOTH, "--route", "churn@3=100"], "neither in the route"),
    ([*BOTH, "--route", "churn@3=95,churn@4=5", "--shadow", "churn@4"], "in one of the two"),
    ([*BOTH, "--shadow", "churn@3", "--shadow", "churn@4"], "shadows alone"),
    ([*BOTH, "--shadow", "churn@4", "--fallback", "churn@4"], "fallback churn@4"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_does_not_fit_is_refused_before_it_serves(
    world: World, capsys: pytest.CaptureFixture[str], words: list[str], says: str
):
    asked = ["serve", "--port", "0", "--redis-url", world.url, "--project", "tests", *words]
    assert main(asked) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert says in shown
    assert "Traceback" not in shown


def test_a_shadow_without_targets_is_a_mistake_of_usage(
    world: World, capsys: pytest.CaptureFixture[str]
):
    asked = ["serve", "--redis-url", world.url, "--project", "tests", "--shadow", "churn@4"]
    assert main(asked) == 64
    assert "there are none; write --forward" in capsys.readouterr().err


def test_an_unknown_setting_of_a_target_is_named(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    target = f'[{{urll: "{URL}", url: "{URL}", service: plain}}]'
    text = serving.CONFIG.format(url=f'"{world.url}"') + f"  serve:\n    targets: {target}\n"
    (tmp_path / "feature_store.yaml").write_text(text)
    assert main(["serve", "--port", "0", "--repo", str(tmp_path)]) == 2
    assert "no such setting; did you mean 'url'" in capsys.readouterr().err
