"""Turns the id of a request into all that is known of its answer: who asked whom, the features with
their bits, whether offline says the same now, the events behind them, and who made it live."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.status import FORGOTTEN
from featurekit.core.types import instant
from featurekit.define.feature_contract.contract import Contract
from featurekit.define.plan import Service
from featurekit.errors import DataError, FeaturekitError
from featurekit.feed.forget_served import ForgottenRows
from featurekit.log.audit import Entry
from featurekit.log.tombstones import read_secret
from featurekit.monitor.served_request import Row, find
from featurekit.parity.compare import Stated
from featurekit.parity.diagnose.explain import explain_served
from featurekit.parity.diagnose.explanation import Explanation
from featurekit.parity.modes.replay import Judged, Versions, judge
from featurekit.project.pins import standing
from featurekit.project.project import Project

EQUAL, LAG, DIFFERS, UNCHECKED = "equal", "lag", "differs", "unchecked"
"""What became of a served value when offline was asked the same. LAG is a value that lacked events
which were not online yet, UNCHECKED one that cannot be compared, FORGOTTEN one of an entity that
`forget` removed."""
_MOST_STEPS = 20
_OF_ALL = frozenset({"apply", "rollback", "materialize", "pin", "unpin"})


@dataclass(frozen=True, slots=True)
class AuditedFeature(Named):
    """A feature of a row: the value that was `served` and its status, what `offline` says now of
    the same instant, None where that cannot be told, and the `verdict`, with the reason where
    there is one. `explanation` has the events behind it, None where they were not asked for or
    cannot be told."""

    name: str
    type: str
    served: Stated
    offline: Stated | None
    verdict: str
    why: str = ""
    explanation: Explanation | None = None

    @property
    def bits(self) -> str | None:
        """The bits of a float or of a list of floats, in hexadecimal digits, the highest first;
        None for another type, whose value is exact as it stands."""
        return bits_of(self.served[0])


@dataclass(frozen=True, slots=True)
class AuditedAnswer(Named):
    """What a target answered for a row, or a lookup without a model, which has no `target`. The
    fields are those of the serving log's `predicted`."""

    target: str
    role: str
    answered: bool
    prediction: str | None
    error: str | None
    latency_us: int
    model_version: str | None
    route: str


@dataclass(frozen=True, slots=True)
class AuditedRow(Named):
    """A row of the request, as a version of a service answered it, and who answered with that."""

    row: int
    service: str
    fingerprint: str
    keys: Mapping[str, Any]
    request: Mapping[str, Any]
    as_of: dt.datetime
    served_at: dt.datetime
    answers: tuple[AuditedAnswer, ...]
    features: tuple[AuditedFeature, ...]

    @property
    def forgotten(self) -> bool:
        """Whether the entity was forgotten since."""
        return any(one.verdict == FORGOTTEN for one in self.features)


@dataclass(frozen=True, slots=True)
class Step(Named):
    """Who did something that made the version live: from the registry or the audit log."""

    at: str
    who: str
    did: str


@dataclass(slots=True)
class PredictionAudit(Named):
    """All that is known of a request's answer; see `FeatureStore.audit_prediction`.

    `rows` has each row of the request once for each version of a service that answered it.
    `request` names the process that served it and the number it had there, as PROCESS:NUMBER.
    `contract` is the model's, where it was given, and `steps` say who made the versions live.
    `notes` say what cannot be told, and why.
    """

    request_id: str
    request: str
    project: str
    caller: str
    rows: tuple[AuditedRow, ...]
    contract: Contract | None = None
    steps: tuple[Step, ...] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def verdicts(self) -> dict[str, int]:
        """How many values have each verdict."""
        found: dict[str, int] = {}
        for row in self.rows:
            for one in row.features:
                found[one.verdict] = found.get(one.verdict, 0) + 1
        return found

    @property
    def equal(self) -> bool | None:
        """Whether every served value has the bits and the status that offline says now: False where
        one differs, and None where none does, but some could not be compared."""
        found = self.verdicts
        if found.get(DIFFERS) or found.get(LAG):
            return False
        return True if found.keys() == {EQUAL} else None

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "request_id": self.request_id,
            "request": self.request,
            "project": self.project,
            "caller": self.caller,
            "equal": self.equal,
            "verdicts": self.verdicts,
            "rows": [_row_document(row) for row in self.rows],
            "training_set": None if self.contract is None else trained_on(self.contract),
            "steps": [{"at": s.at, "who": s.who, "did": s.did} for s in self.steps],
            "notes": self.notes,
        }


def _row_document(row: AuditedRow) -> dict[str, Any]:
    return {
        "row": row.row,
        "service": row.service,
        "fingerprint": row.fingerprint,
        "keys": row.keys,
        "request": row.request,
        "as_of": row.as_of,
        "served_at": row.served_at,
        "answers": [{n: getattr(one, n) for n in AuditedAnswer.__slots__} for one in row.answers],
        "features": [
            {
                "feature": one.name,
                "type": one.type,
                "value": one.served[0],
                "bits": one.bits,
                "status": one.served[1],
                "offline": None
                if one.offline is None
                else {
                    "value": one.offline[0],
                    "bits": bits_of(one.offline[0]),
                    "status": one.offline[1],
                },
                "verdict": one.verdict,
                "why": one.why,
                "explanation": None if one.explanation is None else one.explanation.to_dict(),
            }
            for one in row.features
        ],
    }


def trained_on(contract: Contract) -> dict[str, Any]:
    """What a contract says of the training set behind it."""
    code = contract.code
    return {
        "contract": contract.sha256,
        "signed_by": contract.signed_by,
        "service": contract.service,
        "fingerprint": contract.fingerprint,
        "content_hash": contract.content_hash,
        "manifest": contract.manifest,
        "code": None if code is None else {"commit": code.commit, "dirty": code.dirty},
    }


def bits_of(value: Any) -> str | None:
    """The bits of a float, or of each float of a list, as AuditedFeature says."""
    if isinstance(value, float):
        return struct.pack(">d", value).hex()
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, float) for v in value):
        return " ".join(struct.pack(">d", v).hex() for v in value)
    return None


def audit_prediction(
    project: Project,
    request_id: str,
    *,
    log: str | Path | None = None,
    row: int | None = None,
    contract: Contract | None = None,
    events: bool = True,
) -> PredictionAudit:
    """See `FeatureStore.audit_prediction`."""
    blocks = project.served(log, forgotten=True, request=request_id)
    found = find(blocks, request_id, log=lambda: project.served(log, forgotten=True))
    chosen = found.rows if row is None else [one for one in found.rows if one.row == row]
    if not chosen:
        there = sorted({one.row for one in found.rows})
        raise DataError(
            f"request {request_id!r} has no row {row}; it has the rows {there[0]} to {there[-1]}"
        )
    made = PredictionAudit(request_id, found.request, project.name, found.caller, ())
    made.notes += found.notes
    rows: list[AuditedRow] = []
    versions = Versions(project)
    for some in _together(chosen):
        rows += _audited(project, versions, some, made.notes, events=events)
    made.rows = tuple(sorted(rows, key=lambda one: (one.row, one.service, one.fingerprint)))
    _tell_model(made, contract)
    made.steps = tuple(_steps(project, made))
    _tell_live(project, made)
    made.notes = list(dict.fromkeys(made.notes))
    return made


# --- features -------------------------------------------------------------------------------------


def _together(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each version, whatever the target: those of one lookup stand together."""
    found: dict[str, list[Row]] = {}
    for one in rows:
        found.setdefault(f"{one.block.head.service}@{one.block.head.fingerprint}", []).append(one)
    return list(found.values())


def _audited(
    project: Project, versions: Versions, rows: Sequence[Row], notes: list[str], *, events: bool
) -> Iterator[AuditedRow]:
    """Rows of one version: each row of the request once, unless targets were given other values."""
    asked: dict[Any, list[Row]] = {}
    for one in rows:
        asked.setdefault((one.row, one.told), []).append(one)
    alone = [some[0] for some in asked.values()]
    if len(alone) > len({one.row for one in alone}):
        notes.append("a row was looked up more than once, with other values; all are shown")
    forgotten = _forgotten(project)
    left = [one for one in alone if not forgotten(one)]
    judged = _judged(project, versions, left) if left else "its entity was forgotten"
    if left and isinstance(judged, str):
        notes.append(f"nothing was compared with offline: {judged}")
    for one, some in zip(alone, asked.values(), strict=True):
        place = left.index(one) if one in left else None
        features = _features(one, judged, place)
        if events and place is not None and isinstance(judged, Judged):
            features = _explained(project, judged.service, one, features, notes)
        head = one.block.head
        yield AuditedRow(
            one.row,
            head.service,
            head.fingerprint,
            one.keys,
            one.request,
            instant(one.as_of),
            instant(one.served_at),
            tuple(_answer(each) for each in some),
            tuple(features),
        )


def _judged(project: Project, versions: Versions, rows: Sequence[Row]) -> Judged | str:
    """What offline says of the rows now, or why it cannot be asked."""
    head = rows[0].block.head
    service = versions.of(head)
    if isinstance(service, str):
        return f"rows {service} cannot be computed again here"
    try:
        return judge(project, service, head, [one.alone() for one in rows])
    except FeaturekitError as error:
        return f"offline does not answer ({error})"


def _features(one: Row, judged: Judged | str, i: int | None) -> Iterator[AuditedFeature]:
    """The features of a row, which is the `i`-th of those judged; None where it is forgotten."""
    for o, (name, type_) in enumerate(one.block.head.outputs.items()):
        told = name, str(type_), one.stated(o)
        if i is None:
            why = "`forget` removed the entity, whose events nothing reads any more"
            yield AuditedFeature(*told, None, FORGOTTEN, why)
        elif isinstance(judged, str):
            yield AuditedFeature(*told, None, UNCHECKED, judged)
        else:
            yield AuditedFeature(*told, judged.offline.offline(o, i), *_verdict(judged, o, i))


def _verdict(judged: Judged, o: int, i: int) -> tuple[str, str]:
    """The verdict about a value, and the reason."""
    if (o, i) in judged.unchecked:
        return UNCHECKED, f"among {judged.unchecked[o, i]}"
    if (o, i) in judged.lagging:
        arrived = judged.lagging[o, i]
        since = "" if arrived is None else f"; the oldest arrived at {instant(arrived).isoformat()}"
        return LAG, f"it lacks events that were not online when it was served{since}"
    if i in judged.parted[o]:
        return DIFFERS, "offline says something else now, of the same instant"
    return EQUAL, ""


def _explained(
    project: Project,
    service: Service,
    one: Row,
    features: Iterator[AuditedFeature],
    notes: list[str],
) -> Iterator[AuditedFeature]:
    """The features with the events that made each."""
    found = list(features)
    served = {feature.name: feature.served for feature in found}
    row, at = {**one.keys, **one.request}, instant(one.as_of)
    for feature in found:
        try:
            made = explain_served(project, service, feature.name, row, at, served)
        except FeaturekitError as error:
            notes.append(f"the events of {feature.name} cannot be told: {error}")
            made = None
        yield AuditedFeature(
            feature.name,
            feature.type,
            feature.served,
            feature.offline,
            feature.verdict,
            feature.why,
            made,
        )


def _answer(one: Row) -> AuditedAnswer:
    told = one.predicted
    return AuditedAnswer(**{name: told[name] for name in AuditedAnswer.__slots__})


def _forgotten(project: Project) -> Callable[[Row], bool]:
    """Says whether the entity of a row was forgotten since it was served."""
    tombstones = project.registry.tombstones()
    if not tombstones:
        return lambda row: row.forgotten
    secret = read_secret(project.state_dir, tombstones)
    gone = ForgottenRows(project, tombstones, secret, ever=False)
    return lambda row: row.forgotten or bool(gone(row.alone()))


# --- the model, and who made it live --------------------------------------------------------------


def _tell_model(made: PredictionAudit, contract: Contract | None) -> None:
    """Add the model's contract, and what does not fit it."""
    asked = any(answer.target for row in made.rows for answer in row.answers)
    made.contract = contract
    if contract is None:
        if asked:
            made.notes.append(
                "the serving log names no contract, so the training set is not told; name the "
                "model's by --contract FILE or --model models:/NAME/VERSION"
            )
        return
    mine, served = f"{contract.service}@{contract.fingerprint[:12]}", _given(made)
    others = {version: targets for version, targets in served.items() if version != mine}
    names = ", ".join(
        f"{version} ({', '.join(targets)})" if targets else version
        for version, targets in others.items()
    )
    if mine not in served:
        made.notes.append(
            f"the contract is of {mine}, and the request was answered by {names}: the model was "
            "not trained on what it was given, or the contract is another model's"
        )
    elif others:
        made.notes.append(
            f"a mixed route: the contract is of {mine}, which was given to "
            f"{', '.join(served[mine])}, and rows were answered by {names}, too"
        )


def _given(made: PredictionAudit) -> dict[str, list[str]]:
    """The versions that answered, each with the targets that were given its features."""
    found: dict[str, set[str]] = {}
    for row in made.rows:
        targets = found.setdefault(f"{row.service}@{row.fingerprint[:12]}", set())
        targets.update(one.target for one in row.answers if one.target)
    return {version: sorted(found[version]) for version in sorted(found)}


def _steps(project: Project, made: PredictionAudit) -> Iterator[Step]:
    """Who applied the versions, who pinned them, and what the audit log says of their services
    until they were served."""
    found = []
    versions = {(row.service, row.fingerprint): row.served_at for row in made.rows}
    pins = project.registry.pins()
    for (service, fingerprint), served_at in versions.items():
        name = f"{service}@{fingerprint[:12]}"
        for known, who, when in project.registry.versions("service", service):
            if known == fingerprint:
                found.append(Step(when, who, f"applied {name} (registry)"))
        for pin in pins:
            if (pin.service, pin.fingerprint) == (service, fingerprint):
                found.append(
                    Step(pin.pinned_at.isoformat(), pin.owner, f"pinned {name} for {pin.by}")
                )
        found += [
            Step(entry.at, entry.who, f"{entry.verb}: {did}")
            for entry in _entries(project, made.notes)
            if dt.datetime.fromisoformat(entry.at) <= served_at
            and (did := _did(entry, service, fingerprint)) is not None
        ][-_MOST_STEPS:]
    yield from sorted(dict.fromkeys(found), key=lambda step: step.at)


def _entries(project: Project, notes: list[str]) -> list[Entry]:
    """The entries of the audit log about what is live."""
    log = project.audit.log
    if log is None or not log.path.exists():
        notes.append("there is no audit log here, so only the registry says who applied it")
        return []
    entries = list(log.entries())
    if not all(isinstance(one, Entry) for one in entries):
        notes.append(
            "the audit log is not as it was written (`featurekit audit verify`), so what it says "
            "is no proof"
        )
    return [one for one in entries if isinstance(one, Entry) and one.verb in _OF_ALL]


def _did(entry: Entry, service: str, fingerprint: str) -> str | None:
    """What an entry says of a version of a service; None where it says nothing of it."""
    about = entry.about
    if entry.step == "done" and entry.verb == "apply":
        for change in about.get("changes", ()):
            if (change.get("kind"), change.get("name")) == ("service", service):
                return f"{change.get('action')} {service}@{str(change.get('new'))[:12]}"
    if entry.step == "done" and entry.verb == "materialize" and service in about.get("live", ()):
        return f"filled {service}, which went live"
    if entry.step == "done" and entry.verb == "rollback" and about.get("to") == fingerprint:
        return f"back to {service}@{fingerprint[:12]}"
    if entry.verb in ("pin", "unpin") and about.get("service") == service:
        return f"{service} for {about.get('by')} ({entry.step})"
    return None


def _tell_live(project: Project, made: PredictionAudit) -> None:
    """Say where another version is live now than the one that answered."""
    try:
        live = project.live()
    except FeaturekitError as error:
        made.notes.append(f"what is live now cannot be told: {error}")
        return
    for service, fingerprint in sorted({(row.service, row.fingerprint) for row in made.rows}):
        now = live.get(service)
        if now is None:
            made.notes.append(f"service {service} is not live any more")
        elif now.fingerprint != fingerprint:
            made.notes.append(
                f"it was served at {service}@{fingerprint[:12]}, which is "
                f"{standing(project, service, fingerprint)}; live now is {now.fingerprint[:12]}"
            )
