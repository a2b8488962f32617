"""Turns what was gathered into the pages of features, views, services, sources and entities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from featurekit.core.page import Html, joined
from featurekit.define.plan import Feature, Output, Service, View
from featurekit.language.transform import Transform
from featurekit.project.catalog import Item
from featurekit.project.lineage.definitions import answer_id, column_id, feature_id, service_id
from featurekit.project.lineage.graph import Lineage
from featurekit.project.lineage.impact import touched
from featurekit.project.lineage.picture import svg
from featurekit.project.site.code import Code
from featurekit.project.site.gathered import ANSWER, Gathered, anchor
from featurekit.project.site.history import Before
from featurekit.project.site.parts import (
    code,
    deprecated_badge,
    deprecated_text,
    facts,
    fill,
    instant_text,
    link,
    program,
    section,
    several,
    share_text,
    state_badge,
    table,
    values_section,
)
from featurekit.project.site.results import contract_section, parity_of_service, parity_section

ROOT = "../"
_MOST_DRAWN = 60
"""A picture of more nodes shows nothing; the table beside it does."""
_COMPILED = (("as it is written", "written"), ("compiled to Python", "python"), ("as SQL", "sql"))


class Page:
    """A page before it is put into the document: its title, what lies above it, its content."""

    __slots__ = ("above", "content", "title")

    def __init__(self, title: str, above: Sequence[tuple[str, str]], content: Html) -> None:
        self.title, self.above, self.content = title, above, content


def thing(item: Item, shown: dict[str, Any], sections: Iterable[Html | None], name: str) -> Html:
    """What each page says of its thing, and then its sections."""
    about = {
        **shown,
        "deprecated": deprecated_text(item.deprecated),
        "owner": item.owner,
        "version": item.version and code(item.version[:12]),
        "fresh until": instant_text(item.fresh_until),
        "tags": several(f"{k}: {v}" for k, v in item.tags.items()),
        "written at": item.place and code(_short_place(item.place)),
    }
    return fill(
        "thing",
        kind=item.kind,
        name=name,
        badge=joined([state_badge(item.state), deprecated_badge(item.deprecated)]),
        description=item.description,
        facts=facts(about),
        sections=joined(part for part in sections if part),
    )


def _short_place(place: str) -> str:
    """The file and line without the folders above, which are of one machine."""
    return "/".join(place.replace("\\", "/").split("/")[-2:])


# --- features -------------------------------------------------------------------------------------


def feature_pages(found: Gathered) -> Iterator[tuple[str, Page]]:
    """The pages of the views' features, and of those at request time."""
    for name, view in found.repo.compiled_views.items():
        versions = found.versions("view", name)
        for feature in view.features:
            full = f"{name}:{feature.name}"
            yield found.pages.of("feature", full), _of_view(found, view, feature, versions)
    for name, service in found.repo.compiled_services.items():
        for output in service.outputs:
            if output.view < 0:
                full = f"{name}:{output.name}"
                yield found.pages.of(ANSWER, full), _at_request(found, service, output)


def _of_view(found: Gathered, view: View, feature: Feature, versions: Sequence[Before]) -> Page:
    full, written = f"{view.name}:{feature.name}", found.repo.views[view.name]
    item, id_ = found.item("feature", full), feature_id(view.name, feature.name)
    shown = {
        "type": code(feature.type),
        "view": _to(found, "view", view.name),
        "keys": several(code(key.name) for key in view.join_keys),
        "source": several(_to(found, "source", n) for n in view.source_names),
    }
    programs = list(found.codes.of_feature(written, view, feature))
    sections = [
        section("Definition", fill("text", text=f"{item.details['definition']}.")),
        values_section(found.looked.get(view.name), feature.name),
        lineage_section(found, id_),
        code_section(programs),
        users_section(found, id_),
        parity_section(found, f"{view.name}__{feature.name}"),
        _changes(versions, feature.name),
    ]
    above = [(ROOT + found.pages.of("view", view.name), view.name)]
    return Page(full, above, thing(item, shown, sections, feature.name))


def _at_request(found: Gathered, service: Service, output: Output) -> Page:
    full = f"{service.name}:{output.name}"
    item, id_ = found.item(ANSWER, full), answer_id(service.name, output.name)
    page = found.pages.of("service", service.name)
    written = next(
        (
            one
            for one in found.repo.services[service.name].features
            if isinstance(one, Transform) and one.name == output.name
        ),
        None,
    )
    shown = {"type": code(output.type), "service": link(ROOT + page, service.name)}
    sections = [
        section("Definition", fill("text", text=f"{item.details['definition']}.")),
        lineage_section(found, id_),
        code_section([found.codes.of_output(service, output.index, written)]),
        users_section(found, id_),
        parity_section(found, output.full_name),
    ]
    return Page(full, [(ROOT + page, service.name)], thing(item, shown, sections, output.name))


def lineage_section(found: Gathered, id_: str) -> Html:
    """What a feature is made of and what is made of it: a picture, and a table of columns."""
    graph = found.graph
    # Not what its services have beside it.
    picture = _picture(found, graph.only(graph.above(id_) | graph.below(id_)), id_)
    rows = [
        (
            _node_link(found, reach.column),
            reach.role,
            " → ".join(graph.nodes[one].name for one in reach.through) or None,
        )
        for reach in found.reaching.get(id_, ())
        if reach.role != "tie"
    ]
    return section("Lineage", picture, table("Columns", ("column", "role", "through"), rows))


def _picture(found: Gathered, part: Lineage, id_: str) -> Html | None:
    if not 1 < len(part.nodes) <= _MOST_DRAWN:
        return None
    drawn = svg(
        part,
        label=f"Lineage of {part.nodes[id_].name}",
        marked=(id_,),
        link=_linked(found),
    )
    return fill("scroll", label="Picture of the lineage", inside=drawn)


def _linked(found: Gathered) -> Callable[[Any], str | None]:
    def to(node: Any) -> str | None:
        page = found.page_of(node)
        return None if page is None else ROOT + page

    return to


def _to(found: Gathered, kind: str, name: str) -> Html:
    """A link to the page of a view, service or source."""
    return link(ROOT + found.pages.of(kind, name), name)


def _node_link(found: Gathered, id_: str) -> Html:
    node = found.graph.nodes[id_]
    page = found.page_of(node)
    return code(node.name) if page is None else link(ROOT + page, node.name)


def code_section(programs: Sequence[Code]) -> Html:
    """The programs of a feature, the one that its author wrote opened."""
    made = []
    for one in programs:
        what = "" if one.role == "value" else " (which events count)"
        made += [
            program(f"{one.name}{what}, {title}", getattr(one, field), opened=field == "written")
            for title, field in _COMPILED
        ]
    return section("Code", *made)


def users_section(found: Gathered, id_: str) -> Html:
    """Which services, features and training sets have a feature, and who needs it by a pin."""
    rows: list[tuple[object, ...]] = [
        (_to(found, "service", name), "service", found.item("service", name).owner or None)
        for name in dict.fromkeys(found.used_in.get(id_, ()))
    ]
    for reader in dict.fromkeys(found.read_by.get(id_, ())):
        item, page = found.feature(reader)
        rows.append((link(ROOT + page, item.name), "feature", item.owner or None))
    print_ = found.graph.nodes[id_].details.get("fingerprint")
    rows += [
        (code(one.path), "training set", f"{one.told['rows']:,} rows of {one.told['service']}")
        for one in found.sets
        if print_ in one.prints.values()
    ]
    rows += [
        (code(pin.by), f"needs {pin.service}@{pin.fingerprint[:12]}", pin.owner or None)
        for pin in found.needed_by.get(id_, ())
    ]
    nobody = None if rows else fill("note", text="No service, feature or training set has it.")
    return section("Who uses it", table("Users", ("name", "kind", "owner or rows"), rows), nobody)


def _changes(versions: Sequence[Before], name: str) -> Html:
    """The versions of the view in which a feature changed."""
    own = [(v, lines) for v in versions if (lines := v.of_feature(name))]
    if versions and not any(v is versions[-1] for v, _ in own):
        own.append((versions[-1], ("in the oldest version that is known",)))
    return section("Versions", versions_list(own))


def versions_list(versions: Sequence[tuple[Before, Sequence[str]]], now: str | None = None) -> Html:
    """Versions with lines that say what is new in each."""
    if not versions:
        return Html()
    current = fill("badge", kind="good", said="as the repo has it")
    made = [
        fill(
            "version",
            short=v.fingerprint[:12],
            iso=v.applied_at,
            when=instant_text(v.applied_at),
            who=v.applied_by,
            badge=current if v.fingerprint == now else Html(),
            changes=fill("changes", text="\n".join(lines)) if lines else Html(),
        )
        for v, lines in versions
    ]
    return fill("versions", versions=joined(made))


# --- views, services, sources, entities -----------------------------------------------------------


def other_pages(found: Gathered) -> Iterator[tuple[str, Page]]:
    """The pages of all that is no feature."""
    kinds = {"view": _view, "service": _service, "source": _source, "entity": _entity}
    for (kind, name), item in found.items.items():
        if kind in kinds:
            content = kinds[kind](found, item)
            yield found.pages.of(kind, name), Page(name, [], content)


def _features_table(found: Gathered, names: Iterable[tuple[str, str]]) -> Html | None:
    """Features with their types, given the name that is shown and the id of each."""
    rows: list[tuple[object, ...]] = []
    for shown, id_ in names:
        item, page = found.feature(id_)
        kind, view, name = id_.split(":")
        looked = None if kind == ANSWER else found.looked.get(view)
        profile = looked.profiles.get(name) if looked else None
        nulls = None if profile is None else share_text(profile.nulls, profile.rows)
        named = joined([link(ROOT + page, shown), deprecated_badge(item.deprecated)])
        rows.append((named, code(item.type), item.details["definition"], nulls))
    heads = ["feature", "type", "definition", "None"]
    if all(row[3] is None for row in rows):
        rows, heads = [row[:3] for row in rows], heads[:3]
    return table("Features", heads, rows)


def _view(found: Gathered, item: Item) -> Html:
    view = found.repo.compiled_views[item.name]
    versions = found.versions("view", view.name)
    shown = {
        "kind": item.type,
        "keys": several(f"{k} {t}" for k, t in item.details["keys"].items()),
        "source": several(_to(found, "source", n) for n in view.source_names),
        "ttl": item.details["ttl"],
        "services": several(_to(found, "service", n) for n in item.details["services"]),
    }
    names = [(f.name, feature_id(view.name, f.name)) for f in view.features]
    sections = [
        section("Features", _features_table(found, names)),
        section("Versions", versions_list([(v, v.reasons) for v in versions], view.fingerprint)),
    ]
    return thing(item, shown, sections, item.name)


def _service(found: Gathered, item: Item) -> Html:
    service = found.repo.compiled_services[item.name]
    versions = found.versions("service", service.name)
    shown = {
        "a row brings": several(
            f"{k} {t}" for k, t in {**item.details["keys"], **item.details["request"]}.items()
        ),
        "views": several(_to(found, "view", n) for n in dict.fromkeys(item.details["views"])),
    }
    names = []
    for output in service.outputs:
        if output.view < 0:
            names.append((output.name, answer_id(service.name, output.name)))
        else:
            view = service.views[output.view]
            names.append((output.name, feature_id(view.name, view.features[output.index].name)))
    sets = [
        (code(s.path), f"{s.told['rows']:,}", s.told["known_at"])
        for s in found.sets
        if s.told["service"] == service.name
    ]
    pins = [
        (code(p.by), p.fingerprint[:12], p.owner or None, p.expires and p.expires.isoformat())
        for p in found.needed_by.get(service_id(service.name), ())
    ]
    part = found.graph.only(found.graph.above(service_id(service.name)))
    sections = [
        section("Features", _features_table(found, names)),
        section("Lineage", _picture(found, part, service_id(service.name))),
        section("Training sets", table("Training sets", ("manifest", "rows", "known at"), sets)),
        section("Needed by", table("Pins", ("who", "version", "owner", "until"), pins)),
        parity_of_service(found, service.name),
        section("Versions", versions_list([(v, v.reasons) for v in versions], service.fingerprint)),
    ]
    return thing(item, shown, sections, item.name)


def _source(found: Gathered, item: Item) -> Html:
    source = found.repo.sources[item.name]
    names = dict.fromkeys([*source.schema, source.timestamp_field])
    arrival = source.created_timestamp_column
    if arrival is not None:
        names[arrival] = None
    rows, anchors = [], []
    for name in names:
        id_ = column_id(source.name, name)
        reached = [one for one in touched(found.graph, id_) if not one.only_ties]
        roles = dict.fromkeys(role for one in reached for role in one.roles if role != "tie")
        node = found.graph.nodes[id_]
        anchors.append(anchor(node.name, source.name))
        some = _some(found, [one.id for one in reached])
        rows.append((code(name), code(node.type), ", ".join(roles) or None, some))
    shown = {
        "format": item.type,
        "path": item.details["path"] and code(item.details["path"]),
        "time": code(source.timestamp_field),
        "time of arrival": arrival and code(arrival),
        "time zone": source.timezone,
        "id": source.event_id and code(source.event_id),
        "rows set aside": item.details["rows_set_aside"],
        "views": several(_to(found, "view", n) for n in item.details["views"]),
    }
    heads = ("column", "type", "roles", "features that it reaches")
    columns = section("Columns", table("Columns", heads, rows, anchors))
    return thing(item, shown, [columns, contract_section(found, source)], item.name)


def _some(found: Gathered, names: Sequence[str], most: int = 12) -> Html | None:
    """Links to some features, given their ids, and how many more there are."""
    links: list[Html | str] = []
    for item, page in map(found.feature, names[:most]):
        links.append(link(ROOT + page, item.name))
    if len(names) > most:
        links.append(f"and {len(names) - most:,} more")
    return several(links)


def _entity(found: Gathered, item: Item) -> Html:
    shown = {"keys": several(f"{k} {t}" for k, t in item.details["keys"].items())}
    rows = []
    for name in item.details["views"]:
        view = found.item("view", name)
        number = len(view.details["features"])
        rows.append((_to(found, "view", name), number, view.description or None))
    views = section("Views", table("Views", ("view", "features", "description"), rows))
    return thing(item, shown, [views], item.name)
