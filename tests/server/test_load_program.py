"""What `python -m tests.load` is told of how often it asks."""

from __future__ import annotations

import argparse
import time

import pytest

from tests.load import clients
from tests.load.__main__ import _rate


def test_no_pushes_are_no_pushes():
    found = clients.push("http://127.0.0.1:1", _rate("0"), time.time() + 0.2, 0)
    assert (found["pushes"], dict(found["errors"])) == ([], {})


@pytest.mark.parametrize("text", ["-1", "nan", "inf"])
def test_a_rate_that_is_none_is_told(text: str):
    with pytest.raises(argparse.ArgumentTypeError, match="write 0 or more"):
        _rate(text)
