"""Mangles what featurekit reads from disks, networks and callers.

python -m tests.mangling [--inputs 100000] [--processes 2] [--only states] [--seed 0]

No input may end a process, or hold one up: a hundred have half a minute. None may raise another
error than the one by which it is refused, or be taken for a value that was not written. The exit
code is 1 where one does.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import subprocess
import sys
import time
from collections import Counter

from tests.mangling.targets import SHARES, targets

_PART, _HANGS_S = 100, 30


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mangling", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="of all targets (%(default)s)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", choices=SHARES, help="one target")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.alone:
        found, took = work(told.inputs, told.only, told.seed)
        print(json.dumps([found, took]))
        return 0
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.mangling", "--alone"]
    command += ["--only", told.only] if told.only else []
    inputs = str(told.inputs // told.processes)
    processes = [
        subprocess.Popen(
            [*command, "--inputs", inputs, "--seed", str(told.seed + i)], stdout=subprocess.PIPE
        )
        for i in range(told.processes)
    ]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        print(f"exit codes {[process.returncode for process in processes]}, seed {told.seed}")
        return 1
    answered = [json.loads(output) for output in outputs]
    total: Counter[str] = sum((Counter(counted) for counted, _ in answered), Counter())
    seconds = {name: sum(took.get(name, 0.0) for _, took in answered) for name in SHARES}
    for name in SHARES:
        kinds = {k.partition(": ")[2]: n for k, n in total.items() if k.startswith(f"{name}: ")}
        if kinds:
            n = sum(kinds.values())
            shown = ", ".join(f"{n:,} {kind}" for kind, n in sorted(kinds.items()))
            print(f"{name:8} {n:9,} in {seconds[name]:6.0f} s of a process: {shown}")
    print(f"{total.total():,} inputs in {time.monotonic() - began:.0f} s, seed {told.seed}")
    return 0


def work(inputs: int, only: str | None, seed: int) -> tuple[Counter[str], dict[str, float]]:
    """What became of so many inputs, by target, and how long each target took."""
    rng = random.Random(seed)
    found: Counter[str] = Counter()
    took: dict[str, float] = {}
    with targets() as every:
        for name, one in every.items():
            if only not in (None, name):
                continue
            began = time.monotonic()
            for i in range(inputs if only else inputs * SHARES[name] // 100):
                if i % _PART == 0:
                    faulthandler.dump_traceback_later(_HANGS_S, exit=True)
                found[f"{name}: {one(rng)}"] += 1
            faulthandler.cancel_dump_traceback_later()
            took[name] = time.monotonic() - began
    return found, took


if __name__ == "__main__":
    sys.exit(main())
