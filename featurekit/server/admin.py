"""Describes what is served, for people and programs; the only module that loads FastAPI.

What is described is read from the online store with each request, so that a new version or service
is seen at once.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from featurekit.core.version import VERSION
from featurekit.define.plan import Output, Service
from featurekit.errors import FeaturekitError, RequestRefused
from featurekit.online.lookup.service import OnlineService
from featurekit.project.about import About, noted_deprecations, read_about
from featurekit.project.deployment import pointers
from featurekit.server.callers import Caller
from featurekit.server.lookups import Lookups
from featurekit.server.openapi import errors, guard, hot_paths, predict_path, row_of


class Deprecated(BaseModel):
    """That something is to be given up."""

    after: str = Field(description="The last day, UTC, of its use.", examples=["2027-03-01"])
    use: str | None = Field(description="What takes its place.", examples=["orders_v2:spend_7d"])
    why: str
    overdue: bool = Field(description="Whether that day is over.")
    since: str | None = Field(description="When this was first applied.")


class Summary(BaseModel):
    """A service that is live."""

    name: str = Field(examples=["checkout"])
    version: str = Field(description="The fingerprint of the version that is live.")
    features: int = Field(description="How many features it answers.", examples=[12])
    deprecated: Deprecated | None = None


class Column(BaseModel):
    """A column of a request or an answer."""

    name: str = Field(examples=["spend_7d"])
    type: str = Field(description="The type in Python.", examples=["float | None"])


class FeatureColumn(Column):
    """A feature, and where it comes from."""

    full_name: str = Field(examples=["customer_orders__spend_7d"])
    view: str | None = Field(description="None where it is computed from the request.")
    deprecated: Deprecated | None = Field(description="By itself, or with its view.")


class ViewVersion(BaseModel):
    """A view in the version that is served."""

    name: str
    fingerprint: str
    source: str
    owner: str | None = Field(description="None where the repo names none.")
    deprecated: Deprecated | None


class Description(BaseModel):
    """All that callers of a service need to know."""

    name: str
    owner: str | None = Field(
        description="As the repo was last applied; None where it names none.",
        examples=["payments@example.com"],
    )
    description: str | None = Field(description="What it is for, in the words of the repo.")
    deprecated: Deprecated | None
    version: str = Field(description="The fingerprint of the version that is live.")
    versions: dict[str, str] = Field(
        description="The versions that are fed: live, next (waits for its states) and retained "
        "(what a rollback serves)."
    )
    join_keys: list[Column]
    request: list[Column]
    features: list[FeatureColumn]
    views: list[ViewVersion]
    example: dict[str, Any] = Field(description="A body for POST /v1/services/{name}/features.")


class Told(Protocol):
    """An answer for an error."""

    @property
    def body(self) -> bytes: ...
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]: ...


def admin(
    lookups: Lookups,
    failed: Callable[[MutableMapping[str, Any], Exception], Told],
    *,
    asks: bool = False,
    models: Mapping[str, str] | None = None,
) -> FastAPI:
    """The application for people. The scope of a request has the `Caller`, who is told of what it
    may read. `failed` makes the answer for an error in such a scope. `asks` says whether callers
    must say who they are."""
    app = FastAPI(title="featurekit", version=VERSION, openapi_url=None)  # made below, each time

    @app.get("/v1/services", tags=["services"], summary="The services that are live")
    def services(request: Request) -> list[Summary]:
        said = _deprecated(read_about(lookups.store, lookups.project))
        return [
            Summary(
                name=name,
                version=service.fingerprint,
                features=len(service.outputs),
                deprecated=said.get(f"service {name}"),
            )
            for name, service in sorted(_seen(request, lookups).items())
        ]

    @app.get("/v1/services/{name}", tags=["services"], summary="A service's schema and versions")
    def service(name: str, request: Request) -> Description:
        _caller(request).need_sight(name)
        online: OnlineService = lookups.service(name)
        found = online.current().service
        about = read_about(lookups.store, lookups.project)
        return described(found, pointers(lookups.store, lookups.project, name), about)

    def described_to(request: Request) -> dict[str, Any]:
        may = _caller(request).may
        seen = {name: of for name, of in (models or {}).items() if may(f"predict:{name}")}
        return document(app, _seen(request, lookups), asks=asks, models=seen)

    @app.get("/openapi.json", include_in_schema=False)
    def openapi(request: Request) -> JSONResponse:
        return JSONResponse(described_to(request))

    @app.get("/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(page(described_to(request)))

    _answer_errors(app, failed)
    return app


def _answer_errors(
    app: FastAPI, failed: Callable[[MutableMapping[str, Any], Exception], Told]
) -> None:
    """Let errors of an application be answered by `failed`."""

    @app.exception_handler(FeaturekitError)
    @app.exception_handler(Exception)  # a bug, which is raised again once it is answered
    async def broken(request: Request, error: Exception) -> Response:
        return _response(failed(request.scope, error))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        path = request.url.path
        if error.status_code == 405:
            text = f"{path} does not take {request.method}; see /docs"
        else:
            text = f"there is no {path}; see /docs"
        made = RequestRefused(text, status=error.status_code, where="route")
        made.allow = (error.headers or {}).get("Allow", "")
        return _response(failed(request.scope, made))


def _caller(request: Request) -> Caller:
    found = request.scope["featurekit.caller"]
    assert isinstance(found, Caller)
    return found


def _seen(request: Request, lookups: Lookups) -> dict[str, Service]:
    """The live services that the caller is told of."""
    caller = _caller(request)
    return {name: found for name, found in lookups.live().items() if caller.sees(name)}


def _response(told: Told) -> Response:
    headers = {k.decode(): v.decode() for k, v in told.headers}
    return Response(told.body, told.status, headers)


def described(service: Service, versions: dict[str, str], about: About) -> Description:
    """What a service takes and gives, and whose it is."""
    said, deprecated = about.get(f"service {service.name}", {}), _deprecated(about)
    return Description(
        name=service.name,
        owner=said.get("owner"),
        description=said.get("description"),
        deprecated=deprecated.get(f"service {service.name}"),
        version=service.fingerprint,
        versions=versions,
        join_keys=[Column(name=k, type=str(t)) for k, t in service.join_keys.items()],
        request=[Column(name=p.name, type=str(p.type)) for p in service.request],
        features=[
            FeatureColumn(
                name=o.name,
                type=str(o.type),
                full_name=o.full_name,
                view=service.views[o.view].name if o.view >= 0 else None,
                deprecated=_of_output(service, o, deprecated),
            )
            for o in service.outputs
        ],
        views=[
            ViewVersion(
                name=v.name,
                fingerprint=v.fingerprint,
                source=v.source.title,
                owner=about.get(f"view {v.name}", {}).get("owner"),
                deprecated=deprecated.get(f"view {v.name}"),
            )
            for v in service.stored
        ],
        example={"rows": [row_of(service)]},
    )


def _deprecated(about: About) -> dict[str, Deprecated]:
    """What is to be given up, by its kind and name."""
    return {
        f"{one.kind} {one.name}": Deprecated(
            after=one.said.day.isoformat(),
            use=one.said.use,
            why=one.said.why,
            overdue=one.overdue(),
            since=None if one.since is None else one.since.isoformat(),
        )
        for one in noted_deprecations(about)
    }


def _of_output(
    service: Service, output: Output, said: Mapping[str, Deprecated]
) -> Deprecated | None:
    """That a feature of a service is to be given up, by itself or with its view."""
    if output.view < 0:
        return said.get(f"feature {service.name}:{output.name}")
    view = service.views[output.view]
    own = said.get(f"feature {view.name}:{view.features[output.index].name}")
    return own or said.get(f"view {view.name}")


def document(
    app: FastAPI, live: Mapping[str, Service], *, asks: bool, models: Mapping[str, str]
) -> dict[str, Any]:
    """The description of all routes by OpenAPI, with examples of these services, and of the first
    of these models. `asks` says whether callers must say who they are."""
    from fastapi.openapi.utils import get_openapi

    made = get_openapi(
        title=app.title,
        version=app.version,
        description="Features of entities, the same bits as in training sets.",
        routes=app.routes,
    )
    for methods in made["paths"].values():
        for route in methods.values():
            route["responses"] |= {k: v for k, v in errors().items() if k in _ERRORS}
    made["paths"] = {**hot_paths(live), **made["paths"]}
    for model, service in list(models.items())[:1]:
        made["paths"]["/v1/models/{name}/predict"] = {
            "post": predict_path(model, live.get(service))
        }
    if asks:
        guard(made)
    return made


_ERRORS = {"401", "403", "404", "405", "422", "429", "503"}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>featurekit</title><link rel="icon" href="data:,">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; color: #1d2433; background: #fff }}
h2 {{ margin-top: 2.5rem; border-top: 1px solid #d5dae3; padding-top: 1.2rem }}
code, pre {{ font: 14px/1.45 ui-monospace, monospace; background: #f3f5f9; border-radius: 6px }}
code {{ padding: .1em .3em }} pre {{ padding: .8rem 1rem; overflow-x: auto }}
.method {{ color: #3949ab; font-weight: 600 }}
</style>
<h1>featurekit <small>{version}</small></h1>
<p>{about} The same as a document: <a href="openapi.json">openapi.json</a>.</p>
{routes}
</html>
"""


def page(document: dict[str, Any]) -> str:
    """The routes as a page of HTML, which needs nothing from elsewhere."""
    parts = []
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            title = f'<span class="method">{method.upper()}</span> <code>{html.escape(path)}</code>'
            parts.append(f"<h2>{title}</h2>\n<p>{html.escape(_about(route))}</p>")
            for what, example in _examples(route):
                shown = json.dumps(example, indent=2, ensure_ascii=False)
                parts.append(f"<p>{html.escape(what)}</p>\n<pre>{html.escape(shown)}</pre>")
    info = document["info"]
    return _PAGE.format(
        version=html.escape(info["version"]),
        about=html.escape(info["description"]),
        routes="\n".join(parts),
    )


def _about(route: dict[str, Any]) -> str:
    about = route.get("description") or ""
    return f"{route.get('summary', '')}. {about}".strip()


def _examples(route: dict[str, Any]) -> list[tuple[str, Any]]:
    body = route.get("requestBody", {}).get("content", {}).get("application/json", {})
    found = [(f"Body: {k}", v["value"]) for k, v in body.get("examples", {}).items()]
    for status, response in route.get("responses", {}).items():
        content = response.get("content", {}).get("application/json", {})
        if "example" in content:
            found.append((f"Answer {status}", content["example"]))
    return found
