"""Turns plain typed functions into the typed IR, or into an error with a caret (R1, R2).

Types follow mypy's narrowing: a `T | None` must be tested before an operator takes it. An int
becomes a float only where Python itself would convert it, or where the declared result does.
Elsewhere the error's hint says what to write.

`context` has what is known of one function while it is parsed. `handlers` has the tables, in which
every class of syntax finds its handler. The other modules fill the tables, each with one subject,
and import only modules before it in this list: `flow`, `operators`, `sequences` (lists),
`arguments`, `patterns` (matches), `instants` (zones), `conditions` (truth and narrowing), `tables`
(constant dicts), `loops`, `comprehensions`, `functions` (whole ones), `helpers` (inlined ones),
`calls`, `expressions`, `statements`. `promises` and `usage` check the result and the text.
`verbatim` takes a function as it is written.
"""

from __future__ import annotations

from featurekit.language.ir import Function
from featurekit.language.parse import attempts as attempts
from featurekit.language.parse import expressions as expressions
from featurekit.language.parse import statements as statements
from featurekit.language.parse.context import begin
from featurekit.language.parse.functions import too_deep, whole_function
from featurekit.language.parse.verbatim import verbatim
from featurekit.language.transform import Transform
from featurekit.language.walk import MOST_DEEP, depth


def parse(transform: Transform) -> Function:
    """The typed IR of a transform; CompileError outside the language (R1, R2)."""
    if transform.on_unsupported == "python":
        return verbatim(transform)
    p = begin(transform.function, transform.name, field=transform.field)
    try:
        function = whole_function(p)
    except RecursionError:
        too_deep(p)
    if depth(function.body) > MOST_DEEP:
        too_deep(p)
    return function
