"""The pytest plugin: the marker `parity` and the fixture `parity`.

Loading it imports nothing of featurekit but this file; what a test needs is imported when it asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


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
def parity(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`featurekit.testing.assert_parity`, in the feature repo that the ini option featurekit_repo
    names (relative to the folder of the ini file)."""
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
