"""Turns the words of a step into lines of a shell."""

from __future__ import annotations

import shlex

from featurekit.plugins.pipelines.pipeline import END, Step

VARIABLE = "FEATUREKIT_END"
"""The variable in which a shell has the instant of the run."""


def step_line(step: Step) -> str:
    """The command line of a step, which reads the instant of the run from the variable."""
    return " ".join(map(_quoted, step.words))


def _quoted(word: str) -> str:
    parts = word.split(END)
    quoted = [shlex.quote(part) if part or len(parts) == 1 else "" for part in parts]
    return f'"${VARIABLE}"'.join(quoted)


def step_script(step: Step, *, stops: bool = False) -> str:
    """The lines of a step for a shell: they try again, and go on after the exit codes of `go_on`.
    With `stops` they stop what takes longer than the step may."""
    line = step_line(step)
    if stops and step.timeout_s is not None:
        line = f"timeout {step.timeout_s} {line}"
    if not step.go_on and not step.retries:
        return line
    lines = ["tries=", f"until {line}; do", "    code=$?"]
    if step.go_on:
        lines.append(f"    case $code in {'|'.join(map(str, step.go_on))}) break ;; esac")
    if step.final:
        lines.append(f"    case $code in {'|'.join(map(str, step.final))}) exit $code ;; esac")
    lines += ["    tries=x$tries", f"    [ ${{#tries}} -le {step.retries} ] || exit $code"]
    return "\n".join([*lines, "done"]) + "\n"


def is_plain(step: Step) -> bool:
    """Whether the step is one command, which needs no shell."""
    return not step.go_on and not step.retries
