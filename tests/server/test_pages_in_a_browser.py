"""Pages for people on a server that asks for keys: a browser sends one as a password, for them
alone."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Page, browser
from serving import Served, World, serving

from featurekit.cli import main
from featurekit.online.store.open import open_store
from featurekit.project.api_keys import create_api_key

HTML = {"accept": "text/html,*/*;q=0.8"}
PAGES = ["/docs", "/openapi.json", "/catalog/", "/catalog"]
BEARER = 'Bearer realm="featurekit"'


@pytest.fixture(scope="module")
def served(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("pages") / "site"
    assert main(["--repo", str(world.folder), "catalog", "--no-data", "-o", str(folder)]) == 0
    store = ("--project", "tests", "--redis-url", world.url)
    with serving(*store, "--catalog", str(folder), "--auth", "keys", "--workers", "2") as made:
        yield made


@pytest.fixture
def key(world: World) -> str:
    store = open_store(world.url)
    try:
        return create_api_key(store, "tests", f"k{secrets.token_hex(6)}", ("read:*", "metrics"))[1]
    finally:
        store.close()


def basic(password: str, name: str = "me") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.mark.parametrize("path", PAGES)
def test_a_page_takes_a_key_as_a_password(served: Served, key: str, path: str):
    wanted = 308 if path == "/catalog" else 200
    for name in ("", "me"):
        assert served.ask("GET", path, headers=basic(key, name))[0] == wanted
    assert served.ask("GET", path, headers={"authorization": f"Bearer {key}"})[0] == wanted
    other = key[:-1] + ("1" if key.endswith("0") else "0")
    for wrong in (basic(other), basic(""), {"authorization": "Basic x"}, {}):
        status, headers, data = served.ask("GET", path, headers={**HTML, **wrong})
        assert (status, key.encode() in data) == (401, False)
        # Two headers, of which a browser knows one.
        assert headers["www-authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/metrics", None),
        ("GET", "/v1/services/plain", None),
        ("POST", "/v1/services/plain/features", {"rows": [{"key": 0}]}),
        ("POST", "/docs", {}),
        ("POST", "/catalog/", {}),
    ],
)
def test_nothing_else_does(served: Served, key: str, method: str, path: str, body: Any):
    status, headers, _ = served.ask(method, path, body, {**HTML, **basic(key)})
    assert status in (401, 405)
    if status == 401:
        assert headers["www-authenticate"].startswith(BEARER)


def test_a_browser_s_own_wish_does_not_make_it_forget(served: Served, key: str):
    """Chromium lets go of a password that is refused for a picture beside a page."""
    assert served.ask("GET", "/favicon.ico", headers=basic(key))[0] == 404
    assert served.ask("GET", "/favicon.ico")[0] == 401


def test_a_page_of_another_site_loads_nothing_with_it(served: Served, key: str):
    def status(site: str, mode: str) -> int:
        said = {"sec-fetch-site": site, "sec-fetch-mode": mode}
        return served.ask("GET", "/openapi.json", headers={**basic(key), **said})[0]

    assert status("cross-site", "no-cors") == status("same-site", "cors") == 401
    assert status("cross-site", "navigate") == 200  # a link, which a person has followed
    assert status("same-origin", "cors") == status("none", "navigate") == 200


def open_with_password(page: Page, url: str, password: str) -> list[str]:
    """Open a page as a person does who is asked for a password; whom the browser says that it
    asks for."""
    page.ask("Fetch.enable", handleAuthRequests=True)
    page.events.clear()
    wanted = send(page, "Page.navigate", url=url)
    challenges, there = [], False
    while not there:
        told = json.loads(page.socket.recv(timeout=60))
        there = told.get("id") == wanted
        if told.get("method") == "Fetch.requestPaused":
            send(page, "Fetch.continueRequest", requestId=told["params"]["requestId"])
        if told.get("method") == "Fetch.authRequired":
            challenges.append(told["params"]["authChallenge"]["realm"])
            answer = {"response": "ProvideCredentials", "username": "me", "password": password}
            send(page, "Fetch.continueWithAuth", requestId=told["params"]["requestId"],
                 authChallengeResponse=answer)  # fmt: skip
    page.ask("Fetch.disable")
    page.loaded()
    return challenges


def send(page: Page, method: str, **params: Any) -> int:
    """Send a command, and wait for no answer; its number."""
    number = next(page.numbers)
    page.socket.send(json.dumps({"id": number, "method": method, "params": params}))
    return number


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
def test_a_person_sees_the_pages(served: Served, key: str, tmp_path: Path):
    with browser(tmp_path) as page:
        page.look(1000)
        at = f"http://{served.host}:{served.port}"
        (realm,) = open_with_password(page, f"{at}/docs", key)
        assert "an API key or a token as the password" in realm
        assert page.run("document.title") == "featurekit"
        assert "/v1/services/{name}/features" in page.run("document.body.textContent")
        page.shot(tmp_path / "docs.png")
        # From here on the browser knows the password.
        page.go(f"{at}/catalog")
        page.until("location.pathname === '/catalog/' && document.getElementById('q') !== null")
        assert page.run("getComputedStyle(document.body).fontFamily") != ""
        assert "plain" in page.run("document.body.textContent")
        assert page.complaints() == []
        page.shot(tmp_path / "catalog.png")
