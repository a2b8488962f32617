"""The settings of streams: what a cluster of Kafka and its registry of schemas ask for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from featurekit.core.secrets import OTHERS, read_secret
from featurekit.errors import ConfigError

KAFKA = ("kafka", "kafkas")
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_TOPIC = r"^[A-Za-z0-9._-]{1,249}$"
_REGISTRY = re.compile(r"https?://[A-Za-z0-9_.\-\[\]:]+(/[A-Za-z0-9_.\-/]*)?")
_WRITE_REGISTRY = "write https://registry.example:8081"


def is_kafka(url: str | None) -> bool:
    """Whether a URL names a cluster of Kafka, or is to."""
    return url is not None and url.lower().startswith(tuple(f"{scheme}:" for scheme in KAFKA))


def registry_url(url: str) -> str:
    """The URL of a registry of schemas. ValueError, which shows nothing of it, where it is none or
    holds more than an address."""
    if _REGISTRY.fullmatch(url) is None:
        raise ValueError(
            f"is a URL of http or https without a login, found one that is not; {_WRITE_REGISTRY}, "
            "with username and password_file beside it"
        )
    return url


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Variable = Annotated[str, Field(pattern=_VARIABLE)]
Topic = Annotated[str, Field(pattern=_TOPIC)]


class LoginConfig(_Settings):
    """Who asks: a user, and where his password is, in a variable of the environment or a file."""

    username: str | None = None
    password_env: Variable | None = None
    password_file: str | None = None

    @model_validator(mode="after")
    def _one_password(self) -> LoginConfig:
        places = (self.password_env is not None) + (self.password_file is not None)
        if places > 1 or bool(places) != (self.username is not None):
            raise ValueError(
                "username comes with one of password_file and password_env; write "
                "{username: shop, password_file: /run/secrets/kafka}"
            )
        return self

    def password(self, folder: Path) -> str | None:
        """The password as it is now, None for no user; a file is found from `folder`. ConfigError
        where it cannot be read."""
        if self.password_file is not None:
            path = folder / self.password_file
            return read_secret(path, "the password file", closed_to=OTHERS)
        return None if self.password_env is None else variable(self.password_env)


class RegistryConfig(LoginConfig):
    """A registry of schemas, which speaks as Confluent's: its `url`, and the certificates by which
    it is known, where those of the system do not do."""

    url: Annotated[str, AfterValidator(registry_url)]
    ca_file: str | None = None


class KafkaConfig(LoginConfig):
    """What a cluster of Kafka asks for, and where its messages are described and left; under
    `featurekit: watch: consume: SOURCE: kafka:`.

    With a `username`, members log in by SASL with the `mechanism`. A URL kafkas://… is TLS:
    `ca_file` has the certificates by which the brokers are known, by default those of the system,
    and `certificate_file` and `key_file` show who the member is. `registry` has the schemas of the
    messages; without it, a message is a JSON object. `dead_letter` is the topic of the messages
    that cannot be taken.
    """

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password_env: Variable | None = None
    registry: RegistryConfig | None = None
    dead_letter: Topic | None = None

    @model_validator(mode="after")
    def _certificate_and_key(self) -> KafkaConfig:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together; write both or none")
        return self

    def given(self, dead_letter: str | None, registry: str | None) -> KafkaConfig:
        """The settings, with what a caller names instead. ConfigError for a name that is none."""
        more: dict[str, Any] = {}
        if dead_letter is not None:
            if re.fullmatch(_TOPIC, dead_letter) is None:
                raise ConfigError(
                    f"the topic of dead letters {dead_letter!r} is no name; write letters, digits, "
                    "., _ and -, as in orders.dead"
                )
            more["dead_letter"] = dead_letter
        if registry is not None:
            try:
                registry_url(registry)
            except ValueError as error:
                raise ConfigError(f"the registry {error}") from None
            known = {} if self.registry is None else self.registry.model_dump()
            more["registry"] = RegistryConfig(**{**known, "url": registry})
        return self.model_copy(update=more)


def variable(name: str) -> str:
    """The secret in a variable of the environment. ConfigError where there is none."""
    found = os.environ.get(name)
    if not found:
        raise ConfigError(f"the environment has no variable {name!r}; set it")
    return found


_LOGIN = {
    "username": "shop",
    "password_env": "KAFKA_PASSWORD",
    "password_file": "/run/secrets/kafka",
}
_OF_REGISTRY = "{url: https://registry.example:8081}"
STREAM_EXAMPLES = {
    "kafka": "{username: shop, password_file: /run/secrets/kafka}",
    **{f"kafka.{name}": written for name, written in _LOGIN.items()},
    "kafka.mechanism": "SCRAM-SHA-512",
    "kafka.ca_file": "/etc/ssl/kafka-ca.pem",
    "kafka.certificate_file": "/etc/ssl/shop.pem",
    "kafka.key_file": "/run/secrets/shop.key",
    "kafka.key_password_env": "KAFKA_KEY_PASSWORD",
    "kafka.registry": _OF_REGISTRY,
    "kafka.registry.url": "https://registry.example:8081",
    "kafka.registry.ca_file": "/etc/ssl/registry-ca.pem",
    **{f"kafka.registry.{name}": written for name, written in _LOGIN.items()},
    "kafka.dead_letter": "orders.dead",
}
"""How each of these settings may be written, below a stream's settings."""
