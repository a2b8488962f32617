"""Connects to a PostgreSQL server; the only module that loads its driver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from featurekit.core.variables import Lacking, filled, without_secrets

SCHEMES = ("postgresql", "postgres")


class Refused(Exception):
    """What the driver or the server says, without what the environment gave. `state` is the
    SQLSTATE, empty where the server did not answer."""

    def __init__(self, text: str, state: str) -> None:
        super().__init__(text)
        self.state = state


class Server:
    """A server by its URL, in which `${NAME}` stands for a variable of the environment; it is read
    for each connection."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def shown(self) -> str:
        """The URL without a password."""
        scheme, _, rest = self.url.partition("://")
        host = urlsplit(self.url).netloc
        user, at, there = host.rpartition("@")
        return f"{scheme}://{user.partition(':')[0]}{at}{there}{rest[len(host) :]}"

    @contextmanager
    def connected(self, *, autocommit: bool = False) -> Iterator[Connection]:
        """A connection, which is closed at the end; it begins a transaction by itself, unless it
        commits each statement. Lacking or Refused where there is none."""
        connection = self.connect(autocommit=autocommit)
        with closing(connection):
            yield connection

    def connect(self, *, autocommit: bool = False) -> Connection:
        """As `connected`, for a caller that closes it."""
        url, secrets = filled(self.url)
        own = urlsplit(url).password
        secrets = secrets if own is None else (*secrets, unquote(own))
        dbapi = _driver()
        with telling(secrets):
            return Connection(dbapi.connect(url, autocommit=autocommit), secrets)


class Connection:
    """A connection of the driver, and what its errors must not say."""

    def __init__(self, raw: Any, secrets: tuple[str, ...]) -> None:
        self.raw, self.secrets = raw, secrets

    def close(self) -> None:
        """Close it; a transaction that was not committed is undone."""
        with telling(self.secrets):
            self.raw.close()

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """A cursor of the driver; what it raises inside is a Refused."""
        with telling(self.secrets), self.raw.cursor() as cursor:
            yield cursor


@contextmanager
def telling(secrets: tuple[str, ...]) -> Iterator[None]:
    """Refused for what the driver or the server says."""
    import adbc_driver_manager
    import pyarrow as pa

    try:
        yield
    except (adbc_driver_manager.Error, pa.ArrowException, OSError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Refused(
            without_secrets(said, secrets), getattr(error, "sqlstate", None) or ""
        ) from None


def _driver() -> Any:
    try:
        from adbc_driver_postgresql import dbapi
    except ModuleNotFoundError:
        raise Lacking(
            "PostgreSQL is read with the package adbc-driver-postgresql, which is not installed; "
            "pip install 'featurekit[postgres]'"
        ) from None
    return dbapi
