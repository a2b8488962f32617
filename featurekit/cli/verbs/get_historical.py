"""`featurekit get-historical`: turns a frame of entities and instants into a training set."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import (
    UsageError,
    argument,
    duration,
    features_option,
    instant,
    labels_option,
    positive,
    verb,
)
from featurekit.cli.repo import open_store
from featurekit.cli.show import show_bad_rows
from featurekit.cli.values import check_file
from featurekit.core.durations import duration_us
from featurekit.core.files import check_writable, write_whole
from featurekit.core.screen import Screen, as_text, shown
from featurekit.errors import DataError, DefinitionError, WriteError

if TYPE_CHECKING:
    from featurekit.monitor.profiles.training import TrainingProfiler
    from featurekit.results import TrainingSet

_ENDINGS = (".csv", ".parquet", ".pq")


@verb(
    "Without a frame, for every entity that is known at the instants of --at, or of --start, "
    "--end and --every.",
    argument(
        "service", nargs="?", metavar="SERVICE", help="the service's name; none with --features"
    ),
    argument(
        "frame",
        nargs="?",
        type=Path,
        metavar="FRAME",
        help="Parquet or CSV: join keys, event_timestamp and request fields; others ride along",
    ),
    features_option(),
    labels_option(),
    argument(
        "--at",
        action="append",
        type=instant,
        metavar="T",
        help="an instant, ISO 8601; may be given several times",
    ),
    argument("--start", type=instant, metavar="T", help="the first instant"),
    argument("--end", type=instant, metavar="T", help="none is later"),
    argument(
        "--every",
        type=duration,
        metavar="DURATION",
        help="from one instant to the next, as in 1d or 6h",
    ),
    argument(
        "--entities",
        metavar="VIEW",
        help="the view whose events tell which entities there are, where views are of different "
        "ones",
    ),
    argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.parquet",
        help="write it here, Parquet or CSV by the end of the name, with OUT.parquet.manifest.json "
        "and the labels beside it (default: show the first rows)",
    ),
    argument(
        "--delta",
        type=Path,
        metavar="FOLDER",
        help="write it as the next version of a Delta Lake table there (featurekit[delta])",
    ),
    argument("--dvc", action="store_true", help="let DVC track what -o writes (featurekit[dvc])"),
    argument(
        "--contract",
        type=Path,
        metavar="CONTRACT.json",
        help="and write the feature contract of the model that learns from it here",
    ),
    argument(
        "--profile",
        type=Path,
        metavar="PROFILE.json",
        help="and write here what the rows are: counts, exact extremes and means, quantiles, "
        "distinct and frequent values of each feature",
    ),
    argument(
        "--profile-every",
        type=duration,
        metavar="DURATION",
        help="with --profile, for each part of time, as in 1d",
    ),
    argument("--limit", type=positive, default=10, metavar="N", help="rows to show (default: 10)"),
    argument(
        "--timezone", default="UTC", metavar="ZONE", help="of naive event_timestamps (default: UTC)"
    ),
    argument("--full-feature-names", action="store_true", help="name each column view__feature"),
    argument(
        "--known-at",
        type=instant,
        metavar="T",
        help="only what had arrived by this instant, ISO 8601 (default: now)",
    ),
    argument(
        "--statuses", action="store_true", help="add a column <feature>__status for each feature"
    ),
    argument(
        "--buckets",
        type=positive,
        metavar="N",
        help="join N parts of the entities one after the other, for less memory (default: as many "
        "as the memory limit asks for)",
    ),
    argument(
        "--engine",
        metavar="ENGINE",
        help="what joins the parts: local, ray, ray://HOST:10001, spark, spark://HOST:7077, "
        "sc://HOST:15002 … (default: feature_store.yaml's, else this process)",
    ),
)
def get_historical(arguments: Namespace, screen: Screen) -> None:
    """Make a training set."""
    _check_words(arguments)
    if arguments.features and arguments.service is not None:
        arguments.frame, arguments.service = Path(arguments.service), None
    if not arguments.features and arguments.service is None:
        raise UsageError("name a SERVICE, or features with --features view:feature,…")
    from featurekit.core.timezones import zone

    try:
        zone(arguments.timezone)  # an error also where no instant is naive
    except DefinitionError as error:
        raise DefinitionError(f"--timezone: {error}") from None
    asked = {name: getattr(arguments, name) for name in ("at", "start", "end", "every", "entities")}
    _check_instants(arguments, asked)
    _check_frame(arguments.frame)
    _check_target(arguments)
    if arguments.contract is not None:
        check_writable(arguments.contract, "--contract")
    if arguments.profile is not None:
        check_writable(arguments.profile, "--profile")
    elif arguments.profile_every is not None:
        raise UsageError("--profile-every divides what --profile writes; write --profile FILE, too")
    with open_store(arguments) as store:
        asked_for = arguments.features or arguments.service
        training = store.get_historical_features(
            arguments.frame,
            asked_for,
            labels=arguments.labels or (),
            **asked,
            full_feature_names=arguments.full_feature_names,
            statuses=arguments.statuses,
            timezone=arguments.timezone,
            known_at=arguments.known_at,
            buckets=arguments.buckets,
            engine=arguments.engine,
        )
        with screen.progress() as move:
            training.progress = partial(move, "rows")
            training.profiled = arguments.contract is not None
            profiler = _profiler(training, arguments)
            move("rows", 0, 0)  # the first rows come only after all events were read
            output = arguments.output or arguments.delta
            if output is not None:
                manifest = _written(training, arguments)
            else:
                table = training.to_arrow()
                manifest = training.manifest
        if arguments.contract is not None:
            training.contract().save(arguments.contract)
        if profiler is not None:
            text = json.dumps(profiler.told(), indent=1) + "\n"
            write_whole(arguments.profile, text.encode())
        if output is None:
            _show(table, manifest, arguments.limit, screen)
        else:
            _show_written(output, manifest, arguments, screen)
    screen.line(f"Content hash {manifest['content_hash']}")
    if arguments.contract is not None:
        screen.line(f"Wrote the feature contract to {arguments.contract}.")
    if arguments.profile is not None:
        screen.line(f"Wrote what the rows are to {arguments.profile}.")
    show_labels(screen, manifest)
    _show_future(screen, manifest)
    show_bad_rows(screen, {n: about["quarantined"] for n, about in manifest["sources"].items()})
    _show_errors(screen, training.statistics)


def _check_words(arguments: Namespace) -> None:
    """UsageError where the words are others than a SERVICE and a FRAME, in this order."""
    service, frame = arguments.service, arguments.frame
    pairs = [str(word) for word in (service, frame) if word is not None and "=" in str(word)]
    if pairs:
        name = "checkout" if service is None or "=" in service else service
        raise UsageError(
            f"{pairs[0]} is no FRAME, a file with many rows; write `featurekit get-historical "
            f"{name} labels.csv`, or for one row as of now `featurekit get-online {name} "
            f"{pairs[0]}`"
        )
    if arguments.features and frame is not None:
        raise UsageError(
            f"found both the SERVICE {service!r} and --features; leave one of them out, as in "
            f"`featurekit get-historical {frame} --features {','.join(arguments.features)}`"
        )
    swapped = service is not None and Path(service).suffix.lower() in _ENDINGS
    if swapped and not arguments.features:
        name = "checkout" if frame is None else frame
        raise UsageError(
            f"{service} stands where the SERVICE is named; write `featurekit get-historical {name} "
            f"{service}`"
        )


def _check_instants(arguments: Namespace, asked: Mapping[str, Any]) -> None:
    """UsageError where there are both a FRAME and instants, or neither."""
    options = [f"--{name}" for name, value in asked.items() if value is not None]
    if arguments.frame is not None and options:
        raise UsageError(
            f"found both the FRAME {str(arguments.frame)!r} and {', '.join(options)}, which are "
            "for every known entity; leave one of them out"
        )
    if arguments.frame is None and not options:
        raise UsageError(
            "write a FRAME, a .csv or .parquet file with join keys and event_timestamp, as in "
            f"`featurekit get-historical {arguments.service or '…'} labels.csv`; or instants for "
            "every known entity, as in --at 2026-10-04, or --start, --end and --every 1d"
        )


def _check_frame(frame: Path | None) -> None:
    """DataError where the FRAME is no file that can be read."""
    if frame is None:
        return
    if frame.suffix.lower() not in _ENDINGS:
        raise DataError(
            f"FRAME: the name of {str(frame)!r} ends in none of {', '.join(_ENDINGS)}; convert the "
            "file, or rename it, where it is one of them"
        )
    holds = "a file with join keys, event_timestamp and request fields"
    check_file(frame, named="FRAME", holds=holds)


def _check_target(arguments: Namespace) -> None:
    """UsageError for outputs that do not go together, DataError where none can be written."""
    if arguments.output is not None and arguments.delta is not None:
        raise UsageError("-o and --delta both say where to write it; leave one of them out")
    if arguments.dvc and arguments.output is None:
        raise UsageError("--dvc tracks the file that -o writes; write -o OUT.parquet, too")
    if arguments.output is not None:
        check_output(arguments.output)


def _profiler(training: TrainingSet, arguments: Namespace) -> TrainingProfiler | None:
    """What counts the rows as they are computed, where that is asked for."""
    if arguments.profile is None:
        return None
    from featurekit.monitor.profiles.training import TrainingProfiler

    every = arguments.profile_every
    part = None if every is None else duration_us(every, what="every")
    training.observer = profiler = TrainingProfiler(training.types, part)
    return profiler


def _written(training: TrainingSet, arguments: Namespace) -> dict[str, Any]:
    """Write the training set where the options say; its manifest."""
    if arguments.output is not None:
        return write(training, arguments.output)
    return training.to_delta(arguments.delta)


def _show_written(
    output: Path, manifest: Mapping[str, Any], arguments: Namespace, screen: Screen
) -> None:
    """Say what was written, once DVC tracks it where that is asked for."""
    document: dict[str, Any] = {"output": output, "manifest": manifest}
    commit: Sequence[str] = ()
    if arguments.dvc:
        from featurekit.plugins.dvc import track

        tracked = track(output)
        commit = tracked.commit
        files = {path: {"md5": md5, "bytes": size} for path, (md5, size) in tracked.files.items()}
        document["dvc"] = {"files": files, "commit": list(commit)}
    screen.document(document)
    version = f", version {manifest['delta']['version']}" if "delta" in manifest else ""
    screen.line(f"Wrote {manifest['rows']} rows to {output}{version}, with its manifest.")
    if commit:
        screen.line(f"DVC tracks it; now `git add {' '.join(commit)}`.")


def check_output(output: Path) -> None:
    """DataError where no file can be written there."""
    if output.is_dir():
        raise DataError(f"-o: {str(output)!r} is a folder; name a file, as in train.parquet")
    if output.suffix.lower() not in _ENDINGS:
        raise DataError(
            f"-o: the name of {str(output)!r} ends in none of {', '.join(_ENDINGS)}; write another "
            "name, as train.parquet"
        )
    if not output.parent.is_dir():
        raise DataError(
            f"-o {output}: the folder {str(output.parent)!r} does not exist; make it, or write "
            "another path"
        )


def write(training: TrainingSet, output: Path) -> dict[str, Any]:
    """Write the training set and its manifest; returns the manifest."""
    try:
        csv = output.suffix.lower() == ".csv"
        return training.to_csv(output) if csv else training.to_parquet(output)
    except WriteError:
        raise
    except OSError as error:
        raise DataError(f"{output} cannot be written: {error.strerror or error}") from None


def _show(table: Any, manifest: Mapping[str, Any], limit: int, screen: Screen) -> None:
    """Show the first rows of the training set."""
    first = table.slice(0, limit).to_pylist()
    types = {field.name: str(field.type) for field in table.schema}
    screen.document({"manifest": manifest, "types": types, "first_rows": first})
    _show_rows(screen, table.column_names, first)
    screen.line(f"\n{len(first)} of {manifest['rows']} rows; -o OUT.parquet keeps them all.")


def show_labels(screen: Screen, manifest: Mapping[str, Any]) -> None:
    """How many rows have each label, and the balance of classes with their weights (T10)."""
    for name, about in manifest.get("label_columns", {}).items():
        counted = ", ".join(f"{status} {rows:,}" for status, rows in about["statuses"].items())
        screen.line(f"\nLabel {name}: {counted or 'no rows'}")
        classes = about.get("classes", [])
        if classes:
            rows = [
                [as_text(one["value"]), f"{one['rows']:,}", f"{one['share']:.1%}", one["weight"]]
                for one in classes
            ]
            screen.table(("class", "rows", "share", "weight"), rows)


def _show_future(screen: Screen, manifest: Mapping[str, Any]) -> None:
    """What lies after the run's end (S3)."""
    if later := manifest["rows_after_known_at"]:
        screen.line(f"{later} rows are after {manifest['known_at']}, up to which rows had arrived.")
    for name, about in manifest["sources"].items():
        if left := about["not_yet_arrived"]:
            screen.line(f"{left} rows of {name} have not yet arrived.")


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
