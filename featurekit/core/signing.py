"""Turns bytes into a signature and says whether a signature is right: Ed25519, by `cryptography`.

A key is one word of text, whose beginning says which half of a pair it is. Nothing here shows a
private key in an error.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featurekit.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PRIVATE, _PUBLIC = "fk-private-", "fk-public-"
_BYTES = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The half of a pair that tells whether a signature is right; it may be known to all."""

    value: bytes

    @property
    def text(self) -> str:
        """The key as one word."""
        return _PUBLIC + _text(self.value)

    @property
    def name(self) -> str:
        """The key's first letters, for people."""
        return self.text[: len(_PUBLIC) + 8]

    @classmethod
    def read(cls, text: str, *, where: str) -> PublicKey:
        """The key that `text` is. ConfigError, which names `where` it stands, where it is none."""
        return cls(_read(text, _PUBLIC, "public", where))

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Whether the other half of the pair signed `message`. ConfigError where the library that
        knows is not installed."""
        _need()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.value).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """The half of a pair that signs; whoever has it is believed."""

    value: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The key as one word, which is a secret."""
        return _PRIVATE + _text(self.value)

    @classmethod
    def make(cls) -> PrivateKey:
        """A new key. ConfigError where the library that makes it is not installed."""
        _need()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        made: bytes = Ed25519PrivateKey.generate().private_bytes_raw()
        return cls(made)

    @classmethod
    def read(cls, text: str, *, where: str) -> PrivateKey:
        """The key that `text` is. ConfigError, which names `where` it stands, where it is none."""
        return cls(_read(text, _PRIVATE, "private", where))

    def _key(self) -> Ed25519PrivateKey:
        _need()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.value)

    @property
    def public(self) -> PublicKey:
        """The other half of the pair."""
        made: bytes = self._key().public_key().public_bytes_raw()
        return PublicKey(made)

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`: 64 bytes."""
        made: bytes = self._key().sign(message)
        return made


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _read(text: str, prefix: str, half: str, where: str) -> bytes:
    word = text.strip()
    if word.startswith(prefix):
        try:
            value = base64.b64decode(word[len(prefix) :] + "=", altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            value = b""
        if len(value) == _BYTES:
            return value
    other = _PUBLIC if prefix == _PRIVATE else _PRIVATE
    found = "holds the other half of a pair" if word.startswith(other) else "is no key"
    raise ConfigError(
        f"{where} {found}; write the {half} one, which begins with {prefix} "
        "(`featurekit keys generate` makes a pair)"
    )


def _need() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ConfigError(
            "signatures of plans need the package cryptography; install featurekit[signing]"
        ) from None
