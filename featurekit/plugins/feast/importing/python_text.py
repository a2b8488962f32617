"""Turns definitions into the Python text that a person would write: one line where it fits, else
one argument on each."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 100


@dataclass(frozen=True, slots=True)
class Part:
    """Text between brackets: what stands before them, the brackets, and the items within. `comment`
    stands above it where it is an item itself."""

    before: str
    brackets: str
    items: Sequence[Part | str]
    comment: str = ""


def call(name: str, *positional: Part | str, **named: Part | str | None) -> Part:
    """A call with these arguments; one that is None is left out."""
    items: list[Part | str] = [*positional]
    items += [_prefixed(f"{key}=", value) for key, value in named.items() if value is not None]
    return Part(name, "()", items)


def listed(items: Sequence[Part | str]) -> Part:
    """A list."""
    return Part("", "[]", items)


def mapping(items: Mapping[str, Part | str], comments: Mapping[str, str] | None = None) -> Part:
    """A dict with keys of text; `comments` stand above their keys."""
    made = []
    for key, value in items.items():
        comment = (comments or {}).get(key, "")
        made.append(_prefixed(f"{text(key)}: ", value, comment))
    return Part("", "{}", made)


def _prefixed(prefix: str, value: Part | str, comment: str = "") -> Part | str:
    if isinstance(value, Part):
        return Part(prefix + value.before, value.brackets, value.items, comment)
    return Part(prefix + value, "", (), comment) if comment else prefix + value


def text(value: str) -> str:
    """A text in double quotes."""
    return json.dumps(value, ensure_ascii=False)


def rendered(part: Part | str, *, indent: int = 0, after: int = 0) -> str:
    """The text; `after` are the letters that follow it on its last line."""
    flat = _flat(part)
    fits = indent + len(flat) + after <= WIDTH and not _commented(part)
    if isinstance(part, str) or not part.items or fits:
        return flat
    start, end = part.brackets[0], part.brackets[1]
    lines = [f"{part.before}{start}"]
    inner = indent + 4
    for item in part.items:
        if isinstance(item, Part) and item.comment:
            lines += [f"{' ' * inner}# {line}" for line in item.comment.splitlines()]
        lines.append(f"{' ' * inner}{rendered(item, indent=inner, after=1)},")
    lines.append(f"{' ' * indent}{end}")
    return "\n".join(lines)


def _flat(part: Part | str) -> str:
    if isinstance(part, str):
        return part
    start, end = part.brackets[:1], part.brackets[1:]
    return f"{part.before}{start}{', '.join(map(_flat, part.items))}{end}"


def _commented(part: Part | str) -> bool:
    if isinstance(part, str):
        return False
    return any(isinstance(i, Part) and (bool(i.comment) or _commented(i)) for i in part.items)


def assigned(name: str, part: Part) -> str:
    """A definition that is bound to a name."""
    return rendered(Part(f"{name} = {part.before}", part.brackets, part.items))


def unparsed(node: ast.AST) -> str:
    """The text of a syntax tree, with the house's double quotes."""
    return double_quoted(ast.unparse(node))


def double_quoted(source: str) -> str:
    """The same text with its plain strings in double quotes."""
    lines = source.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for token in reversed(tokens):
        (row, start), (last, end) = token.start, token.end
        if token.type != tokenize.STRING or not token.string.startswith("'") or row != last:
            continue
        value = ast.literal_eval(token.string)
        made = text(value)
        if ast.literal_eval(made) == value:
            line = lines[row - 1]
            lines[row - 1] = line[:start] + made + line[end:]
    return "".join(lines)
