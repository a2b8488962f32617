"""The lock files name what pyproject.toml allows, for every Python, and its least versions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = {"default": "dev", "lowest": "dev", "lakes": "lakes", "mlflow": "mlflow",
          "trackers": "trackers", "evidently": "evidently", "feast": "feast",
          "bench": "feast"}  # fmt: skip
PYTHONS = ["3.11.7", "3.12.1", "3.13.0"]
MACHINES = ["x86_64", "aarch64"]


def asked(lock: str) -> list[Requirement]:
    """What pyproject.toml itself asks for: to build, to run, and with the lock's extra."""
    project = PROJECT["project"]
    extra = project["optional-dependencies"][EXTRAS[lock]]
    return [
        Requirement(text)
        for text in (*PROJECT["build-system"]["requires"], *project["dependencies"], *extra)
    ]


def environment(python: str, machine: str) -> dict[str, str]:
    return {
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "sys_platform": "linux",
        "platform_machine": machine,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def locked(lock: str, where: dict[str, str]) -> dict[str, str]:
    """The one version of each package that the lock names there."""
    found: dict[str, str] = {}
    for line in (ROOT / "locks" / f"{lock}.txt").read_text(encoding="utf-8").splitlines():
        if re.match(r"[a-z]", line):
            pin = Requirement(line.removesuffix("\\"))
            if pin.marker is None or pin.marker.evaluate(where):
                assert pin.name not in found
                (exact,) = pin.specifier
                assert exact.operator == "=="
                found[pin.name] = exact.version
    return found


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_names_a_version_in_the_range_of_every_dependency(
    lock: str, python: str, machine: str
) -> None:
    where = environment(python, machine)
    pins = locked(lock, where)
    for requirement in asked(lock):
        if requirement.marker is None or requirement.marker.evaluate(where):
            name = canonicalize_name(requirement.name)
            assert name in pins, f"{name}: ./run lock"
            assert requirement.specifier.contains(pins[name]), f"{name}: ./run lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lowest_lock_names_the_floor_of_every_dependency(python: str) -> None:
    where = environment(python, "x86_64")
    pins = locked("lowest", where)
    for requirement in asked("lowest"):
        if requirement.marker is None or requirement.marker.evaluate(where):
            (floor,) = (s for s in requirement.specifier if s.operator in (">=", "=="))
            assert floor.contains(pins[canonicalize_name(requirement.name)])
            at_most = Requirement(f"x<={floor.version}").specifier
            assert at_most.contains(pins[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_names_no_host_and_no_path_and_hashes_every_file(lock: str) -> None:
    header, *lines = (ROOT / "locks" / f"{lock}.txt").read_text(encoding="utf-8").splitlines()
    assert header.startswith("#")
    pin = r"[a-z][a-z0-9-]*==[a-z0-9.]+(?: ; [\w .<>=!'()]+)? \\"
    digest = r"    --hash=sha256:[0-9a-f]{64}(?: \\)?"
    assert [line for line in lines if not re.fullmatch(f"{pin}|{digest}", line)] == []
