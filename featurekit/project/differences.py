"""Turns two versions of a view or service into what differs, why, and what would break a caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import ndiff
from typing import Any

from featurekit.core.durations import duration_text
from featurekit.define.deprecated import WHOLE, Deprecated
from featurekit.define.plan import Feature, Output, Part, Service, Slot, Source, View
from featurekit.language import ir
from featurekit.language.listing import lines

Said = Mapping[str, Mapping[str, str]]
"""What is deprecated of a view or service: what `Deprecated.about` gave, by the names of features
or by WHOLE."""


def features_of(value: View | Service) -> dict[str, str]:
    """The features of a view, or the outputs of a service, by name with their types as texts."""
    if isinstance(value, View):
        return {f.name: str(f.type) for f in value.features}
    return {o.name: str(o.type) for o in value.outputs}


def differing(old: View | Service, new: View | Service) -> tuple[str, ...]:
    """Which features were added, changed and removed, as texts: "+ name", "~ name", "- name"."""

    def prints(value: View | Service) -> dict[str, str]:
        if isinstance(value, View):
            return {f.name: f.fingerprint for f in value.features}
        return {o.full_name: o.fingerprint for o in value.outputs}

    before, after = prints(old), prints(new)
    found = [f"+ {n}" for n in after if n not in before]
    found += [f"~ {n}" for n in after if n in before and before[n] != after[n]]
    found += [f"- {n}" for n in before if n not in after]
    return tuple(found)


def reasons(old: View | Service, new: View | Service) -> tuple[str, ...]:
    """Why two versions have other fingerprints, a line each, as "spend_7d: window 7d → 8d"; the
    lines of a transform that differ follow it, indented."""
    if isinstance(old, View) and isinstance(new, View):
        return tuple(_of_views(old, new))
    assert isinstance(old, Service)
    assert isinstance(new, Service)
    return tuple(_of_services(old, new))


def deprecated_otherwise(old: Said, new: Said) -> tuple[str, ...]:
    """What is deprecated now and was not, or otherwise, a line each; and what is not any more."""
    found = []
    for name in dict.fromkeys([*new, *old]):
        if old.get(name) != new.get(name):
            line = deprecated_line(new.get(name))
            found.append(line if name == WHOLE else f"{name}: {line}")
    return tuple(found)


def deprecated_line(about: Mapping[str, str] | None) -> str:
    """One thing's deprecation, or that it is not deprecated any more."""
    if about is None:
        return "not deprecated any more"
    said = Deprecated.of(about)
    return f"deprecated: {said.in_words(said.day)}"


def breaking(old: Service, new: Service) -> tuple[str, ...]:
    """What of a service's new version breaks who calls it: outputs that are gone, have another
    name, meaning or type, and what a row must bring."""
    before = {o.name: o for o in old.outputs}
    after = {o.name: o for o in new.outputs}
    renamed = {o.full_name: o.name for o in new.outputs}
    found = []
    for name, output in before.items():
        other = after.get(name)
        if other is None and output.full_name in renamed:
            now = renamed[output.full_name]
            why = ", as another feature has its name" if now == output.full_name else ""
            found.append(f"{name} is named {now} now{why}")
        elif other is None:
            found.append(f"{name} is gone")
        elif other.full_name != output.full_name and other.fingerprint != output.fingerprint:
            found.append(f"{name} means {other.full_name} now, and meant {output.full_name}")
        elif other.type.base != output.type.base:
            found.append(f"{name} is {other.type} now, and was {output.type}")
    return (*found, *_of_rows(old, new))


def _of_rows(old: Service, new: Service) -> Iterator[str]:
    """What a row must bring that it did not, or the other way round."""
    for what, before, after in (
        ("join key", old.join_keys, new.join_keys),
        (
            "request field",
            {p.name: p.type for p in old.request},
            {p.name: p.type for p in new.request},
        ),
    ):
        yield from (f"a row brings the {what} {n} now" for n in after if n not in before)
        yield from (f"a row brings no {what} {n} any more" for n in before if n not in after)
        for name in before.keys() & after.keys():
            if before[name] != after[name]:
                yield f"the {what} {name} is {after[name]} now, and was {before[name]}"


# --- views ----------------------------------------------------------------------------------------


def _of_views(old: View, new: View) -> Iterator[str]:
    yield from _of_sources(old.source, new.source)
    yield from _of_columns("join key", _types(old.join_keys), _types(new.join_keys))
    for what, before, after in (
        ("ttl", old.ttl_us, new.ttl_us),
        ("history", old.history_us or None, new.history_us or None),
        ("ids are remembered for", old.dedupe_us, new.dedupe_us),
    ):
        yield from _changed(what, _duration(before), _duration(after))
    yield from _changed("explode", old.explode, new.explode)
    yield from _changed("where", _passing(old), _passing(new))
    known = {f.name: f for f in old.features}
    for feature in new.features:
        if feature.name not in known:
            yield f"{feature.name}: new, {feature.type}"
        else:
            for line in _of_features((old, known[feature.name]), (new, feature)):
                yield line if line.startswith(" ") else f"{feature.name}: {line}"
    names = {f.name for f in new.features}
    yield from (f"{f.name}: removed" for f in old.features if f.name not in names)


def _of_sources(old: Source, new: Source) -> Iterator[str]:
    if old.parts is None and new.parts is None:
        yield from _of_source(old, new)
        return
    yield from _changed("sources", old.title, new.title)
    before = {part.source.name: part for part in _parts(old)}
    for part in _parts(new):
        name, was = part.source.name, before.get(part.source.name)
        if was is not None:
            yield from _of_source(was.source, part.source)
            for one in _of_columns("its column for", _mapping(old, was), _mapping(new, part)):
                yield f"source {name}: {one}"


def _parts(source: Source) -> tuple[Part, ...]:
    """The parts of a union; a source that is none is its own part."""
    own = Part(source, tuple(p.name for p in source.schema))
    return (own,) if source.parts is None else source.parts


def _mapping(source: Source, part: Part) -> dict[str, str]:
    """The column of a part for each column of the union."""
    return {p.name: c for p, c in zip(source.schema, part.columns, strict=False)}


def _of_source(old: Source, new: Source) -> Iterator[str]:
    where = f"source {new.name}"
    yield from _changed("source", old.name, new.name)
    for line in _of_columns("column", _types(old.schema), _types(new.schema)):
        yield f"{where}: {line}"
    for name in (
        "timestamp_field",
        "created_timestamp_column",
        "arrives",
        "timezone",
        "sequence",
        "event_id",
        "op",
    ):
        for line in _changed(name, getattr(old, name), getattr(new, name)):
            yield f"{where}: {line}"
    if old.aside != new.aside:
        before, after = ({c for n in s.aside or () for c in n.columns} for s in (old, new))
        read = ", ".join(sorted(before | after))
        yield f"{where}: the rules that set rows aside differ, of {read} (S5)"


def _of_columns(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    yield from (f"{what} {n}: new, {type_}" for n, type_ in new.items() if n not in old)
    yield from (f"{what} {n}: removed" for n in old if n not in new)
    for name in old:
        if name in new:
            yield from _changed(f"{what} {name}:", old[name], new[name])


def _of_features(old: tuple[View, Feature], new: tuple[View, Feature]) -> Iterator[str]:
    """What differs in the definitions of a feature."""
    before, after = old[1], new[1]
    yield from _changed("aggregate", before.aggregate, after.aggregate)
    ahead = [f.ahead for f in (before, after)]
    yield from _changed("ahead", *(None if one is None else "yes" for one in ahead))
    if ahead[0] is not None and ahead[1] is not None:
        yield from _changed("settle", *(_duration(one.settle_us) for one in ahead if one))
        old_function, new_function = ahead[0].function, ahead[1].function
        if old_function is not None and new_function is not None:
            yield from _of_functions("transform", old_function, new_function)
    for what in ("window",) if any(ahead) else ("window", "offset", "hop"):
        spans = [getattr(f, f"{what}_us") for f in (before, after)]
        texts = [
            f.span if what == "window" and us else _duration(us or None)
            for us, f in zip(spans, (before, after), strict=True)
        ]
        yield from _changed(what, *texts)
    frames = [{} if f.frame is None else f.frame.written for f in (before, after)]
    for name in dict.fromkeys([*frames[0], *frames[1]]):
        yield from _changed(name, *(frame.get(name) for frame in frames))
    yield from _changed("default", before.default, after.default)
    for name in dict.fromkeys([*dict(before.params), *dict(after.params)]):
        yield from _changed(name, dict(before.params).get(name), dict(after.params).get(name))
    yield from _changed("type", str(before.type), str(after.type))
    yield from _changed("top", before.most, after.most)
    for what, i, j in (
        ("input", before.slot, after.slot),
        ("where", before.where, after.where),
        ("by", before.by, after.by),
    ):
        yield from _of_slots(
            what,
            None if i is None else old[0].slots[i],
            None if j is None else new[0].slots[j],
        )


def _of_slots(what: str, old: Slot | None, new: Slot | None) -> Iterator[str]:
    if old is not None and new is not None and old.transform and new.transform:
        yield from _of_functions("transform", old.transform, new.transform)
        return

    def shown(slot: Slot | None) -> str | None:
        if slot is None:
            return None
        return f"@feature {slot.transform.name}" if slot.transform else slot.column

    yield from _changed(what, shown(old), shown(new))


def _of_functions(what: str, old: ir.Function, new: ir.Function) -> Iterator[str]:
    """The lines of a function that differ. A new name alone changes no value."""
    before, after = lines(replace(old, name=new.name)), lines(new)
    if before != after:
        yield f"{what} {new.name} reads otherwise"
        for line in ndiff(before, after):
            if line[0] in "+-":
                yield f"    {line.rstrip()}"


# --- services -------------------------------------------------------------------------------------


def _of_services(old: Service, new: Service) -> Iterator[str]:
    known = {v.name: v for v in old.views}
    for view in new.views:
        if view.name not in known:
            yield f"view {view.name}: new here"
        elif known[view.name].fingerprint != view.fingerprint:
            yield f"view {view.name} is another version"
    names = {v.name for v in new.views}
    yield from (f"view {v.name}: not used any more" for v in old.views if v.name not in names)
    yield from _of_columns("request field", _types(old.request), _types(new.request))
    yield from _changed("on_outage", old.on_outage, new.on_outage)
    yield from _of_outputs(old, new)


def _of_outputs(old: Service, new: Service) -> Iterator[str]:
    before, after = ({o.full_name: o for o in s.outputs} for s in (old, new))
    for full, output in after.items():
        other = before.get(full)
        if other is None:
            yield f"{output.name}: new, {output.type}"
            continue
        yield from _changed(f"{full}: name", other.name, output.name)
        if output.view < 0 and other.view < 0:
            for line in _of_functions("transform", _function(old, other), _function(new, output)):
                yield line if line.startswith(" ") else f"{output.name}: {line}"
    yield from (f"{o.name}: removed" for full, o in before.items() if full not in after)


def _function(service: Service, output: Output) -> ir.Function:
    return service.transforms[output.index].function


# --- words ----------------------------------------------------------------------------------------


def _types(params: tuple[ir.Param, ...]) -> dict[str, str]:
    return {p.name: str(p.type) for p in params}


def _passing(view: View) -> str | None:
    """The text of what a row has to pass to be an event."""
    return None if view.where is None else "; ".join(lines(view.where.function))


def _changed(what: str, old: Any, new: Any) -> Iterator[str]:
    if repr(old) != repr(new):
        yield f"{what} {_shown(old)} → {_shown(new)}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else repr(value)


def _duration(us: int | None) -> str | None:
    return None if us is None else duration_text(us)
