"""Takes what was asked and answered about some entities out of the serving log. Their rows stay,
and say FORGOTTEN.

Files and streams are written anew, each in the place of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError, WatchError

from featurekit.core.files import locked, write_whole
from featurekit.core.status import FORGOTTEN
from featurekit.errors import OnlineError, StoreUnavailable
from featurekit.log.served.block import ServedBlock, encode
from featurekit.log.served.parquet import read_parquet, written
from featurekit.log.served.stream import entries, entry
from featurekit.online.store.login import NO_LOGIN, Login
from featurekit.online.store.redis import connect
from featurekit.online.store.url import without_secrets

Gone = Callable[[ServedBlock], Collection[int]]
"""Gives the places of the rows in a block that are to go."""
_PATIENCE_S = 60.0
_TRIES = 200
_CONTENT = ("prediction", "error")
"""What of PREDICTED tells of the entity; the other fields are those of the request."""


def emptied(block: ServedBlock, rows: Collection[int]) -> ServedBlock:
    """The block without anything about the entities of these rows: not their keys, fields, values
    and predictions. Who asked whom and when stays, under the id of the request."""

    def without(column: Any, instead: Any = None) -> list[Any]:
        return [instead if i in rows else value for i, value in enumerate(column)]

    whole = block.some(range(block.rows))
    for name in ("arrivals", "keys", "fields", "values"):
        setattr(whole, name, [without(column) for column in getattr(block, name)])
    whole.statuses = [without(column, FORGOTTEN) for column in block.statuses]
    whole.predicted = [
        without(column) if name in _CONTENT else column
        for name, column in zip(block.head.predicted, block.predicted, strict=True)
    ]
    return whole


def strip_parquet(folder: Path, gone: Gone) -> int:
    """Take rows out of the files of a folder, or out of one file; how many."""
    lock = (folder.parent if folder.is_file() else folder) / ".forget.lock"
    with locked(lock, wait_s=_PATIENCE_S) as mine:
        if mine is None:
            raise OnlineError(
                f"another process has been taking rows out of {folder} for {_PATIENCE_S:.0f} s; "
                "end it, and run this again"
            )
        files = [folder] if folder.is_file() else sorted(folder.glob("*.parquet"))
        return sum(_strip_file(path, gone) for path in files)


def _strip_file(path: Path, gone: Gone) -> int:
    blocks, count = [], 0
    for block, rows in _told(read_parquet(path), gone):
        count += len(rows)
        blocks.append(emptied(block, rows) if rows else block)
    if count:
        about = [{**block.about(), "rows": block.rows} for block in blocks]
        data = [b"".join(encode(block)) for block in blocks]
        write_whole(path, written(blocks[0].head, data, about), durable=True)
    return count


def _told(blocks: Iterable[ServedBlock], gone: Gone) -> Iterator[tuple[ServedBlock, set[int]]]:
    """Each block with the rows that are to go and are not gone yet."""
    for block in blocks:
        yield block, {i for i in gone(block) if any(s[i] != FORGOTTEN for s in block.statuses)}


def strip_stream(url: str, key: str, gone: Gone, login: Login = NO_LOGIN) -> int:
    """Take rows out of the entries of a stream; how many.

    The stream is written anew beside itself, with the ids of its entries, and takes its own name by
    one command: Redis keeps the bytes of an entry that is removed alone.
    """
    client = connect(url, login=login)
    try:
        if not any(rows for _, rows in _told((block for _, block in entries(client, key)), gone)):
            return 0
        return _rewrite(client, key, gone)
    except (RedisError, OSError) as error:
        said = without_secrets(str(error), url)
        raise StoreUnavailable(f"the Redis of stream {key!r}: {said}") from error
    finally:
        client.close()


def _rewrite(client: Any, key: str, gone: Gone) -> int:
    """Copy the stream without those rows, and what is added meanwhile, until nothing was added
    between the last look and the change of names."""
    copy, after, count = f"{key}:forgetting", b"-", 0
    client.delete(copy)
    for _ in range(_TRIES):
        with client.pipeline(transaction=True) as both:
            both.watch(key)
            for id_, block in entries(client, key, after=after):
                after = b"(" + id_
                ((_, rows),) = _told([block], gone)
                count += len(rows)
                made = emptied(block, rows) if rows else block
                client.xadd(copy, entry(made, b"".join(encode(made))), id=id_)
            both.multi()
            both.rename(copy, key)
            with suppress(WatchError):
                both.execute()
                return count
    client.delete(copy)
    raise OnlineError(
        f"stream {key!r} was added to whenever its rows were to be taken out, {_TRIES} times; run "
        "this again while fewer processes serve"
    )
