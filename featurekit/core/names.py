"""Turns the imports that a module shows to type checkers into names that load on first use."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
"""As in `featurekit`, which imports this first, so that it imports nothing large itself."""

if TYPE_CHECKING:
    import ast
    from typing import Any


class Names:
    """The public names of a module, each loaded on first use.

    They are written in the module once: as imports, `from featurekit.x import Name as Name`, under
    `if TYPE_CHECKING:`. A type checker reads the imports directly, and this class reads them from
    the module's source. The module's `__getattr__` and `__dir__` are `get` and `dir`.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        self._homes: dict[str, str] | None = None

    @property
    def homes(self) -> dict[str, str]:
        """The module that each name comes from, in the order of the imports."""
        if self._homes is None:
            self._homes = self._read()
        return self._homes

    def _read(self) -> dict[str, str]:
        spec = sys.modules[self.module].__spec__
        source = None if spec is None else spec.loader.get_source(self.module)  # type: ignore[union-attr]
        if source is None:
            raise ImportError(f"{self.module}: its source, in which its names stand, is not there")
        import ast  # `import featurekit` alone does not need it

        return homes(ast.parse(source))

    def get(self, name: str) -> Any:
        """The object of that name. AttributeError if the module does not have it."""
        if name == "__all__":
            return list(self.homes)
        if name.startswith("__") or name not in self.homes:
            raise AttributeError(f"module {self.module!r} has no attribute {name!r}")
        import importlib

        found = getattr(importlib.import_module(self.homes[name]), name)
        setattr(sys.modules[self.module], name, found)
        return found

    def dir(self) -> list[str]:
        """All names of the module."""
        return sorted({*vars(sys.modules[self.module]), *self.homes})


def homes(tree: ast.Module) -> dict[str, str]:
    """The names that a module imports for type checkers, each with the module that it comes
    from."""
    import ast

    found: dict[str, str] = {}
    for block in tree.body:
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING"):
            for node in block.body:
                if isinstance(node, ast.ImportFrom) and node.module is not None:
                    found |= {alias.name: node.module for alias in node.names}
    return found
