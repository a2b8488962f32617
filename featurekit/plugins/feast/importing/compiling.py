"""Asks featurekit's own compiler whether a written function is one of the language."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

from featurekit.errors import DefinitionError
from featurekit.language.parse import parse
from featurekit.language.transform import Transform

_numbers = itertools.count()


def fault_of(source: str, names: list[str]) -> str | None:
    """Why the features of these names in a module's text do not compile; None where they do. A name
    may have a field, as in `f.x`."""
    with tempfile.TemporaryDirectory(prefix="featurekit-") as folder:
        name = f"_imported_{next(_numbers)}"
        path = Path(folder) / f"{name}.py"
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
            for one in names:
                parse(_transform(module, one))
        except DefinitionError as error:
            return _reason(error)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            del sys.modules[name]
    return None


def _transform(module: Any, name: str) -> Transform:
    function, _, part = name.partition(".")
    found = getattr(module, function)
    one: Transform = found[part] if part else found
    return one


def _reason(error: DefinitionError) -> str:
    reason, hint = getattr(error, "reason", None), getattr(error, "hint", "")
    return f"{reason}; {hint}" if reason else str(error)
