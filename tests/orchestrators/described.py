"""Pipelines that the tests export: one that says all that can be said, and small ones that run."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from featurekit.cli import main
from featurekit.plugins.pipelines.export import Exported, exporter
from featurekit.plugins.pipelines.pipeline import Pipeline, pipeline_of
from featurekit.project.pipeline_settings import PipelineConfig

ROOT = Path(__file__).parents[2]
IMAGE = "registry.example/shop-features:1.4"
ODD = "a $b $(c) ${{ d }} {{ e }} {% f %} 'g' \"h\" é"
"""A value of which each tool could read a part as its own."""
ODD_TO_RUN = ODD.replace("${{ d }} ", "")
"""The same for runs: act reads variables twice, and so an expression that GitHub leaves alone."""
FULL = f"""
name: shop-features
image: {IMAGE}
schedule: "10 3 * * MON-FRI"
timezone: Europe/London
catchup: true
retries: 2
timeout: 1h
env: {{SHOP_REGION: eu}}
secrets: [FEATUREKIT_REDIS_URL]
volumes: {{featurekit-state: /home/featurekit/repo/.featurekit}}
steps:
  - {{name: validate, run: validate}}
  - {{name: apply, run: apply, needs: []}}
  - {{name: materialize, run: "materialize --incremental --end {{end}}", needs: [validate, apply]}}
  - {{name: parity, run: parity sample --budget 1000, retries: 0}}
  - name: drift
    run: monitor drift checkout --reference 7d --end {{end}}
    needs: [materialize]
    go_on: [1]
  - name: training-set
    run: get-historical checkout labels.csv -o train.parquet --known-at {{end}}
    needs: [materialize]
    timeout: 90s
  - {{name: train, command: "python train.py 'a b' --end={{end}}", needs: [parity, training-set]}}
"""


def described(text: str, **more: object) -> Pipeline:
    """The pipeline of settings in YAML."""
    return pipeline_of(PipelineConfig.model_validate({**yaml.safe_load(text), **more}), "shop")


def full() -> Pipeline:
    """A pipeline that says all that can be said, and a value that is hard to write."""
    settings = yaml.safe_load(FULL)
    settings["env"]["SHOP_ODD"] = ODD
    return pipeline_of(PipelineConfig.model_validate(settings), "shop")


def exported(tool: str, pipeline: Pipeline) -> Exported:
    """The files of a tool."""
    return exporter(tool).export(pipeline)


def written(tool: str, pipeline: Pipeline, folder: Path) -> list[Path]:
    """The files of a tool, in a folder."""
    from featurekit.plugins.pipelines.export import write

    return write(exported(tool, pipeline), folder)


# --- a repo in which they run ---------------------------------------------------------------------

GOOD = """
name: shop
env: {SHOP_ODD: put here}
steps:
  - {name: validate, run: validate, retries: 2}
  - {name: apply, run: apply}
  - {name: materialize, run: "materialize --incremental --end {end}"}
  - {name: parity, run: parity sample --budget 2000}
  - {name: other, command: "python tests/note.py other '{end} a$b' 3", needs: [apply], go_on: [3]}
  - {name: again, command: python tests/note.py again 7 once, needs: [apply], retries: 1}
  - name: training-set
    run: get-historical checkout labels.csv -o train.parquet --known-at {end}
    needs: [materialize]
  - name: train
    command: python tests/note.py train {end}
    needs: [parity, training-set, other, again]
"""
BROKEN = """
name: shop
retries: 2
steps:
  - {name: validate, run: validate}
  - {name: alone, command: python tests/note.py alone, needs: []}
  - {name: never, command: python tests/note.py never, needs: [validate]}
"""
_NOTE = '''\
"""Notes that a step ran: its words, and a variable. Ends with the second of them, once."""
import os
import pathlib
import sys

name, *rest = sys.argv[1:]
with open(os.environ["TRACE"], "a") as trace:
    print("note", *sys.argv[1:], os.environ.get("SHOP_ODD"), sep="|", file=trace)
mark = pathlib.Path(f"{name}.mark")
code = int(rest[-1]) if rest and rest[-1].isdigit() else 0
if rest[-1:] == ["once"]:
    code = 0 if mark.exists() else int(rest[-2])
    mark.touch()
sys.exit(code)
'''
_WRAPPER = """#!/bin/sh
echo "featurekit|$*" >>"$TRACE"
unset PYTHONHOME
PYTHONPATH={root} exec {python} -m featurekit.cli "$@"
"""


def repo_for(folder: Path, pipeline: str, redis_url: str) -> tuple[Path, dict[str, str]]:
    """A starter repo with a pipeline, and the environment of a tool that runs it: `featurekit` and
    `python` are on its PATH, and TRACE names the file in which each command is noted."""
    repo = folder / "repo"
    assert main(["init", str(repo)]) == 0
    settings = yaml.safe_load(pipeline)
    if "env" in settings:
        settings["env"] = {"SHOP_ODD": ODD_TO_RUN}
    path = repo / "feature_store.yaml"
    text = yaml.safe_load(path.read_text(encoding="utf-8"))
    text["featurekit"]["pipeline"] = settings
    path.write_text(yaml.safe_dump(text, sort_keys=False), encoding="utf-8")
    change(repo, "Delay", 'arrives=Delay("1m")')  # so that --known-at can be told
    (repo / "tests").mkdir()  # where no module of the repo is
    (repo / "tests" / "note.py").write_text(_NOTE, encoding="utf-8")
    (repo / "requirements.txt").write_text("", encoding="utf-8")
    (repo / ".gitignore").write_text(".featurekit/\n*.parquet*\n", encoding="utf-8")
    commands = folder / "bin"
    commands.mkdir()
    wrapper = commands / "featurekit"
    wrapper.write_text(_WRAPPER.format(root=ROOT, python=shlex.quote(sys.executable)))
    wrapper.chmod(0o755)
    for name in ("python", "python3"):  # a link would leave the virtual environment
        (commands / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        (commands / name).chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "TRACE": str(folder / "trace"),
        "FEATUREKIT_REDIS_URL": redis_url,
        "FEATUREKIT_REPO": str(repo),
        "HOME": str(folder),
    }
    return repo, env


def change(repo: Path, imported: str, more: str) -> None:
    """Import a name in the starter's module, and say more of its source."""
    path = repo / "features.py"
    text = path.read_text(encoding="utf-8")
    text = text.replace("from featurekit import ", f"from featurekit import {imported}, ")
    text = text.replace('timezone="UTC",', f'timezone="UTC",\n    {more},')
    path.write_text(text, encoding="utf-8")


def break_contract(repo: Path) -> None:
    """Have the source promise what its rows do not hold."""
    change(repo, "Between", 'expect=[Between("quantity", 100, 200)]')


def trace(env: Mapping[str, str]) -> list[list[str]]:
    """What ran, in its order, as lists of words."""
    path = Path(env["TRACE"])
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line.split("|") for line in lines]
