"""Every error that featurekit raises on purpose; anything else that escapes is a bug.

FeaturekitError
├── ArgumentError            an argument of another type than a method takes; a TypeError too
├── DefinitionError          an entity, source, view, service or duration that is not valid
│   ├── CompileError         a transform outside the language; carries file, line and column
│   └── DefinitionErrors     all the faults of a repo, where there are several
├── ConfigError              feature_store.yaml, or the folder that should hold it
├── DataError                data that does not fit its declaration
│   ├── SourceError          a source's files: absent, unreadable, other columns or types
│   │   └── DamagedLog       a file of the log of pushes whose bytes are not those that were written
│   ├── BadRowError          a row of a source or a push that breaks rule S1
│   ├── ContractBroken       a source or a push breaks a rule of severity "fail" (S5)
│   ├── ContractRefused      a model's feature contract that was changed, or is not trusted (F0)
│   └── EntityFrameError     the frame of entities and instants that was asked about
├── WriteError               a file that cannot be written, as on a full disk; an OSError, too
├── TransformError           a transform erred in a view with on_error="fail" (R3)
├── RegistryError            the registry's file is unusable, or lacks the name
│   └── BreakingChange       a service's new version would break who calls it
└── OnlineError              base of the errors of the online path
    ├── StoreUnavailable     Redis cannot be reached, found or started
    ├── LeaseLost            this work was taken for dead and let go of, and writes no more
    ├── NotServed            the service was never applied to this online store
    ├── PlanRefused          a published plan that is damaged, forged or not trusted here (F0)
    ├── EvictingStore        Redis may remove states when its memory is full
    ├── DamagedView          states of a view are missing, or may be: Redis lost what it had
    ├── DamagedState         an entity's state in Redis is not what was written there
    ├── DamagedNote          what a project notes about itself in Redis is not what was written
    ├── RequestRefused       a server refuses a request: its form, its size, who asks
    ├── ModelFailed          a model server did not answer, or not with a prediction for each row
    ├── AsOfTooOld           an instant before the state's horizon (T8)
    ├── AsOfInFuture         an instant after the store's clock (S3)
    ├── ClocksApart          the store's clock ran ahead, or this machine's is behind (S3)
    └── FingerprintMismatch  this platform computes other floats than the writer's (R6)

InstantsInFuture             a warning: an entity frame has instants after the store's clock (S3)
ContractWarning              a warning: a source breaks a rule of severity "warn" (S5)
UnreadRegistry               a warning: lookups go on while the registry cannot be read
DeprecatedFeature            a warning: what was asked for is to be given up
UnprovenEngine               a warning: this version of DuckDB was not proven to give Python's bits
"""

from __future__ import annotations

from collections.abc import Sequence


class FeaturekitError(Exception):
    """Base of all; its text says where, what was found, and what to write instead."""

    place: str | None = None
    """The file and line that the text names, as "features.py:12"; None where it names none."""


class ArgumentError(FeaturekitError, TypeError):
    """An argument of another type than a method takes."""


class DefinitionError(FeaturekitError):
    """An entity, source, view, service or duration that is not valid."""


class CompileError(DefinitionError):
    """A transform outside the language of R1 and R2; the text shows the place with a caret."""

    def __init__(
        self, reason: str, *, filename: str, line: int, column: int, source: str, hint: str
    ) -> None:
        self.reason, self.filename, self.line, self.column = reason, filename, line, column
        self.hint, self.place = hint, f"{filename}:{line}"
        shown = source.rstrip("\n")
        caret = " " * (column - 1) + "^"
        super().__init__(
            f"{filename}:{line}:{column}: {reason}\n    {shown}\n    {caret}\n  hint: {hint}"
        )


class DefinitionErrors(DefinitionError):
    """All the faults of a repo, where there are several; `faults` has each as its own error."""

    def __init__(self, faults: Sequence[FeaturekitError]) -> None:
        self.faults = tuple(faults)
        shown = "\n\n".join(map(str, faults))
        super().__init__(f"{len(faults)} faults:\n\n{shown}")


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


class ContractBroken(DataError):
    """A source or a push breaks a rule of its contract whose severity is "fail" (S5). Nothing was
    written."""


class ContractRefused(DataError):
    """The feature contract of a model was changed after it was written, contradicts itself, or is
    not signed by a key that this reader holds (F0); or it is not that of the model."""


class EntityFrameError(DataError):
    """The entity frame lacks a column, has a wrong type, or holds a bad instant (S2)."""


class WriteError(FeaturekitError, OSError):
    """A file cannot be written: the disk is full or broken, or a quota is used up. Nothing of the
    file is kept, and what was there before stays."""


class EngineError(FeaturekitError):
    """An engine cannot be reached, lost a part of its work, or its workers would compute other bits
    than this process."""


class TransformError(FeaturekitError):
    """A transform erred in a view with on_error="fail" (R3)."""


class RegistryError(FeaturekitError):
    """The registry's file cannot be used, or does not hold the name that was asked for."""


class BreakingChange(RegistryError):
    """A service's new version names, means or takes something else, and that was not allowed."""


class OnlineError(FeaturekitError):
    """Base of the errors of the online path."""


class StoreUnavailable(OnlineError):
    """Redis cannot be reached, found or started.

    `retry_after_s` is how long lookups are not tried yet, after several that failed; else None.
    """

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LeaseLost(OnlineError):
    """This work did not renew its lease in time, and another one let go of it; it writes no
    more."""


class NotServed(OnlineError):
    """The service has no plan in this online store."""


class PlanRefused(OnlineError):
    """A published plan is damaged or forged, or this reader has no reason to trust it (F0)."""


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


class DamagedNote(OnlineError):
    """What a project notes about itself in Redis (its services, what is filled, its clock) is not
    what was written there; `name` is the note's key, after the project.
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class RequestRefused(OnlineError):
    """A server refuses a request for its form, its size, the version that it asks for, or who
    asks.

    `status` is that of HTTP, `where` the part of the request. `allow` are the methods that a route
    takes, where another one was used. `challenge` says how a caller shows who it is, where that is
    why, and `retry_after_s` for how long it asks too often.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        where: str = "",
        allow: str = "",
        challenge: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.where, self.allow = status, where, allow
        self.challenge, self.retry_after_s = challenge, retry_after_s


class ModelFailed(OnlineError):
    """A model server did not answer in time, or not with a prediction for each row; names the
    target.

    `status` is that of HTTP: 502 for a server that is gone or answers with something else, 503 for
    one that is not asked now, and 504 for one that took too long. `retry_after_s` is for how long
    it is not asked; None where nobody knows. `reply` is what the server said of itself, which may
    hold features.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        retry_after_s: float | None = None,
        reply: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.retry_after_s, self.reply = status, retry_after_s, reply

    def with_reply(self) -> ModelFailed:
        """The same error, whose text has what the server said."""
        what, _, write = str(self).partition("; ")
        text = f"{what} ({self.reply}); {write}"
        return ModelFailed(text, status=self.status, retry_after_s=self.retry_after_s)


class AsOfTooOld(OnlineError):
    """The instant asked about lies before the horizon of an entity's state (T8)."""


class AsOfInFuture(OnlineError):
    """The instant asked about lies after the store's clock, by more than its tolerance (S3)."""


class ClocksApart(OnlineError):
    """The store's clock, the last stamp that it gave and this machine's clock are too far apart for
    a stamp to be given (S3)."""


class FingerprintMismatch(OnlineError):
    """The numeric fingerprint of this platform differs from the writer's (R6)."""


class InstantsInFuture(UserWarning):
    """Rows of an entity frame lie after the store's clock; they are computed from what has arrived
    (S3)."""


class ContractWarning(UserWarning):
    """A source breaks a rule of its contract whose severity is "warn" (S5)."""


class UnreadRegistry(UserWarning):
    """The registry cannot be read, and lookups go on: what Redis lost since, and who was forgotten
    since, is not seen."""


class DeprecatedFeature(FutureWarning):
    """A feature, view or service that was asked for is to be given up; says until when it is kept,
    and what takes its place."""


class UnprovenEngine(UserWarning):
    """The installed DuckDB was not proven to compute what Python computes, or was found not to."""
