"""What each verb of the command line does: one function a verb, named as the verb is.

Each takes the arguments and the screen; parity and demo return whether the paths agree.
"""

from __future__ import annotations

import argparse
import datetime as dt
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.parser import UsageError
from featurekit.cli.values import csv_frame, csv_texts, json_rows, read_text
from featurekit.core.screen import Screen, as_text, shown
from featurekit.core.texts import lenient
from featurekit.core.types import DATETIME, Type
from featurekit.errors import ConfigError, DataError, EntityFrameError, NotServed

if TYPE_CHECKING:
    from featurekit.project.registry import Change
    from featurekit.store import FeatureStore

_FILE = "feature_store.yaml"
_SHORT = 12
_ACTIONS = {
    "add": "+ add",
    "change": "~ change",
    "describe": "  describe",
    "remove": "- remove",
}


def init(arguments: argparse.Namespace, screen: Screen) -> None:
    """Write a starter repo."""
    from featurekit.cli.starter import write_starter

    folder: Path = arguments.folder
    files = write_starter(folder, dt.datetime.now(dt.UTC))
    screen.document({"folder": folder, "files": files})
    screen.line(f"Wrote a feature repo in {folder}:")
    for file in files:
        screen.line(f"  {file}")
    repo = "" if str(folder) == "feature_repo" else f" --repo {folder}"
    screen.line("Next:")
    for command in (
        "apply",
        "materialize",
        "get-online checkout customer_id=1 basket_value=25",
        f"get-historical checkout {folder}/labels.csv",
        "parity",
    ):
        screen.line(f"  featurekit{repo} {command}")


def plan(arguments: argparse.Namespace, screen: Screen) -> None:
    """Show what apply would change."""
    with _store(arguments) as store:
        changes, notes = store.plan(), _notes(store)
        screen.document(
            {"project": store.project, "changes": [_change(c) for c in changes], "notes": notes}
        )
        _show_changes(screen, changes)
        _show_notes(screen, notes)


def apply(arguments: argparse.Namespace, screen: Screen) -> None:
    """Record the definitions, publish the services."""
    with _store(arguments) as store:
        changes, notes = store.apply(), _notes(store)
        live = store.live()
        services = store.repo.compiled_services
        waiting = [
            name
            for name, service in services.items()
            if name not in live or live[name].fingerprint != service.fingerprint
        ]
        screen.document(
            {
                "project": store.project,
                "changes": [_change(c) for c in changes],
                "notes": notes,
                "live": [name for name in services if name not in waiting],
                "waiting": waiting,
            }
        )
        _show_changes(screen, changes)
        _show_notes(screen, notes)
        screen.line(f"\nApplied to project {store.project}.")
        if waiting:
            screen.line(f"Waiting for `featurekit materialize`: {', '.join(waiting)}.")


def versions(arguments: argparse.Namespace, screen: Screen) -> None:
    """List a service's versions."""
    with _store(arguments) as store:
        found = store.versions(arguments.service)
    screen.document(
        {
            "service": arguments.service,
            "versions": [
                {
                    "fingerprint": v.fingerprint,
                    "applied_at": v.applied_at,
                    "applied_by": v.applied_by,
                    "state": v.state,
                    "materialized_until": v.materialized_until,
                }
                for v in found
            ],
        }
    )
    screen.table(
        ("fingerprint", "applied at", "by", "state", "materialised up to"),
        [
            (
                short(v.fingerprint),
                dt.datetime.fromisoformat(v.applied_at).replace(microsecond=0),
                v.applied_by,
                v.state,
                v.materialized_until,
            )
            for v in found
        ],
    )


def rollback(arguments: argparse.Namespace, screen: Screen) -> None:
    """Serve an older version again."""
    with _store(arguments) as store:
        done = store.rollback(arguments.service, arguments.to)
        defined = store.repo.compiled_services.get(done.service)
    screen.document(
        {
            "service": done.service,
            "fingerprint": done.fingerprint,
            "before": done.before,
            "live": done.live,
            "unfilled": list(done.unfilled),
            "withdrawn": done.withdrawn,
        }
    )
    name, now, before = done.service, short(done.fingerprint), short(done.before)
    if done.live and done.fingerprint == done.before:
        screen.line(f"{name}: {now} stays live.")
    elif done.live:
        was = f"; it was {before}, which stays fed" if before else ""
        screen.line(f"{name}: {now} is live at once{was}.")
    else:
        until = f"; until then {before} answers" if before else ""
        screen.line(
            f"{name}: {now} is next, and live once `featurekit materialize` has filled "
            f"{', '.join(done.unfilled)}{until}."
        )
    if done.withdrawn:
        screen.line(f"{short(done.withdrawn)} was waiting and is withdrawn.")
    if defined is not None and defined.fingerprint != done.fingerprint:
        screen.line(
            f"The repo still defines {short(defined.fingerprint)}: take the change back there too, "
            "or the next `featurekit apply` publishes it again."
        )


def gc(arguments: argparse.Namespace, screen: Screen) -> None:
    """Remove what no version in use needs."""
    with _store(arguments) as store, screen.progress() as move:
        done = store.gc(
            arguments.versions,
            retained=arguments.retained,
            dry_run=arguments.dry_run,
            progress=partial(move, "keys"),
        )
    screen.document(
        {
            "dry_run": done.dry_run,
            "keys": done.keys,
            "bytes": done.bytes,
            "versions": [
                {
                    "kind": v.kind,
                    "name": v.name,
                    "fingerprint": v.fingerprint,
                    "used_by": list(v.used_by),
                    "keys": v.keys,
                    "bytes": v.bytes,
                    "removed": not v.used_by and not done.dry_run,
                }
                for v in done.versions
            ],
        }
    )
    gone = "would go" if done.dry_run else "removed"
    screen.table(
        ("kind", "name", "fingerprint", "keys", "bytes", ""),
        [
            (
                v.kind,
                v.name,
                short(v.fingerprint),
                v.keys,
                None if v.used_by else v.bytes,
                f"kept for {', '.join(v.used_by)}" if v.used_by else gone,
            )
            for v in done.versions
        ],
    )
    what = "would be" if done.dry_run else "were"
    screen.line(f"\n{done.keys} keys of {done.bytes} bytes {what} removed.")


def materialize(arguments: argparse.Namespace, screen: Screen) -> None:
    """Fill the online states."""
    if arguments.incremental and arguments.entities:
        raise UsageError("--entity reads all of an entity's events; leave out --incremental")
    with _store(arguments) as store, screen.progress() as move:
        if arguments.incremental:
            done = store.materialize_incremental(
                arguments.end, views=arguments.views, progress=move
            )
        else:
            views = store.repo.compiled_views.values()
            types = {p.name: p.type for view in views for p in view.join_keys}
            done = store.materialize(
                arguments.end,
                views=arguments.views,
                entities=arguments.entities and [_one_row(e, types) for e in arguments.entities],
                progress=move,
            )
    counts = [
        {
            "view": v.view,
            "entities": v.entities,
            "events": v.events,
            "null_keys": v.null_keys,
            "erring": v.erring,
        }
        for v in done.views
    ]
    screen.document({"until": done.until, "views": counts, "went_live": list(done.live)})
    if counts:
        columns = ("view", "entities written", "events read", "without an entity", "erring")
        screen.table(columns, [list(c.values()) for c in counts])
    else:
        screen.line("Nothing to do.")
    asked = len(arguments.entities or ())
    what = f"Put right what {asked} named entities have" if asked else "Materialised"
    screen.line(f"\n{what} up to {done.until.isoformat()}.")
    if done.live:
        screen.line(f"Live now: {', '.join(done.live)}.")


def push(arguments: argparse.Namespace, screen: Screen) -> None:
    """Add events of a source."""
    with _store(arguments) as store:
        rows = _event_rows(store, arguments.source, arguments.file)
        done = store.push(arguments.source, rows)
    counts = {
        "rows": done.rows,
        "entities": done.entities,
        "null_keys": done.null_keys,
        "erring": done.erring,
        "quarantined": done.quarantined,
        "forgotten": done.forgotten,
    }
    screen.document({"source": arguments.source, **counts})
    screen.table(
        (
            "source",
            "rows taken",
            "states changed",
            "without an entity",
            "erring",
            "set aside",
            "forgotten",
        ),
        [[arguments.source, *counts.values()]],
    )


def consume(arguments: argparse.Namespace, screen: Screen) -> None:
    """Take events from a Redis stream until it is interrupted, or nothing is left."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())  # the batch in hand is finished first
    with _store(arguments) as store, screen.progress() as move:
        done = store.consume(
            arguments.source,
            stream=arguments.stream,
            url=arguments.stream_url,
            group=arguments.group,
            name=arguments.name,
            batch=arguments.batch,
            idle_s=arguments.idle,
            until_empty=arguments.until_empty,
            stop=stop,
            progress=lambda now: move("entries", now.entries, now.entries),
        )
    counts = {
        "entries": done.entries,
        "taken_over": done.taken_over,
        "set_aside": done.set_aside,
        "trimmed": done.trimmed,
    }
    screen.document({"source": arguments.source, **counts})
    screen.table(
        ("source", "entries", "taken over", "set aside", "trimmed before"),
        [[arguments.source, *counts.values()]],
    )


def forget(arguments: argparse.Namespace, screen: Screen) -> None:
    """Remove an entity's events and states."""
    with _store(arguments) as store, screen.progress() as move:
        entities = {e.name: e for view in store.repo.views.values() for e in view.entities}
        known = entities.get(arguments.entity)  # where there is none, `forget` says which there are
        keys = _one_row(arguments.keys, known.join_keys if known else {})
        done = store.forget(
            arguments.entity, keys, rewrite_files=arguments.rewrite_files, progress=move
        )
    files = [(*f, "the source's") for f in map(_file_rows, done.files)]
    files += [(*f, "set aside") for f in map(_file_rows, done.set_aside)]
    screen.document(
        {
            "entity": done.entity,
            "until": done.until,
            "states_removed": done.states,
            "states_made_anew": done.repaired,
            "log_rows_removed": done.log_rows,
            "files": [
                {"path": path, "rows": rows, "rewritten": rewritten, "what": what}
                for path, rows, rewritten, what in files
            ],
            "unknown_versions": list(done.unknown),
        }
    )
    screen.table(
        ("view", "version", "states"),
        [
            (*v.split(":")[:1], f"{short(v.split(':')[1])}", f"{n} {what}")
            for found, what in ((done.states, "removed"), (done.repaired, "made anew"))
            for v, n in found.items()
        ],
    )
    screen.line(f"\n{done.log_rows} rows were removed from the log of pushes.")
    if files:
        screen.table(
            ("file", "rows", "", ""),
            [(p, n, "rewritten without them" if r else "still there", w) for p, n, r, w in files],
        )
    if not all(rewritten for _, _, rewritten, _ in files):
        screen.line(
            "Rows that are still there are not read any more; --rewrite-files takes them out of "
            "the sources' files."
        )
    if done.unknown:
        screen.line(
            f"Nobody can read the keys of states of {', '.join(done.unknown)}: "
            "`featurekit gc` removes them."
        )
    screen.line(
        f"Forgotten until {done.until.isoformat()}. Training sets that were written, backups, and "
        "Redis' own files until it rewrites them may still hold something."
    )


def _file_rows(found: Any) -> tuple[str, int, bool]:
    return found.path, found.rows, found.rewritten


def get_historical(arguments: argparse.Namespace, screen: Screen) -> None:
    """Make a training set."""
    from featurekit.core.timezones import zone

    zone(arguments.timezone)  # an error also where no instant is naive
    asked = {name: getattr(arguments, name) for name in ("at", "start", "end", "every", "entities")}
    if (arguments.frame is None) == all(value is None for value in asked.values()):
        raise UsageError("name a FRAME, or instants with --at, or with --start, --end and --every")
    if arguments.output is not None and arguments.output.is_dir():
        raise DataError(f"{arguments.output} is a folder; name a file, as in train.parquet")
    with _store(arguments) as store:
        service = store.repo.compiled_services.get(arguments.service)
        frame: Any = arguments.frame
        if service is not None and frame is not None and frame.suffix.lower() == ".csv":
            request = {p.name: p.type for p in service.request}
            frame = csv_frame(frame, {**service.join_keys, **request})
        training = store.get_historical_features(
            frame,
            arguments.service,
            **asked,
            full_feature_names=arguments.full_feature_names,
            statuses=arguments.statuses,
            timezone=arguments.timezone,
            known_at=arguments.known_at,
            buckets=arguments.buckets,
        )
        if arguments.output is not None:
            try:
                manifest = training.to_parquet(arguments.output)
            except OSError as error:
                raise DataError(
                    f"{arguments.output} cannot be written: {error.strerror or error}"
                ) from None
            screen.document({"output": arguments.output, "manifest": manifest})
            screen.line(f"Wrote {manifest['rows']} rows to {arguments.output}, with its manifest.")
        else:
            table = training.to_arrow()
            manifest = training.manifest
            first = table.slice(0, arguments.limit).to_pylist()
            types = {field.name: str(field.type) for field in table.schema}
            screen.document({"manifest": manifest, "types": types, "first_rows": first})
            _show_rows(screen, table.column_names, first)
            screen.line(
                f"\n{len(first)} of {manifest['rows']} rows; -o OUT.parquet keeps them all."
            )
        screen.line(f"Content hash {manifest['content_hash']}")
        _show_errors(screen, manifest["errors"])


def get_online(arguments: argparse.Namespace, screen: Screen) -> None:
    """Answer for some entities."""
    if bool(arguments.values) == (arguments.rows is not None):
        raise UsageError(
            "write key=value for each join key and request field, or --rows FILE.jsonl"
        )
    with _store(arguments) as store:
        live = store.live()
        service = live.get(arguments.service)
        if service is None:
            raise NotServed(
                f"project {store.project!r} serves no service {arguments.service!r}; live are: "
                f"{', '.join(live) or 'none'}; run `featurekit apply` and `featurekit materialize`"
            )
        types = {**service.join_keys, **{p.name: p.type for p in service.request}}
        if arguments.rows is not None:
            rows = json_rows(arguments.rows, types)
        else:
            rows = [_one_row(arguments.values, types)]
        found = store.get_online_features(arguments.service, rows, as_of=arguments.as_of)
    answers = list(
        zip(_by_row(found.entities), _by_row(found.columns), found.statuses(), strict=True)
    )
    screen.document(
        {
            "service": arguments.service,
            "as_of": found.as_of,
            "rows": [{"entity": e, "features": f, "statuses": s} for e, f, s in answers],
        }
    )
    for entity, features, statuses in answers:
        screen.line(", ".join(f"{k} = {v!r}" for k, v in entity.items()), style="bold")
        screen.table(
            ("feature", "value", "status"), [(n, v, statuses[n]) for n, v in features.items()]
        )
        screen.line()
    screen.line(f"As of {found.as_of.isoformat()}.")


def explain(arguments: argparse.Namespace, screen: Screen) -> None:
    """Show how one value came about."""
    from featurekit.cli.verbs.explained import show_explanation

    with _store(arguments) as store:
        service = store.repo.compiled_services.get(arguments.service)
        types: dict[str, Type] = {}
        if service is not None:  # else `explain` says which services there are
            types = {**service.join_keys, **{p.name: p.type for p in service.request}}
        row = _one_row(arguments.values, types)
        made = store.explain(arguments.service, arguments.feature, row, arguments.as_of)
    screen.document(made.to_dict())
    show_explanation(screen, made)


def parity(arguments: argparse.Namespace, screen: Screen) -> bool:
    """Compare both paths bit for bit, in one of the modes."""
    from featurekit.cli.verbs import parity_modes as modes

    modes.check_files(arguments)
    if arguments.mode == "operators":
        folder = _repo_folder(arguments)
        return modes.operators(arguments, screen, None if folder is None else _state_dir(folder))
    with _store(arguments) as store:
        agree: bool = getattr(modes, arguments.mode)(store, arguments, screen)
    return agree


def demo(arguments: argparse.Namespace, screen: Screen) -> bool:
    """Do all of it on the example shop."""
    from featurekit.cli.demo.run import run_demo

    return run_demo(
        screen,
        folder=arguments.folder,
        data=arguments.data,
        redis_url=arguments.redis_url,
        labels=arguments.labels,
        values=arguments.values,
    )


# --- what verbs share -----------------------------------------------------------------------------


@contextmanager
def _store(arguments: argparse.Namespace) -> Iterator[FeatureStore]:
    """The feature store of --repo, or of the folder that the shell is in."""
    folder = _repo_folder(arguments)
    if folder is None:
        raise ConfigError(
            f"no {_FILE} in this folder or in feature_repo; name the repo with --repo, or write "
            "one with `featurekit init`"
        )
    from featurekit.store import FeatureStore

    with FeatureStore(folder, redis_url=arguments.redis_url) as store:
        yield store


def _repo_folder(arguments: argparse.Namespace) -> Path | None:
    """The folder of --repo, or the one that holds a repo where the shell is; None without one."""
    folder: Path | None = arguments.repo
    if folder is None:
        folder = next((p for p in (Path(), Path("feature_repo")) if (p / _FILE).is_file()), None)
    return folder


def _state_dir(folder: Path) -> Path:
    from featurekit.project.config import load_config

    return folder / load_config(folder).featurekit.state_dir


def short(fingerprint: str | None) -> str | None:
    """The beginning of a fingerprint, which tells versions apart for people."""
    return fingerprint and fingerprint[:_SHORT]


def _change(change: Change) -> dict[str, Any]:
    return {
        "action": change.action,
        "kind": change.kind,
        "name": change.name,
        "old": change.old,
        "new": change.new,
        "features": list(change.details),
    }


def _show_changes(screen: Screen, changes: Sequence[Change]) -> None:
    if not changes:
        screen.line("No changes.")
        return
    rows = []
    for c in changes:
        prints = [p for p in (short(c.old), short(c.new)) if p]
        rows.append(
            (
                _ACTIONS[c.action],
                c.kind,
                c.name,
                " → ".join(dict.fromkeys(prints)),
                " ".join(c.details),
            )
        )
    columns = ("action", "kind", "name", "fingerprint", "features")
    with_details = any(c.details for c in changes)
    screen.table(columns if with_details else columns[:4], rows)


def _notes(store: FeatureStore) -> dict[str, Any]:
    """What to know of the definitions: sources whose rows do not say when they arrived (T3), and
    features with parts that DuckDB computes by calling Python (R5)."""
    from featurekit.language.to_duckdb.lowering import python_parts

    repo = store.repo
    read = {v.source.name: v.source for v in repo.compiled_views.values()}
    unknown = [n for n, s in sorted(read.items()) if s.created_timestamp_column is None]
    called: dict[str, list[str]] = {}
    for view in repo.compiled_views.values():
        for feature in view.features:
            slots = [view.slots[i] for i in (feature.slot, feature.where) if i is not None]
            parts = {p for s in slots if s.transform for p in python_parts(s.transform)}
            if parts:
                called[f"{view.name}.{feature.name}"] = sorted(parts)
    for service in repo.compiled_services.values():
        for output in service.outputs:
            if output.view < 0:
                parts = set(python_parts(service.transforms[output.index].function))
                if parts:
                    called[f"{service.name}.{output.name}"] = sorted(parts)
    return {"arrival_unknown": unknown, "python_in_duckdb": called}


def _show_notes(screen: Screen, notes: Mapping[str, Any]) -> None:
    if notes["arrival_unknown"]:
        screen.line(
            f"\narrival unknown: {', '.join(notes['arrival_unknown'])} – rows of files count as "
            "known from their own instant on; name a created_timestamp_column where there is one"
        )
    if notes["python_in_duckdb"]:
        screen.line("\nruns as Python inside DuckDB, slower and never different:")
        screen.table(
            ("feature", "parts"),
            [(name, ", ".join(found)) for name, found in notes["python_in_duckdb"].items()],
        )


def _event_rows(store: FeatureStore, source: str, file: str) -> Any:
    """What a push takes, with the types that the source declares where the file's are text."""
    definition = store.repo.sources.get(source)
    types: dict[str, Type] = {}
    if definition is not None:  # else the push itself says which there are
        types = dict(definition.schema)
        for column in (definition.timestamp_field, definition.created_timestamp_column):
            if column is not None:
                types[column] = DATETIME.or_none()
    suffix = Path(file).suffix.lower()
    if suffix == ".csv":
        texts = csv_texts(Path(file), types)
        return [
            {k: lenient(v, types[k]) if k in types else v for k, v in row.items()}
            for row in texts.to_pylist()
        ]
    if suffix in (".parquet", ".pq"):
        return _parquet(Path(file))
    return json_rows(file, types)


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise DataError(f"{path} is no Parquet file: {error}") from None


def _one_row(pairs: Sequence[tuple[str, str]], types: Mapping[str, Type]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, text in pairs:
        if key in row:
            raise EntityFrameError(f"{key} is given twice; --rows takes many rows")
        row[key] = read_text(text, types[key], what=key) if key in types else text
    return row


def _by_row(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _show_errors(screen: Screen, errors: Mapping[str, Any]) -> None:
    """What erred in a training set, with a sample (R3)."""
    for name, found in errors["features"].items():
        screen.line(f"{name} erred in {found['rows']} rows, first in row {found['first_row']}.")
    for name, found in errors["transforms"].items():
        screen.line(
            f"{name} erred on {found['events']} events, the first: {shown(found['first'])}."
        )


def _show_rows(screen: Screen, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """A frame's first rows; one that is too wide for a table stands on its side."""
    if len(names) <= 7:
        screen.table(names, [[row[n] for n in names] for row in rows])
        return
    columns = ("column", *(f"row {i}" for i in range(min(3, len(rows)))))
    screen.table(columns, [[n, *(as_text(row[n]) for row in rows[:3])] for n in names])
