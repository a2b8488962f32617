"""`featurekit forget`: removes the events and states of an entity."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import argument, pair, verb
from featurekit.cli.contracts import know_mlflow
from featurekit.cli.in_mlflow import in_mlflow
from featurekit.cli.repo import open_store
from featurekit.cli.show import short
from featurekit.cli.values import one_row
from featurekit.core.screen import Screen
from featurekit.errors import DataError

if TYPE_CHECKING:
    from featurekit.results import Forgot


@verb(
    "It asks nothing, and cannot be undone. What arrives from now on is a new start.",
    argument("entity", metavar="ENTITY", help="the entity's name"),
    argument(
        "--key",
        dest="keys",
        action="append",
        type=pair,
        required=True,
        metavar="KEY=VALUE",
        help="a join key of the entity and its value; each of them once",
    ),
    argument(
        "--rewrite-files",
        action="store_true",
        help="take the rows out of the sources' files too (default: they stay there, unread)",
    ),
    argument(
        "--log",
        dest="logs",
        action="append",
        default=[],
        metavar="LOG",
        help="another serving log than the configured one, a folder or stream:NAME; several times "
        "for several",
    ),
    argument(
        "--delete-in-mlflow",
        action="store_true",
        help="delete labels of training sets in MLflow that have the entity, at "
        "MLFLOW_TRACKING_URI (default: they are listed)",
    ),
)
def forget(arguments: Namespace, screen: Screen) -> None:
    """Remove an entity's events and states."""
    if arguments.delete_in_mlflow:
        know_mlflow()
    with open_store(arguments) as store, screen.progress() as move:
        entities = {e.name: e for view in store.repo.views.values() for e in view.entities}
        known = entities.get(arguments.entity)  # where there is none, `forget` says which there are
        keys = one_row(arguments.keys, known.join_keys if known else {})
        done = store.forget(
            arguments.entity,
            keys,
            rewrite_files=arguments.rewrite_files,
            logs=arguments.logs,
            progress=move,
        )
        kept = in_mlflow(store, keys, delete=arguments.delete_in_mlflow, progress=move)
    files = [(*f, "the source's") for f in map(_file_rows, done.files)]
    files += [(*f, "set aside") for f in map(_file_rows, done.set_aside)]
    files += [(*f, "labels of a training set") for f in map(_file_rows, done.labels)]
    screen.document(
        {
            "entity": done.entity,
            "until": done.until,
            "states_removed": done.states,
            "states_made_anew": done.repaired,
            "log_rows_removed": done.log_rows - done.log_lists,
            "log_lists_shortened": done.log_lists,
            "files": [
                {"path": path, "rows": rows, "rewritten": rewritten, "what": what}
                for path, rows, rewritten, what in files
            ],
            "unknown_versions": list(done.unknown),
            "served_rows": done.served_rows,
            "outcomes": done.outcomes,
            "told": list(done.told),
            "mlflow": kept.document(),
        }
    )
    _show(screen, done, files)
    kept.show(screen)
    _show_end(screen, done)
    if kept.why and arguments.delete_in_mlflow:
        raise DataError(f"the entity is forgotten, and MLflow may still have it: {kept.why}")


def _show(screen: Screen, done: Forgot, files: Sequence[tuple[str, int, bool, str]]) -> None:
    """What was removed, and what is still there."""
    screen.table(
        ("view", "version", "states"),
        [
            (*v.split(":")[:1], f"{short(v.split(':')[1])}", f"{n} {what}")
            for found, what in ((done.states, "removed"), (done.repaired, "made anew"))
            for v, n in found.items()
        ],
    )
    removed = done.log_rows - done.log_lists
    screen.line("\n" + _told(removed, "row was", "rows were") + " removed from the log of pushes.")
    if done.log_lists:
        screen.line(
            _told(
                done.log_lists, "row of it stays, and its list", "rows of it stay, and their lists"
            )
            + " lost the entity: the other elements are of others."
        )
    screen.line(
        _told(done.served_rows, "row of the serving log says", "rows of the serving log say")
        + " FORGOTTEN now."
    )
    if done.outcomes:
        screen.line(
            _told(done.outcomes, "outcome of them was", "outcomes of them were") + " removed."
        )
    if files:
        screen.table(
            ("file", "rows", "", ""),
            [
                (p, n, "rewritten without the entity" if r else "still there", w)
                for p, n, r, w in files
            ],
        )
    if not all(rewritten for _, _, rewritten, _ in files):
        screen.line(
            "What of the entity is still there is not read any more; --rewrite-files takes it out "
            "of the sources' files. Delete labels of training sets with their rows, or make these "
            "anew."
        )
    for path in done.told:
        screen.line(
            f"{path} names the entity, and only its owner can write it anew.", style="yellow"
        )
    if done.unknown:
        screen.line(
            f"Nobody can read the keys of states of {', '.join(done.unknown)}: "
            "`featurekit gc` removes them."
        )


def _show_end(screen: Screen, done: Forgot) -> None:
    screen.line(
        f"Forgotten until {done.until.isoformat()}. Training sets that were written, models and "
        "contracts in registries of other tools, backups, and Redis' own files until it rewrites "
        "them may still hold something."
    )


def _told(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _file_rows(found: Any) -> tuple[str, int, bool]:
    return found.path, found.rows, found.rewritten
