"""Imports run one way, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import featurekit

PACKAGE = Path(featurekit.__file__).parent
HEAVY = ("feast", "pandas", "polars", "pyarrow", "duckdb")

# The order of the parts: a module imports only from parts above its own, or from its own.
LAYERS = [
    ["errors"],
    ["types", "durations"],
    ["texts", "journal"],
    ["timezones"],
    ["ir"],
    ["ops", "aggregates", "results"],
    ["verbatim"],
    ["define"],
    ["parse"],
    ["compiled"],
    ["to_python", "numerics"],
    ["vectorise"],
    ["to_duckdb"],
    ["registry", "sources", "online"],
    ["view_events", "entity_frame", "manifest", "push_log", "tombstones"],
    ["event_ids", "entity_events"],
    ["window_plans", "buckets"],
    ["point_in_time", "serve", "compaction"],
    ["known_entities", "push"],
    ["remember"],
    ["offline", "materialise", "deployment"],
    ["versions", "gc", "selection", "pushing"],
    ["config", "repo"],
    ["serving_log"],
    ["store"],
    ["consume"],
    ["screen"],
    ["parity", "forget"],
    ["testing"],
    ["pytest_plugin"],
    ["demo"],
    ["cli"],
]


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(("featurekit", *(p for p in parts if p != "__init__")))] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """The modules of featurekit that a file imports as it is loaded.

    What a function imports when it is called, or only a type checker reads, does not count.
    """
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=orelse):
                pending += orelse
                continue
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                continue
            case ast.Import(names=names):
                yield from (n.name for n in names if n.name in MODULES)
            case ast.ImportFrom(module=module, names=names) if module in MODULES:
                inside = [f"{module}.{n.name}" for n in names]
                yield from (n if n in MODULES else module for n in inside)
        pending += ast.iter_child_nodes(node)


def part(module: str) -> str:
    return module.removeprefix("featurekit").strip(".").split(".")[0]


RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def test_every_part_has_its_place_in_the_order():
    assert sorted({part(m) for m in MODULES} - {""}) == sorted(RANKS)


@pytest.mark.parametrize("module", [m for m in MODULES if part(m)])
def test_a_module_imports_only_from_above(module):
    below = {
        other
        for other in imports(MODULES[module])
        if part(other) and part(other) != part(module) and RANKS[part(other)] >= RANKS[part(module)]
    }
    assert below == set()


def test_modules_import_each_other_in_no_cycle():
    graph = {m: {o for o in imports(p) if o != m} for m, p in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above[above.index(module) :], module))
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("module", MODULES)
def test_nothing_but_its_own_plugin_imports_feast(module):
    names = [
        alias.name if isinstance(node, ast.Import) else node.module or ""
        for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    ]
    assert part(module) == "feast" or not [n for n in names if n.split(".")[0] == "feast"]


def loaded_by(code: str) -> set[str]:
    """The heavy libraries that a fresh interpreter has after running `code`."""
    shown = f"{code}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    command = [sys.executable, "-c", shown]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return set(done.stdout.split())


def test_importing_featurekit_loads_nothing_heavy():
    assert loaded_by("import featurekit") == set()


def test_writing_definitions_loads_nothing_heavy():
    code = "from featurekit import Entity, EventSource, FeatureService, FeatureView, feature\n"
    assert loaded_by(code + "import featurekit.aggregates, featurekit.define.plan") == set()


def test_the_command_line_s_own_modules_load_nothing_heavy():
    assert loaded_by("import featurekit.cli") == set()


SERVE = """
import featurekit.online.lookup.service as serve
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Last, Mean, Sum
from featurekit.define.compile_service import compile_service
from featurekit.project.deployment import publish, set_materialized, promote
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.memory import MemoryStore
from featurekit.feed.events import prepare; from featurekit.feed.settle import write

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
import datetime as dt
online = serve.OnlineService(store, "p", "f")
found = online.get([{"k": 1}], dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc))
assert found.to_pylist() == [{"k": 1, "n": 1, "x": 0.5, "m": 0.5, "l": 0.5}], found
"""


def test_serving_and_pushing_load_nothing_heavy():
    assert loaded_by(SERVE) == set()
