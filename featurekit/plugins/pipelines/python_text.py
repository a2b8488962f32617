"""What the Python files of several tools have in common: values as Python writes them, and the
function that runs a step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from featurekit.plugins.pipelines.pipeline import END, Step

RUN = '''\
def run(words, end=None, *, go_on=(), timeout_s=None):
    """Run a program where the repo is; its exit code, unless that says that it failed."""
    words = [word.replace("{end}", end or "") for word in words]
    process = subprocess.Popen(words, cwd=REPO, env={**os.environ, **ENV})
    try:
        code = process.wait(timeout_s)
    except BaseException:  # it took too long, or the run is cancelled
        process.terminate()
        process.wait()
        raise
    if code and code not in go_on:
        raise Failed(code, words)
    return code


class Failed(Exception):
    """A step ended with an exit code that says so."""

    def __init__(self, code, words):
        super().__init__(f"exit code {code}: {shlex.join(words)}")
        self.code = code
'''
"""Starts a step, and stops it where it takes too long."""


def text(value: str) -> str:
    """A text as the house's Python has it, in double quotes."""
    return json.dumps(value, ensure_ascii=False)


def words(step: Step) -> str:
    """The words of a step, as a list."""
    return f"[{', '.join(map(text, step.words))}]"


def codes(values: Sequence[int]) -> str:
    """Exit codes, as a tuple."""
    inside = ", ".join(map(str, values))
    return f"({inside},)" if len(values) == 1 else f"({inside})"


def options(step: Step) -> str:
    """What `run` is told of a step, behind its words."""
    told = ["end"] if any(END in word for word in step.words) else []
    if step.go_on:
        told.append(f"go_on={codes(step.go_on)}")
    if step.timeout_s is not None:
        told.append(f"timeout_s={step.timeout_s}")
    return "".join(f", {one}" for one in told)


def constants(repo: str, env: Mapping[str, str]) -> str:
    """Where the repo is, and the variables that every step is given."""
    inside = ", ".join(f"{text(name)}: {text(value)}" for name, value in env.items())
    return (
        f'REPO = os.environ.get("FEATUREKIT_REPO", {text(repo)})\n'
        f"ENV: dict[str, str] = {{{inside}}}\n"
    )


def identifier(step: Step) -> str:
    """A step's name as one of Python that is no word of it."""
    return f"step_{step.name.replace('-', '_')}"
