"""Gives redis-py the name and the password of a login, which it asks for at each connection."""

from __future__ import annotations

from redis.exceptions import AuthenticationError

from featurekit.errors import ConfigError
from featurekit.online.store.login import Login


class NoPassword(AuthenticationError):
    """The password of a new connection cannot be read; the text says why."""


class Credentials:
    """A login as redis-py asks for it, which it does for each connection."""

    def __init__(self, login: Login) -> None:
        self.login = login

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """The name and the password, or the password alone. NoPassword where it cannot be read."""
        try:
            password = self.login.password()
        except ConfigError as error:
            raise NoPassword(str(error)) from None
        return (password,) if self.login.username is None else (self.login.username, password)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """As `get_credentials`."""
        return self.get_credentials()
