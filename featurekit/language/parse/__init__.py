"""Turns plain typed functions into the typed IR, or into an error with a caret (R1, R2).

Types follow mypy's narrowing: a `T | None` must be tested before an operator sees it. Ints become
floats only where Python itself would convert them, or where the declared result takes them;
elsewhere the hint says what to write. Each module adds one idea to the class of the one before:
`places` (where the text stands), `captured` (what is taken from the module), `operators` (rows of
the table), `conditions` (truth and narrowing), `tables` (constant dicts), `calls` (helpers, which
are inlined), `patterns` (matches), `instants` (zones), `lists` (loops in expressions),
`expressions`, `statements`, `functions`; `verbatim` stands apart.
"""

from __future__ import annotations

from featurekit.language.ir import Function
from featurekit.language.parse.functions import FunctionParser
from featurekit.language.parse.verbatim import verbatim
from featurekit.language.transform import Transform
from featurekit.language.walk import depth

MOST_DEEP = 160
"""Levels of nodes in nodes: more would be too many for Python's own stack."""


def parse(transform: Transform) -> Function:
    """The typed IR of a transform; CompileError outside the language (R1, R2)."""
    if transform.on_unsupported == "python":
        return verbatim(transform)
    parser = FunctionParser(transform.function, transform.name, field=transform.field)
    try:
        function = parser.function()
    except RecursionError:
        parser.too_deep()
    if depth(function.body) > MOST_DEEP:
        parser.too_deep()
    return function
