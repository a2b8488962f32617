"""Random whole functions of the language, as text, and awkward rows to ask them about.

`inputs` holds the parameters and their values, `grammar` what an expression of each type may be,
`operators` the same for every row of the operator table, `expressions` and `statements` write them,
and `tally` counts what was reached.
"""

from __future__ import annotations

from programs.inputs import MODULE, columns
from programs.statements import Writer
from programs.tally import Tally

__all__ = ["MODULE", "Tally", "Writer", "columns"]
