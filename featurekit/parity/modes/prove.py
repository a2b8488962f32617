"""Proves the installed DuckDB: every operator and every aggregate, and keeps what was found."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from featurekit.core.files import write_named
from featurekit.core.openness import make_folder
from featurekit.core.screen import Advance
from featurekit.define.proven import duckdb_version, fingerprint, machine, proof_path
from featurekit.errors import ConfigError
from featurekit.parity.budget import Budget
from featurekit.parity.modes.aggregates import check_aggregates
from featurekit.parity.modes.operators import OperatorsReport, check_operators, connection

_ENOUGH = 200  # inputs of a row


def prove(
    *,
    budget: Budget,
    seed: int = 0,
    only: str = "",
    progress: Advance | None = None,
) -> OperatorsReport:
    """The operators and aggregates whose key contains `only`; the budget is that of the operators,
    whereas the aggregates are tried once."""
    report = check_operators(budget=budget, seed=seed, only=only, progress=progress)
    clock = budget.clock()
    report.aggregates = check_aggregates(connection(), only=only, seed=seed)
    report.seconds += clock.taken
    return report


def proof_of(report: OperatorsReport) -> dict[str, Any]:
    """What is kept of a proof: of what, where, and what it found."""
    return {
        "duckdb": duckdb_version(),
        "fingerprint": fingerprint(),
        "platform": machine(),
        "ok": report.ok,
        "failed": report.failed,
        "operators": len(report.rows),
        "aggregates": len(report.aggregates),
        "inputs": report.compared,
        "seed": report.seed,
    }


def keep_proof(report: OperatorsReport, state_dir: Path, *, only: str = "") -> Path | None:
    """Keep the proof in a state folder. None, and nothing is kept, of a part of the operators,
    where all agree but some row was tried on too little to say so, and, with a warning, where the
    folder cannot be written to."""
    if only or (report.ok and min(row.inputs for row in report.all.values()) < _ENOUGH):
        return None
    path = proof_path(state_dir)
    data = json.dumps(proof_of(report), indent=2).encode() + b"\n"
    try:
        make_folder(path.parent)
        write_named(path, data, "the proof")
    except (OSError, ConfigError) as error:
        warnings.warn(f"the proof is not kept: {error}", stacklevel=2)
        return None
    return path
