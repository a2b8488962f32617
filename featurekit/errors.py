"""Every error that featurekit raises on purpose; anything else that escapes is a bug.

FeaturekitError
├── DefinitionError          an entity, source, view, service or duration that is not valid
│   └── CompileError         a transform outside the language; carries file, line and column
├── ConfigError              feature_store.yaml, or the folder that should hold it
├── DataError                data that does not fit its declaration
│   ├── SourceError          a source's files: absent, unreadable, other columns or types
│   │   └── DamagedLog       a file of the log of pushes whose bytes are not those that were written
│   ├── BadRowError          a row of a source or a push that breaks rule S1
│   └── EntityFrameError     the frame of entities and instants that was asked about
├── TransformError           a transform erred in a view with on_error="fail" (R3)
├── RegistryError            the registry's file is unusable, or lacks the name
└── OnlineError              base of the errors of the online path
    ├── StoreUnavailable     Redis cannot be reached, found or started
    ├── NotServed            the service was never applied to this online store
    ├── EvictingStore        Redis may remove states when its memory is full
    ├── DamagedView          states of a view are missing, or may be: Redis lost what it had
    ├── DamagedState         an entity's state in Redis is not what was written there
    ├── AsOfTooOld           an instant before the state's horizon (T8)
    └── FingerprintMismatch  this platform computes other floats than the writer's (R6)

UnprovenEngine               a warning: this version of DuckDB was not proven to give Python's bits
"""

from __future__ import annotations


class FeaturekitError(Exception):
    """Base of all; its text says where, what was found, and what to write instead."""


class DefinitionError(FeaturekitError):
    """An entity, source, view, service or duration that is not valid."""


class CompileError(DefinitionError):
    """A transform outside the language of R1 and R2; the text shows the place with a caret."""

    def __init__(
        self, reason: str, *, filename: str, line: int, column: int, source: str, hint: str
    ) -> None:
        self.reason, self.filename, self.line, self.column = reason, filename, line, column
        self.hint = hint
        shown = source.rstrip("\n")
        caret = " " * (column - 1) + "^"
        super().__init__(
            f"{filename}:{line}:{column}: {reason}\n    {shown}\n    {caret}\n  hint: {hint}"
        )


class ConfigError(FeaturekitError):
    """feature_store.yaml, or the folder that should hold it, is not as it must be."""


class DataError(FeaturekitError):
    """Data that does not fit its declaration."""


class SourceError(DataError):
    """A source's files are absent, unreadable, or have other columns or types."""


class DamagedLog(SourceError):
    """A file of the log of pushes holds other bytes than were written; names the file."""


class BadRowError(DataError):
    """A row of a source or a push breaks rule S1; names the column and the first row."""


class EntityFrameError(DataError):
    """The entity frame lacks a column, has a wrong type, or holds a bad instant (S2)."""


class TransformError(FeaturekitError):
    """A transform erred in a view with on_error="fail" (R3)."""


class RegistryError(FeaturekitError):
    """The registry's file cannot be used, or does not hold the name that was asked for."""


class OnlineError(FeaturekitError):
    """Base of the errors of the online path."""


class StoreUnavailable(OnlineError):
    """Redis cannot be reached, found or started."""


class NotServed(OnlineError):
    """The service has no plan in this online store."""


class EvictingStore(OnlineError):
    """Redis has a policy by which it removes states when its memory is full."""


class DamagedView(OnlineError):
    """Redis lost what it had, so that states of a view may be missing; says since when."""


class DamagedState(OnlineError):
    """What Redis holds of an entity is not what was written there; names view and entity.

    `key` is the key in Redis.
    """

    def __init__(self, message: str, key: bytes = b"") -> None:
        super().__init__(message)
        self.key = key


class AsOfTooOld(OnlineError):
    """The instant asked about lies before the horizon of an entity's state (T8)."""


class FingerprintMismatch(OnlineError):
    """The numeric fingerprint of this platform differs from the writer's (R6)."""


class UnprovenEngine(UserWarning):
    """The installed DuckDB was not proven to compute what Python computes, or was found not to."""
