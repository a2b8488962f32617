"""Judges sources by their contracts, and stops work before it writes anything where one is broken
(S5)."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.attributes import Named
from featurekit.core.calls import near
from featurekit.core.files import write_whole
from featurekit.core.openness import make_folder
from featurekit.core.version import VERSION
from featurekit.define.contracts.compiled import Contract, contract_of
from featurekit.define.contracts.rules import Rule
from featurekit.define.contracts.sets import References
from featurekit.errors import ContractBroken, ContractWarning, DataError, DefinitionError
from featurekit.language import wire
from featurekit.log.segments import segments
from featurekit.offline.contract import Measures, Outcome, measure, outcomes
from featurekit.offline.events import Snapshot, check_unchanged, source_events
from featurekit.project.kept_results import keep_judged
from featurekit.sources.identity import kept_folder
from featurekit.sources.verdicts import measures_name

if TYPE_CHECKING:
    from featurekit.define.definitions import EventSource
    from featurekit.define.plan import Service
    from featurekit.define.repo import Repo
    from featurekit.project.project import Project

OF_SCHEMA = "its rows are as the schema declares"
"""What the rule says that every source has."""
_FORMAT = 2
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Judged(Named):
    """What became of a source's contract: its `rows` that are not set aside, and what each rule
    says. The schema is the first of them."""

    source: str
    rows: int
    outcomes: tuple[Outcome, ...]

    @property
    def stops(self) -> bool:
        """Whether a rule of severity "fail" is broken."""
        return any(outcome.stops for outcome in self.outcomes)


@dataclass(frozen=True, slots=True)
class Validation(Named):
    """What `validate` found: each source's contract, and the seconds that it took."""

    sources: tuple[Judged, ...]
    seconds: float = field(default=0.0, compare=False)

    @property
    def ok(self) -> bool:
        """Whether no rule of severity "fail" is broken."""
        return not any(judged.stops for judged in self.sources)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        shown = [
            {
                "source": judged.source,
                "rows": judged.rows,
                "ok": not judged.stops,
                "rules": [asdict(outcome) for outcome in judged.outcomes],
            }
            for judged in self.sources
        ]
        return {"ok": self.ok, "seconds": round(self.seconds, 3), "sources": shown}


def validate(project: Project, names: Sequence[str] | None = None) -> Validation:
    """Judge the sources of these names, or all, by their schemas and contracts; nothing stops.
    DefinitionError for a name that no source has."""
    begun, known = time.monotonic(), project.repo.sources
    for name in names or ():
        if name not in known:
            raise DefinitionError(f"there is no source {name!r}; {near(name, known)}")
    chosen = [known[name] for name in sorted({*(known if names is None else names)})]
    with closing(project.connect()) as con:
        made = tuple(_validated(project, con, source) for source in chosen)
    for judged in made:
        keep_judged(project.state_dir, judged.source, judged.outcomes)
    return Validation(made, time.monotonic() - begun)


def _validated(project: Project, con: Any, source: EventSource) -> Judged:
    """The outcomes of a source; that it cannot be read as its schema says is one of them."""
    try:
        found, read = _measured(project, con, source)
    except DataError as error:
        broken = Outcome("schema", OF_SCHEMA, "fail", "schema", False, 0, 0, str(error))
        return Judged(source.name, 0, (broken,))
    schema = _schema(source, found, read)
    return Judged(source.name, found.kept, (schema, *_outcomes(project, source, found)))


def _schema(source: EventSource, found: Measures, read: Mapping[str, Any]) -> Outcome:
    """What became of the schema, the first rule, of rows that could be read."""
    aside = read["quarantined"]
    rows = found.rows + aside
    said = f"{aside:,} of {rows:,} rows are set aside" if aside else f"{rows:,} rows are read"
    severity: Any = "quarantine" if source.on_bad_row == "quarantine" else "fail"
    return Outcome("schema", OF_SCHEMA, severity, "schema", aside == 0, rows, aside, said)


def _outcomes(project: Project, source: EventSource, found: Measures) -> list[Outcome]:
    before = _rows_before(project.state_dir, source.name)
    now = time.time_ns() // 1000
    return outcomes(contract_of(source), found, now_us=now, rows_before=before)


# --- before work that writes ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Passed:
    """Contracts that hold. `rows` has how many rows each source has, to compare the next with,
    `warned` what was warned of, and `files` the files of each source that were judged."""

    state_dir: Path
    rows: Mapping[str, int]
    warned: frozenset[str] = frozenset()
    files: Mapping[str, Any] = field(default_factory=dict)

    def of(self, source: EventSource, read: Snapshot) -> bool:
        """Whether the files that were read of a source are those that were judged, if it has a
        contract."""
        return not source.expect or self.files.get(source.name) == read.about["files"]

    def remember(self) -> None:
        """Keep the numbers of rows, once the work is done."""
        for name, rows in self.rows.items():
            if rows != _rows_before(self.state_dir, name):
                make_folder(_place(self.state_dir, name).parent)
                write_whole(_place(self.state_dir, name), json.dumps({"rows": rows}).encode())


def enforce(project: Project, sources: Iterable[EventSource]) -> Passed:
    """Judge the sources that have a contract, before work that reads them. ContractBroken where a
    rule of severity "fail" is broken; ContractWarning, a warning, for one of severity "warn"."""
    ruled = [source for source in sources if source.expect]
    if not ruled:
        return Passed(project.state_dir, {})
    with closing(project.connect()) as con:
        return _enforce(project, con, ruled)


def enforce_again(
    project: Project, con: Any, sources: Iterable[EventSource], before: Passed
) -> Passed:
    """`enforce` for what `con` reads of these sources now: a row may have come since they were
    judged `before`. The rows of a content that was judged are not measured again, and what was
    warned of is not said twice. Of a database, a lake and a store of objects, `con` then reads the
    same again; files of this machine are looked for at each reading (`Passed.of`)."""
    ruled = [source for source in sources if source.expect]
    again = _enforce(project, con, ruled, warned=before.warned)
    rows, files = {**before.rows, **again.rows}, {**before.files, **again.files}
    return Passed(project.state_dir, rows, again.warned, files)


def _enforce(
    project: Project,
    con: Any,
    sources: Iterable[EventSource],
    *,
    warned: frozenset[str] = frozenset(),
) -> Passed:
    found: dict[str, list[Outcome]] = {}
    rows: dict[str, int] = {}
    files: dict[str, Any] = {}
    ruled = {source.name: source for source in sources if source.expect}
    for name, source in sorted(ruled.items()):
        made, read = _measured(project, con, source)
        rows[name], files[name] = made.events, read["files"]
        every = _outcomes(project, source, made)
        keep_judged(project.state_dir, name, (_schema(source, made, read), *every))
        found[name] = [outcome for outcome in every if not outcome.held]
    for name, broken in found.items():
        for outcome in broken:
            text = f"source {name!r}, {_said(outcome)}"
            if outcome.severity == "warn" and text not in warned:
                warned |= {text}
                warnings.warn(text, ContractWarning, stacklevel=3)
    stopping = [(name, o) for name, broken in found.items() for o in broken if o.stops]
    if stopping:
        raise ContractBroken(_stopped(stopping))
    return Passed(project.state_dir, rows, warned, files)


def judge(project: Project, repo: Repo, service: Service, con: Any) -> None:
    """`enforce` for the sources that a service reads, as `repo` defines them: a training set is
    made of the definitions of its day, whatever is edited later. The sources are read through
    `con`, once for both."""
    names = sorted({name for view in service.views for name in view.all_source_names})
    _enforce(project, con, [project.source(name, repo) for name in names])


def _said(outcome: Outcome) -> str:
    shown = outcome.example and ", ".join(f"{k}={v}" for k, v in outcome.example.items())
    example = f", such as {shown}" if shown else ""
    return f"rule {outcome.rule} ({outcome.says}): {outcome.found}{example}"


def _stopped(stopping: Sequence[tuple[str, Outcome]]) -> str:
    lines = [f"source {name!r}, {_said(outcome)}" for name, outcome in stopping[:_NAMED]]
    if len(stopping) > _NAMED:
        lines.append(f"and {len(stopping) - _NAMED} more")
    shown = "\n".join(f"  {line}" for line in lines)
    return (
        f"a contract is broken, so nothing was written:\n{shown}\nMend the rows, write "
        'severity="quarantine" at a rule of a row to set such rows aside, or severity="warn"; '
        "`featurekit validate` shows every rule"
    )


# --- measures, kept for a content -----------------------------------------------------------------


def _measured(
    project: Project, con: Any, source: EventSource
) -> tuple[Measures, Mapping[str, Any]]:
    """What a source's rows are, and what was read; measured once for a content (S4)."""

    def snapshot(one: EventSource) -> Snapshot:
        return source_events(
            con,
            one,
            base=project.path,
            state_dir=project.state_dir,
            forgotten=project.forgotten(one),
            may_be_empty=True,
            judged=one is not source,
        )

    contract = contract_of(source)
    read = snapshot(source)
    referred = {r.to.name: snapshot(r.to) for r in contract.sets if isinstance(r, References)}
    about = [
        _content(project, source.name, read),
        [_content(project, name, one) for name, one in sorted(referred.items())],
        _declared(source, contract),
    ]
    place = kept_folder(project.state_dir) / measures_name(source.name)
    key = hashlib.sha256(json.dumps([_FORMAT, VERSION, about]).encode()).hexdigest()
    kept = _kept(place, key)
    if kept is None:
        relation = read.events.relation
        kept = measure(
            con, source, contract, relation, other=lambda one: referred[one.name].events.relation
        )
        check_unchanged({source.name: read})
        write_whole(place, json.dumps({"key": key, "measures": asdict(kept)}).encode())
    return kept, read.about


def _declared(source: EventSource, contract: Contract) -> list[Any]:
    checks = [[j.rule.name, j.rule.severity, wire.canonical(j.check)] for j in contract.judges]
    schema = [(name, str(type_)) for name, type_ in source.schema.items()]
    sets = [rule.written for rule in contract.sets]
    return [checks, sets, schema, source.sequence, *_ids(source)]


def _ids(source: EventSource) -> tuple[str | None, str | None, str | None]:
    """What decides which rows are events (T7)."""
    within = None if source.dedupe_within is None else str(source.dedupe_within)
    return source.event_id, source.op, within


def _content(project: Project, name: str, read: Snapshot) -> list[Any]:
    """What tells the rows of a source from others: its files' hashes, and its log's files."""
    stats = [(path, path.stat()) for path in segments(project.state_dir, name)]
    logged = [(path.name, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    return [read.about, logged]


def drop_measured(state_dir: Path, source: str) -> None:
    """Remove what was measured of a source: it has a row as an example of each broken rule."""
    (kept_folder(state_dir) / measures_name(source)).unlink(missing_ok=True)


def _kept(place: Path, key: str) -> Measures | None:
    """What is kept; nothing where it is of another content, or damaged: it can be made again."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        about = json.loads(place.read_bytes())
        if about["key"] == key:
            return Measures(**about["measures"])
    return None


def _place(state_dir: Path, source: str) -> Path:
    return Path(state_dir) / "contracts" / f"{source}.json"


def _rows_before(state_dir: Path, source: str) -> int | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        return int(json.loads(_place(state_dir, source).read_bytes())["rows"])
    return None


# --- proposing ------------------------------------------------------------------------------------


def suggest(project: Project, name: str, *, severity: str = "warn") -> list[Rule]:
    """Rules for a source's contract, each of which holds of the rows that it has now.
    DefinitionError for a name that no source has."""
    from featurekit.offline.contract_profile import propose

    source = project.source(name)
    with closing(project.connect()) as con:
        read = source_events(
            con,
            source,
            base=project.path,
            state_dir=project.state_dir,
            forgotten=project.forgotten(source),
        )
        now = time.time_ns() // 1000
        return propose(con, source, read.events.relation, now_us=now, severity=severity)
