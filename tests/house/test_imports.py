"""The order of the rooms, and what stands beside it: no circle, no long function, nothing heavy.

Each file is read once, and one test tells every fault of the package. Imports inside functions and
those that only a type checker reads count as any other.
"""

from __future__ import annotations

import ast
import gc
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("feast", "pandas", "polars", "pyarrow", "duckdb")

# A module imports from its own room and from rooms above it. What stands in one row does not know
# each other, but for the pairs of `BESIDE`.
ROWS = """
errors
core
language aggregates
define
sources online
log offline
project
feed
parity
monitor
store testing results
client server
plugins
cli
"""
RANKS = {room: rank for rank, row in enumerate(ROWS.split("\n")) for room in row.split()}
BESIDE = {("offline", "log")}
"""What a source's events are made of: files, and the log of pushes."""

MOST_ENTRIES = 21
MOST_LINES = 60
TABLES = {"featurekit.language.ops.listing._rows"}
"""Functions that may be longer, since they are tables."""

# What does not hold yet, by what the test says of it. Nothing is added here.
NOT_YET: set[str] = set()
LONG_YET = {
    "featurekit.cli.parser.parser",
    "featurekit.offline.window_plans.running_extremes._running_best",
    "featurekit.offline.windows.make_windows",
}
"""Functions that are too long yet."""


@dataclass(frozen=True, slots=True)
class Read:
    """A module: its file's tree, and whether the file is a package's `__init__.py`."""

    name: str
    tree: ast.Module
    package: bool


@cache
def read(root: Path, top: str) -> dict[str, Read]:
    """Every module below a folder of the checkout, by its name; each file is read once. Tests find
    each other by their names below tests/."""
    found = {}
    gc.disable()  # trees are many small objects: collecting meanwhile takes three quarters of it
    try:
        for path in sorted((root / top).rglob("*.py")):
            inside = path.relative_to(root / "tests" if top == "tests" else root)
            parts = inside.with_suffix("").parts
            package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if package else parts)
            found[name] = Read(name, ast.parse(path.read_text(encoding="utf-8")), package)
    finally:
        gc.enable()
    return found


def statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Every statement, however deep it stands. Expressions, most of a tree, hold none."""
    waiting: list[ast.AST] = [tree]
    for node in waiting:
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting.extend(getattr(node, part, ()))


@cache
def imported(module: Read) -> tuple[str, ...]:
    """Every name that a module imports, wherever it does: `a.b.c` for `from a.b import c`."""
    return tuple(_imported(module))


def _imported(module: Read) -> Iterator[str]:
    for node in statements(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.name.split(".")
                above = above[: len(above) - node.level + module.package]
                base = ".".join([*above, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def graph(modules: dict[str, Read]) -> dict[str, list[str]]:
    """Which of the modules each imports."""
    edges = {}
    for name, module in modules.items():
        found = set()
        for one in imported(module):
            other = one if one in modules else one.rpartition(".")[0]
            if other in modules and other != name:
                found.add(other)
        edges[name] = sorted(found)
    return edges


def circles(edges: dict[str, list[str]]) -> list[list[str]]:
    """The sets of modules of which each reaches every other (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(one: str) -> None:
        index[one] = low[one] = len(index)
        stack.append(one)
        for other in edges[one]:
            if other not in index:
                visit(other)
            if other in stack:
                low[one] = min(low[one], low[other])
        if low[one] == index[one]:
            at = stack.index(one)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for one in edges:
        if one not in index:
            visit(one)
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def against_the_order(edges: dict[str, list[str]]) -> Iterator[str]:
    for module, others in edges.items():
        mine = room(module)
        if not mine:  # featurekit itself shows what is public
            continue
        if mine not in RANKS:
            yield f"{module} stands in no room of the order"
            continue
        for other in others:
            its = room(other)
            above = its in RANKS and RANKS[its] < RANKS[mine]
            if its != mine and not above and (mine, its) not in BESIDE:
                yield f"{module} imports {other}"


def about_names(modules: dict[str, Read]) -> Iterator[str]:
    """A name with an underscore stays in its file, Feast and MLflow in their plugins, and Evidently
    in the module that asks it."""
    for name, module in modules.items():
        for one in imported(module):
            parts = one.split(".")
            if parts[0] == "feast" and room(name) != "plugins":
                yield f"{name} imports feast"
            if parts[0] == "mlflow" and name != "featurekit.plugins.mlflow.client":
                yield f"{name} imports mlflow"
            if parts[0] == "evidently" and name != "featurekit.monitor.drift.evidently":
                yield f"{name} imports evidently"
            own = parts[0] == "featurekit" and len(parts) > 1
            if own and any(p.startswith("_") and not p.startswith("__") for p in parts):
                yield f"{name} imports {one}, which has an underscore"


def functions(modules: dict[str, Read]) -> Iterator[tuple[str, int]]:
    """Every function with the number of its lines."""
    for name, module in modules.items():
        for node in statements(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}.{node.name}", (node.end_lineno or 0) - node.lineno + 1


def faults(root: Path) -> list[str]:
    """Everything that is against the order of the house."""
    package = read(root, "featurekit")
    found = [*against_the_order(graph(package)), *about_names(package)]
    for top in ("featurekit", "benchmarks", "tests"):
        for circle in circles(graph(read(root, top))):
            found.append(f"{', '.join(circle)} import each other in a circle")
    for name, lines in functions(package):
        if lines > MOST_LINES and name not in TABLES | LONG_YET:
            found.append(f"{name} has {lines} lines")
    entries = {p.name for p in (root / "featurekit").iterdir()} - {"__pycache__", "py.typed"}
    if len(entries) > MOST_ENTRIES:
        found.append(f"featurekit has {len(entries)} entries: {', '.join(sorted(entries))}")
    return [fault for fault in found if fault not in NOT_YET]


def test_the_house_is_in_order():
    found = faults(ROOT)
    assert not found, "\n".join(found)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


LATE = "def f():\n    from featurekit.feed.push import take\n    return take\n"
CHECKED = """from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from featurekit.offline.join import make_join
"""


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"log/writer.py": LATE, "feed/push.py": ""},
         "featurekit.log.writer imports featurekit.feed.push"),
        ({"online/state.py": CHECKED, "offline/join.py": ""},
         "featurekit.online.state imports featurekit.offline.join"),
        ({"log/writer.py": CHECKED, "offline/join.py": ""},
         "featurekit.log.writer imports featurekit.offline.join"),
        ({"offline/join.py": "from featurekit.sources import read\n", "sources/__init__.py": ""},
         None),
        ({"offline/join.py": "import featurekit.log.writer\n", "log/writer.py": ""}, None),
        ({"core/a.py": "from featurekit.core.b import x\n", "core/b.py": "from . import a\n"},
         "featurekit.core.a, featurekit.core.b import each other in a circle"),
        ({"core/a.py": "from featurekit.core.b import _x\n", "core/b.py": "_x = 1\n"},
         "featurekit.core.a imports featurekit.core.b._x, which has an underscore"),
        ({"sources/a.py": "def f():\n    import feast\n"}, "featurekit.sources.a imports feast"),
        ({"plugins/mlflow/a.py": "import mlflow.sklearn\n"},
         "featurekit.plugins.mlflow.a imports mlflow"),
        ({"plugins/mlflow/client.py": "import mlflow\n"}, None),
        ({"monitor/drift/ask.py": "from evidently import Report\n"},
         "featurekit.monitor.drift.ask imports evidently"),
        ({"monitor/drift/evidently.py": "from evidently import Report\n"}, None),
        ({"attic/a.py": ""}, "featurekit.attic.a stands in no room of the order"),
        ({"core/a.py": "def f():\n" + "    x = 1\n" * 60}, "featurekit.core.a.f has 61 lines"),
        ({f"e{i}.py": "" for i in range(22)}, "featurekit has 22 entries: " +
         ", ".join(sorted(f"e{i}.py" for i in range(22)))),
    ],
)  # fmt: skip
def test_a_planted_fault_is_told(tmp_path, files, told):
    root = write(tmp_path, {f"featurekit/{name}": text for name, text in files.items()})
    found = faults(root)
    assert (told in found) if told else found == []


def test_circles_are_found_in_tests_and_benchmarks_too(tmp_path):
    late = "def f():\n    import benchmarks.b\n"
    root = write(tmp_path, {"benchmarks/a.py": late, "benchmarks/b.py": "import benchmarks.a\n",
                            "tests/paths.py": "import oracle\n",
                            "tests/oracle.py": "from paths import Paths\n"})  # fmt: skip
    (root / "featurekit").mkdir()
    assert faults(root) == [
        "benchmarks.a, benchmarks.b import each other in a circle",
        "oracle, paths import each other in a circle",
    ]


# --- what is loaded when --------------------------------------------------------------------------


def loaded_by(code: str, names: Iterable[str] = HEAVY) -> set[str]:
    """Those of the modules that a fresh interpreter has after running `code`."""
    shown = f"{code}\nimport sys\nprint(*[m for m in {tuple(names)!r} if m in sys.modules])"
    command = [sys.executable, "-c", shown]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_importing_featurekit_loads_nothing_heavy():
    assert loaded_by("import featurekit") == set()


def test_writing_definitions_loads_nothing_heavy():
    code = "from featurekit import Entity, EventSource, FeatureService, FeatureView, feature\n"
    assert loaded_by(code + "import featurekit.aggregates, featurekit.define.plan") == set()


def test_the_command_line_s_own_modules_load_nothing_heavy():
    assert loaded_by("import featurekit.cli") == set()


SERVE = """
import datetime as dt
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Last, Mean, Sum
from featurekit.define.compile_service import compile_service
from featurekit.feed.events import prepare
from featurekit.feed.settle import write
from featurekit.online.lookup.service import OnlineService
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.redis import RedisStore
from featurekit.project.deployment import promote, publish, set_materialized

source = EventSource("s", path="s.parquet", schema={"k": int, "x": float}, timestamp_field="at")
view = FeatureView("v", entities=[Entity("e", {"k": int})], source=source,
                   features={"n": Count(window="1d"), "x": Sum("x", window="1d"),
                             "m": Mean("x", window="1d"), "l": Last("x", window="1d")})
service = compile_service(FeatureService("f", features=[view]))
store = MemoryStore()
publish(store, "p", service)
set_materialized(store, "p", service.views[0], 0)
promote(store, "p")
row = {"k": 1, "x": 0.5, "__ts": 0, "__created": 0}
write(store, prepare("p", service.views, [row]))
online = OnlineService(store, "p", "f")
found = online.get([{"k": 1}], dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc))
assert found.to_pylist() == [{"k": 1, "n": 1, "x": 0.5, "m": 0.5, "l": 0.5}], found
"""


def test_serving_and_pushing_load_nothing_heavy():
    assert loaded_by(SERVE) == set()
