"""Gives processes a clock that is moved on from outside: every one that starts with its
environment, whether Python, Redis or anything else.

Time-outs and the monotonic clock stay those of the machine, so a step of a day is what a process
sees that slept for a day. (libfaketime 0.9.10 cannot do this: where it leaves the monotonic clock
alone, `time.sleep` of Python fails.)
"""

from __future__ import annotations

import datetime as dt
import os
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")
FILE = "SIMULATED_CLOCK"


class NoCompiler(Exception):
    """There is no C compiler to make the clock with."""


@dataclass(frozen=True)
class Clock:
    """The clock of the processes whose environment has `variables`. It goes on by itself."""

    library: Path
    file: Path

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs in its environment."""
        return {"LD_PRELOAD": str(self.library), FILE: str(self.file)}

    def move_to(self, at: dt.datetime) -> None:
        """Let it be that instant now, as a process that has the clock says. It goes forward
        alone."""
        (known,) = struct.unpack("q", self.file.read_bytes())
        further = round((at.timestamp() - time.time()) * 1e6)
        assert further >= 0, f"{at} is over"
        with self.file.open("r+b", buffering=0) as file:
            file.write(struct.pack("q", known + further))  # eight bytes at once


def clock_of_environment() -> Clock | None:
    """The clock that this process was started with; None where it has that of the machine."""
    if FILE not in os.environ:
        return None
    return Clock(Path(os.environ["LD_PRELOAD"]), Path(os.environ[FILE]))


def make_clock(folder: Path) -> Clock:
    """A clock in a folder, which says the time of the machine. NoCompiler where it cannot be
    compiled."""
    library, file = folder / "clock.so", folder / "clock"
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NoCompiler("the simulated clock needs a C compiler, and there is no cc") from None
    if done.returncode:
        raise NoCompiler(f"cc cannot make the simulated clock: {done.stderr.strip()[-500:]}")
    file.write_bytes(struct.pack("q", 0))
    return Clock(library, file)
