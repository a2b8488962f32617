"""The pytest plugin: the marker `parity` and the fixture `parity`.

Loading it imports nothing of featurekit but this file; what a test needs is imported when it asks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import pytest


class _AsItIs:
    """Finds featurekit's modules before pytest does, so that Python loads them from their caches.

    pytest rewrites the asserts of every module of a distribution that brings a plugin. featurekit's
    modules are no tests: rewriting them gives nothing, and costs a cold run their compilation.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module as Python finds it; None for all that is not within featurekit."""
        if not fullname.startswith("featurekit."):
            return None
        return PathFinder.find_spec(fullname, path, target)


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Take featurekit out of the rewriting, before a conftest imports it, until pytest ends."""
    finder = _AsItIs()
    sys.meta_path.insert(0, finder)
    early_config.add_cleanup(lambda: sys.meta_path.remove(finder))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The folder of the feature repo, for tests that name its services."""
    parser.addini("featurekit_repo", "folder of the feature repo, for the parity fixture", "string")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "parity: the test compares training values with online ones (`pytest -m parity`)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that takes the fixture has the marker."""
    for item in items:
        if "parity" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("parity"):
            item.add_marker("parity")


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`featurekit.testing.assert_parity`, in the feature repo that the ini option featurekit_repo
    names (relative to the folder of the ini file). It returns the values, to be asserted on."""
    from functools import partial

    from featurekit.parity.testing import assert_parity

    named: Any = request.config.getini("featurekit_repo")
    if not named:
        return assert_parity
    return partial(assert_parity, repo=request.config.rootpath / named)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Show the diagnosis in the place of a traceback through featurekit, and the case below it."""
    outcome: Any = yield
    error = None if call.excinfo is None else call.excinfo.value
    diagnosis = getattr(error, "diagnosis", None)
    if call.when == "call" and type(error).__name__ == "ParityError" and diagnosis is not None:
        report = outcome.get_result()
        report.longrepr = str(error)
        report.sections.append(("parity: this case reproduces it", diagnosis.case))
