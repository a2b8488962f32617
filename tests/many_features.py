"""A feature repo of many features, for what must stay quick: views of fifty features each, every
second one by a function of its own."""

from __future__ import annotations

from pathlib import Path

from feature_repos import CONFIG

EACH = 50
_HEAD = """from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Mean, Sum

customer = Entity("customer", {"customer_id": int}, description="Who buys.", owner="crm")
"""
_MODULE = """from common import *

source_{n} = EventSource(
    "source_{n}",
    path="data/source_{n}.parquet",
    schema={{"customer_id": int, "kind": str, **{{f"x{{i}}": float for i in range({each})}}}},
    timestamp_field="at",
    description="Events of topic {n}.",
    owner="team_{n}",
)
"""
_FUNCTION = '''

@feature(owner="team_{n}", tags={{"topic": "t{n}"}})
def scaled_{n}_{i}(x{i}: float, kind: str) -> float:
    """Topic {n}, column {i}, in thousands; nothing for what is of no kind."""
    return 0.0 if kind == "" else x{i} / {i}.5
'''
_VIEW = """
view_{n} = FeatureView(
    "view_{n}",
    entities=[customer],
    source=source_{n},
    features={{{features}}},
    description="What topic {n} says of a customer.",
    owner="team_{n}",
)
service_{n} = FeatureService("service_{n}", features=[view_{n}], owner="team_{n}")
"""


def write_many(folder: Path, features: int) -> Path:
    """Write a repo of so many features into a folder."""
    folder.mkdir(parents=True)
    (folder / "feature_store.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "common.py").write_text(_HEAD, encoding="utf-8")
    for n in range(features // EACH):
        parts = [_MODULE.format(n=n, each=EACH)]
        made = []
        for i in range(EACH):
            window = f'window="{1 + i}d"'
            if i % 2:
                parts.append(_FUNCTION.format(n=n, i=i))
                made.append(f'"mean_{n}_{i}": Mean(scaled_{n}_{i}, {window})')
            else:
                made.append(f'"sum_{n}_{i}": Sum("x{i}", {window}, default=0.0)')
        parts.append(_VIEW.format(n=n, features=", ".join(made)))
        (folder / f"topic_{n}.py").write_text("".join(parts), encoding="utf-8")
    return folder
