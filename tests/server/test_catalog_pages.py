"""The catalogue under /catalog: its files and nothing else, for those who may see every service."""

from __future__ import annotations

import gzip
import http.client
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, browser
from serving import Served, World, serving

from featurekit.cli import main
from featurekit.errors import RequestRefused
from featurekit.online.store.open import open_store
from featurekit.project.api_keys import create_api_key
from featurekit.server.files import Files

SECRET = b"nobody is told this"


@pytest.fixture(scope="module")
def site(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalogue of the repo, beside files that are none of it."""
    folder = tmp_path_factory.mktemp("pages") / "site"
    assert main(["--repo", str(world.folder), "catalog", "--no-data", "-o", str(folder)]) == 0
    (folder.parent / "secret.html").write_bytes(SECRET)
    (folder / "secret.db").write_bytes(SECRET)
    (folder / ".hidden.html").write_bytes(SECRET)
    (folder / "away.html").symlink_to(folder.parent / "secret.html")
    (folder / "round.html").symlink_to(folder / "round.html")
    (folder / "up").symlink_to(folder.parent)
    (folder / "folder.html").mkdir()
    return folder


@pytest.fixture(scope="module")
def pages(world: World, site: Path) -> Iterator[Served]:
    store = ("--project", "tests", "--redis-url", world.url)
    with serving(*store, "--catalog", str(site)) as served:
        yield served


def raw(served: Served, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    """The answer for a path that is sent as it is."""
    connection = http.client.HTTPConnection(served.host, served.port, timeout=20)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def test_pages_are_served_with_a_policy_and_checked_again_each_time(
    pages: Served, site: Path
) -> None:
    for name, kind in (
        ("index.html", "text/html; charset=utf-8"),
        ("site.css", "text/css; charset=utf-8"),
        ("search.js", "text/javascript; charset=utf-8"),
        ("feature/numbers.i_last.html", "text/html; charset=utf-8"),
    ):
        status, headers, body = raw(pages, f"/catalog/{name}")
        assert (status, headers["content-type"]) == (200, kind)
        assert body == (site / name).read_bytes()
        assert headers["cache-control"] == "no-cache"
        assert headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        again = raw(pages, f"/catalog/{name}", if_none_match=headers["etag"])
        assert (again[0], again[2], again[1]["etag"]) == (304, b"", headers["etag"])
    assert raw(pages, "/catalog/")[2] == (site / "index.html").read_bytes()
    status, headers, _ = raw(pages, "/catalog")
    assert (status, headers["location"]) == (308, "catalog/")
    assert raw(pages, "/catalog/", "POST")[0] == 405
    assert raw(pages, "/catalog/", "HEAD")[0] == 200


def test_a_page_is_compressed_for_who_takes_it(pages: Served, site: Path) -> None:
    status, headers, body = raw(pages, "/catalog/search.js", accept_encoding="br, gzip")
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert gzip.decompress(body) == (site / "search.js").read_bytes()
    plain = raw(pages, "/catalog/search.js")[1]
    assert plain["content-encoding"] is None
    assert plain["etag"] != headers["etag"]


def test_a_page_that_is_written_anew_is_sent_anew(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(b"one")
    files = Files(str(tmp_path), private=True)
    _, headers, body = files.answer("/catalog/a.html", {})
    tag = dict(headers)[b"etag"]
    assert (body, dict(headers)[b"cache-control"]) == (b"one", b"private, no-cache")
    (tmp_path / "a.html").write_bytes(b"two!")
    status, headers, body = files.answer("/catalog/a.html", {b"if-none-match": tag})
    assert (status, body) == (200, b"two!")


OUTSIDE = [
    "/catalog/../secret.html", "/catalog/%2e%2e/secret.html", "/catalog/..%2fsecret.html",
    "/catalog/feature/../../secret.html", "/catalog/feature/..%2f..%2fsecret.html",
    "/catalog//etc/passwd", "/catalog/%2fetc/passwd", "/catalog/..%5csecret.html",
    "/catalog/secret.html%00.html", "/catalog/%00.html", "/catalog/.hidden.html",
    "/catalog/secret.db", "/catalog/featurekit-catalog.json", "/catalog/away.html",
    "/catalog/round.html", "/catalog/up/secret.html", "/catalog/folder.html", "/catalog/feature",
    "/catalog/feature/", "/catalog/./index.html", "/catalog/index.html/", "/catalog/" + "a" * 5000 +
    ".html", "/catalog/nothing.html", "/catalogue/index.html", "/catalog/%ff%fe.html",
    "/catalog/%252e%252e/secret.html", "/catalog/..;/secret.html",
]  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path[:40])
def test_nothing_but_the_pages_is_served(pages: Served, path: str) -> None:
    status, _, body = raw(pages, path)
    assert status == 404, (path, body)
    assert SECRET not in body
    assert b"root:" not in body


def test_a_folder_that_is_gone_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match=r"there is no /catalog/index\.html"):
        Files(str(tmp_path / "gone"), private=False).answer("/catalog/index.html", {})


def test_without_the_option_there_are_no_pages(server: Served) -> None:
    assert raw(server, "/catalog/")[0] == 404


def test_the_option_wants_a_catalogue(
    tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["serve", "--project", "tests", "--redis-url", world.url]
    assert main([*store, "--catalog", str(tmp_path)]) == 2
    assert "holds no catalogue; write one with `featurekit catalog" in capsys.readouterr().err


def test_who_may_not_see_every_service_sees_no_page(world: World, site: Path) -> None:
    """The pages tell of all services: the rules are those of the other pages, for all of them."""
    words = ("--project", "tests", "--redis-url", world.url, "--auth", "keys")
    store = open_store(world.url)

    def key(*scopes: str) -> dict[str, str]:
        name = f"k{secrets.token_hex(6)}"
        return {"authorization": f"Bearer {create_api_key(store, 'tests', name, scopes)[1]}"}

    with serving(*words, "--catalog", str(site)) as served:
        for path in ("/catalog", "/catalog/", "/catalog/index.html", "/catalog/nothing.html"):
            assert raw(served, path)[0] == 401
            for scopes in (("read:plain",), ("list:features",), ("push:*",), ("metrics",)):
                assert raw(served, path, **key(*scopes))[0] == 403, (path, scopes)
        for scopes in (("read:*",), ("admin",)):
            status, headers, _ = raw(served, "/catalog/index.html", **key(*scopes))
            assert (status, headers["cache-control"]) == (200, "private, no-cache")
    store.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
def test_the_search_works_under_the_policy(pages: Served, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        page.go(f"http://{pages.host}:{pages.port}/catalog")
        page.until("document.getElementById('q') !== null")
        page.run("document.getElementById('q').focus()")
        page.type("i_last")
        assert page.run("document.querySelector('#found b').textContent") == "numbers:i_last"
        assert page.run("location.hash") == "#q=i_last"
        page.press("Enter")
        page.until("location.pathname === '/catalog/feature/numbers.i_last.html'")
        page.loaded()
        ground = page.run("getComputedStyle(document.querySelector('.facts')).display")
        assert ground == "flex", "the style is taken"
        assert page.complaints() == []
        assert {url.partition("/catalog")[0] for url in page.asked_for()} == {
            f"http://{pages.host}:{pages.port}"
        }


def test_a_worker_loads_no_pages_before_one_is_asked_for() -> None:
    code = (
        "import sys, featurekit.server.app\n"
        "assert 'featurekit.server.files' not in sys.modules\n"
        "assert not [m for m in sys.modules if m.startswith('featurekit.project.site')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
