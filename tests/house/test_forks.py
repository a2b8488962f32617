"""A fork of the fork server does what a Python process does that is started by `subprocess`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forks

SHOWN = """
import os, sys
print(sys.argv, os.getcwd(), os.environ.get("GIVEN"), __name__, sys.path[0], sys.stdin.read())
print("é to stderr", "\\udcff", file=sys.stderr)
"""
ENDS = {
    "code": "raise SystemExit(3)",
    "a great code": "raise SystemExit(259)",
    "no code": "import sys; sys.exit()",
    "words": "import sys; sys.exit('why')",
    "error": "1 / 0",
    "not Python": "one two",
    "signal": "import os; os.kill(os.getpid(), 9)",
    "interrupted": "import os, signal; os.kill(os.getpid(), signal.SIGINT); input()",
    "at once": "import os; print('lost', end=''); os._exit(4)",
    "exit functions": "import atexit; atexit.register(print, 'at exit')",
    "threads": "import threading, time; t = threading.Timer(0.1, print, ['thread']); t.start()",
    "unwritten": "print('a'); import sys; sys.stdout.write('b')",
}


def both(words: list[str], **options: object) -> list[tuple[int, str, str]]:
    """Code and output of a fork and of a process."""
    words = [sys.executable, *words]
    made = [
        forks.run(words, **options),
        subprocess.run(words, capture_output=True, text=True, check=False, **options),  # type: ignore[call-overload]
    ]
    return [(done.returncode, done.stdout, done.stderr) for done in made]


def test_a_fork_has_what_it_was_given(tmp_path: Path) -> None:
    env = {**os.environ, "GIVEN": "é"}
    forked, process = both(["-c", SHOWN, "a", "b c"], cwd=tmp_path, env=env, input="in\nput")
    assert forked == process
    assert "['-c', 'a', 'b c']" in forked[1]


@pytest.mark.parametrize("how", ENDS)
def test_a_fork_ends_as_a_process_does(how: str) -> None:
    forked, process = both(["-c", ENDS[how]], input="")
    assert forked[:2] == process[:2]
    assert forked[2].splitlines()[-1:] == process[2].splitlines()[-1:]


def test_a_module_is_run_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text("import sys\nprint(sys.argv, __name__, __file__)")
    forked, process = both(["-m", "alone", "word"], cwd=tmp_path)
    assert forked == process


def test_a_fork_is_a_child_of_the_test() -> None:
    code = "import signal, os; print('up', flush=True); os.kill(os.getpid(), signal.SIGSTOP)"
    with forks.Forked([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert process.poll() is None
        process.send_signal(signal.SIGCONT)
        assert process.wait(30) == 0


def test_a_shell_gets_its_output_and_its_end(tmp_path: Path) -> None:
    command = forks.command("-c", "import sys; print(sys.argv[1:], input()); sys.exit(5)")
    script = f"echo in | {command.replace('$', '')} a 'b c'; echo $?"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("['a', 'b c'] in\n5\n", "")
    killed = forks.command("-c", "import os; os.kill(os.getpid(), 15)")
    assert subprocess.run(["sh", "-c", f"exec {killed}"], check=False).returncode == -15


def test_a_fork_s_memory_is_its_own_and_chance_differs() -> None:
    code = "import random, numpy; print(random.random(), numpy.random.rand())"
    assert len({forks.run([sys.executable, "-c", code]).stdout for _ in range(3)}) == 3
    forks.run([sys.executable, "-c", "import featurekit.store as s; s.FeatureStore = None"])
    shown = forks.run([sys.executable, "-c", "import featurekit.store as s; print(s.FeatureStore)"])
    assert shown.stdout == "<class 'featurekit.store.FeatureStore'>\n"
