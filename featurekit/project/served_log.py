"""Turns the settings of a serving log into a log: for writing, and for reading it again."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.core.keys import project_key
from featurekit.core.status import FORGOTTEN
from featurekit.errors import ConfigError, DataError
from featurekit.log.served.block import ServedBlock, is_forgotten
from featurekit.log.served.log import ServingLog, Sink
from featurekit.online.store.login import NO_LOGIN, Login
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.config import ServingLogConfig
from featurekit.project.deployment import materialized_marks

if TYPE_CHECKING:
    from featurekit.log.served.forget import Gone


def open_log(
    config: ServingLogConfig,
    store: OnlineStore,
    project: str,
    *,
    folder: Path = Path(),
    state_dir: Path = Path(".featurekit"),
) -> ServingLog:
    """A log for the lookups that a process answers from `store`.

    Relative paths are relative to `folder`. A process that serves without the repo can make one by
    `ServingLogConfig(to="stream")`.
    """
    sink: Sink
    if config.to == "parquet":
        from featurekit.log.served.parquet import ParquetSink

        where = log_folder(config, folder, state_dir)
        sink = ParquetSink(where, rows=config.rotate_rows, seconds=config.rotate_seconds)
    else:
        from featurekit.log.served.stream import StreamSink

        sink = StreamSink(
            stream_url(config, store),
            stream_key(config, project),
            config.stream_entries,
            _login(config, store),
        )

    return ServingLog(
        sink,
        project,
        sample=config.sample,
        queue_rows=config.queue_rows,
        marks=partial(materialized_marks, store, project),
    )


def log_folder(config: ServingLogConfig, folder: Path, state_dir: Path) -> Path:
    """The folder of the log's files."""
    return folder / config.folder if config.folder is not None else state_dir / "served"


def stream_key(config: ServingLogConfig, project: str) -> str:
    """The key of the log's stream."""
    return config.stream or project_key(project, "served").decode()


def stream_url(config: ServingLogConfig, store: OnlineStore) -> str:
    """The URL of the stream's Redis. ConfigError where the store is not Redis and no URL is
    given."""
    url: str | None = config.redis_url or getattr(store, "url", None)
    if url is None:
        raise ConfigError("this online store is no Redis; give serving_log a redis_url")
    return url


def _login(config: ServingLogConfig, store: OnlineStore) -> Login:
    """Who connects to the stream's Redis: whoever connects to the store, where it is the same."""
    login: Login = NO_LOGIN if config.redis_url else getattr(store, "login", NO_LOGIN)
    return login


def read_log(
    config: ServingLogConfig | None,
    store: OnlineStore,
    project: str,
    *,
    folder: Path,
    state_dir: Path,
    log: str | os.PathLike[str] | None = None,
    forgotten: bool = False,
    request: str | None = None,
    since_us: int | None = None,
) -> Iterator[ServedBlock]:
    """The blocks of a log: the configured one, or `log`; without the rows that `forget` emptied,
    unless `forgotten` says otherwise. With a `request`, blocks that have no row of it may be left
    out, and with `since_us` those that have no row which was served at that instant or later.

    `log` is a folder or a file, or stream:NAME for a stream. ConfigError where none is configured
    or named, DataError where the folder does not exist.
    """
    config = named_log(config, log)
    if config.to == "stream":
        from featurekit.log.served.stream import read_stream

        url, key = stream_url(config, store), stream_key(config, project)
        blocks = read_stream(url, key, _login(config, store))
    else:
        from featurekit.log.served.parquet import read_parquet

        where = log_folder(config, folder, state_dir)
        if not where.exists():
            raise DataError(
                f"there is no serving log {where}: nothing was served with it, or flushed"
            )
        blocks = read_parquet(where, request=request, since_us=since_us)
    return blocks if forgotten else map(_without_forgotten, blocks)


def _without_forgotten(block: ServedBlock) -> ServedBlock:
    """The block without rows that `forget` emptied; the block itself where it has none."""
    if not any(FORGOTTEN in statuses for statuses in block.statuses):
        return block
    return block.some([i for i in range(block.rows) if not is_forgotten(block, i)])


def named_log(
    config: ServingLogConfig | None, log: str | os.PathLike[str] | None
) -> ServingLogConfig:
    """The settings of the log that is named, or of the configured one. ConfigError where there is
    neither."""
    given = None if log is None else os.fspath(log)
    if given is not None and given.startswith("stream:"):
        made = ServingLogConfig(to="stream", stream=given.removeprefix("stream:"))
        if config is not None:
            made.redis_url = config.redis_url
        return made
    if given is not None:
        try:
            return ServingLogConfig(to="parquet", folder=str(Path(given).resolve()))
        except (OSError, ValueError, RuntimeError) as error:  # a NUL, a link to itself
            raise ConfigError(f"{given!r} is no folder of a serving log: {error}") from None
    if config is None:
        raise ConfigError(
            "this repo configures no serving log; write `serving_log: {to: parquet}` under "
            "featurekit: in feature_store.yaml, or name a log"
        )
    return config


@dataclass(frozen=True, slots=True)
class Place:
    """Where a log is: a folder or file, or the stream `key` of the Redis at `url`."""

    path: Path | None = None
    url: str = field(default="", repr=False)
    key: str = ""
    login: Login = NO_LOGIN

    def blocks(self) -> Iterator[ServedBlock]:
        """What was logged there, with the rows that `forget` emptied."""
        if self.path is None:
            from featurekit.log.served.stream import read_stream

            return read_stream(self.url, self.key, self.login)
        from featurekit.log.served.parquet import read_parquet

        return read_parquet(self.path) if self.path.exists() else iter(())

    @property
    def name(self) -> str:
        """What tells this place from others."""
        return f"stream:{self.key}" if self.path is None else str(self.path.resolve())

    def unread(self, taken: Collection[str]) -> Iterator[tuple[str, Iterable[ServedBlock]]]:
        """What was logged there beside what is `taken`: the name of each file with its blocks, or
        the id of each entry of the stream that comes after those with its block."""
        if self.path is None:
            from featurekit.log.served.stream import read_after

            last = max(taken, key=_of_id, default=None)
            for id_, block in read_after(self.url, self.key, last, self.login):
                yield id_, [block]
            return
        from featurekit.log.served.parquet import read_parquet

        files = [self.path] if self.path.is_file() else sorted(self.path.glob("*.parquet"))
        for path in files:
            if path.name not in taken:
                yield path.name, read_parquet(path)

    def strip(self, gone: Gone) -> int:
        """Take rows out of it; how many."""
        from featurekit.log.served.forget import strip_parquet, strip_stream

        if self.path is None:
            return strip_stream(self.url, self.key, gone, self.login)
        return strip_parquet(self.path, gone) if self.path.exists() else 0


def _of_id(id_: str) -> tuple[int, int]:
    """An id of a stream, which is ordered by its two numbers."""
    first, _, second = id_.partition("-")
    return int(first), int(second)


def place_of(
    config: ServingLogConfig, store: OnlineStore, project: str, *, folder: Path, state_dir: Path
) -> Place:
    """Where a log is."""
    if config.to == "parquet":
        return Place(log_folder(config, folder, state_dir))
    login = _login(config, store)
    return Place(url=stream_url(config, store), key=stream_key(config, project), login=login)


def places(
    config: ServingLogConfig | None,
    store: OnlineStore,
    project: str,
    *,
    folder: Path,
    state_dir: Path,
    logs: Sequence[str | os.PathLike[str]] = (),
) -> list[Place]:
    """Where rows were logged: in the configured log, where a log is by default, and in `logs`.
    DataError for one of these that does not exist."""
    found = []
    for log in logs:
        named = named_log(config, log)
        if named.to == "parquet" and not log_folder(named, folder, state_dir).exists():
            raise DataError(f"there is no serving log {os.fspath(log)!r}; name a folder or a file")
        found.append(named)
    found += [] if config is None else [config]
    found.append(ServingLogConfig(to="parquet"))
    if getattr(store, "url", None) is not None:
        found.append(ServingLogConfig(to="stream"))
    made = [place_of(one, store, project, folder=folder, state_dir=state_dir) for one in found]
    return list(dict.fromkeys(made))
