"""Refuses work that the online store would not let be written down, before any of it is done."""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.define.plan import Service
from featurekit.errors import StoreUnavailable
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.deployment import owner_key, publishing_keys
from featurekit.project.ownership import record_key


def check_may_record(store: OnlineStore, project: str) -> None:
    """StoreUnavailable where this process may not write the store's copy of the registry."""
    _check(store, [owner_key(project), record_key(project)])


def check_may_publish(store: OnlineStore, project: str, services: Sequence[Service]) -> None:
    """StoreUnavailable where this process may not write that copy, or may not publish services."""
    keys = [owner_key(project), record_key(project), *publishing_keys(project, services)]
    _check(store, keys)


def _check(store: OnlineStore, keys: Sequence[bytes]) -> None:
    """Write each key as it is, and remove those that are not there: the server refuses what it
    would refuse later, and nothing changes."""

    def unchanged(values: list[bytes | None]) -> list[bytes | None]:
        return [b"" if value is None else value for value in values]

    try:
        store.update(keys, unchanged)
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"{error}; nothing was recorded or published. docs/security.md says what the Redis "
            "user of whoever applies and forgets may do"
        ) from error
