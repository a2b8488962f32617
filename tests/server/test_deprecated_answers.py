"""What a server says of what is to be given up, and that a client hands it on."""

from __future__ import annotations

import datetime as dt
import time
import warnings
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from serving import Served, fill, serving, write

from featurekit import Deprecated, FeatureStore
from featurekit.client import Client
from featurekit.define import deprecated
from featurekit.define.deprecated import Deprecation
from featurekit.errors import DeprecatedFeature
from featurekit.online.store.server import scratch_redis
from featurekit.online.wire.deprecated import headers, read

DAY = dt.date(2027, 3, 1)
OF_SERVICE = (
    'plain = FeatureService("plain", features=[numbers])',
    'plain = FeatureService("plain", features=[numbers], deprecated=Deprecated('
    'after="2027-03-01", use="every", why="too small"))',
)
OF_FEATURE = (
    'features={"i_last": "i", "f_last": "f"})',
    'features={"i_last": "i", "f_last": "f"}, deprecated={"f_last": Deprecated('
    'after="2027-03-01", use="latest:f")})',
)


def deprecate(folder: Path, *edits: tuple[str, str]) -> None:
    """Write the repo with these edits, and apply it."""
    write(folder, FeatureStore(folder).config.featurekit.redis_url or "")
    file = folder / "definitions.py"
    text = file.read_text().replace("import Entity,", "import Deprecated, Entity,")
    for before, after in edits:
        assert before in text
        text = text.replace(before, after)
    file.write_text(text)
    with FeatureStore(folder) as store:
        store.apply()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path]]:
    folder = tmp_path_factory.mktemp("deprecated")
    with scratch_redis() as url:
        write(folder, url)
        fill(folder)
        deprecate(folder, OF_SERVICE, OF_FEATURE)
        with serving("--project", "tests", "--redis-url", url) as made:
            yield made, folder


def ask(server: Served, path: str, **body: Any) -> dict[str, str]:
    """The headers of an answer."""
    status, found, _ = server.ask("POST", path, body)
    assert status == 200
    return dict(found)


PLAIN = {"rows": [{"key": 0}]}
BOTH = (
    '"plain";kind=service;after="2027-03-01";use="every", '
    '"numbers:f_last";kind=feature;after="2027-03-01";use="latest:f"'
)


def test_a_service_has_the_headers_of_its_end(served: tuple[Served, Path]) -> None:
    server, _ = served
    feast = {"feature_service": "plain", "entities": {"key": [0]}}
    for path, body in (("/v1/services/plain/features", PLAIN), ("/get-online-features", feast)):
        found = ask(server, path, **body)
        assert found["featurekit-deprecated"] == BOTH
        assert found["link"] == '</v1/services/every/features>; rel="successor-version"'
        sunset = parsedate_to_datetime(found["sunset"])
        assert sunset == dt.datetime(2027, 3, 2, tzinfo=dt.UTC)
        assert found["sunset"].endswith(" GMT")
        since = int(found["deprecation"].removeprefix("@"))
        assert 0 <= time.time() - since < 600


def test_features_are_named_where_the_service_stays(served: tuple[Served, Path]) -> None:
    server, _ = served
    listed = ask(server, "/v1/features", features=["numbers"], **PLAIN)
    assert listed["featurekit-deprecated"] == BOTH.partition(", ")[2]
    assert {"sunset", "deprecation", "link"}.isdisjoint(listed)
    other = ask(server, "/v1/features", features=["numbers:i_last", "latest:f"], **PLAIN)
    assert "featurekit-deprecated" not in other


def test_descriptions_have_it(served: tuple[Served, Path]) -> None:
    server, _ = served
    import json

    services = json.loads(server.ask("GET", "/v1/services")[2])
    told = {one["name"]: one["deprecated"] for one in services}
    assert told["every"] is None
    assert {n: told["plain"][n] for n in ("after", "use", "why", "overdue")} == {
        "after": "2027-03-01", "use": "every", "why": "too small", "overdue": False,
    }  # fmt: skip
    plain = json.loads(server.ask("GET", "/v1/services/plain")[2])
    features = {one["name"]: one["deprecated"] for one in plain["features"]}
    assert plain["deprecated"] == told["plain"]
    assert features["i_last"] is None
    assert features["f_last"]["use"] == "latest:f"
    assert plain["views"][0]["deprecated"] is None
    document = json.loads(server.ask("GET", "/openapi.json")[2])
    answer = document["paths"]["/v1/services/{name}/features"]["post"]["responses"]["200"]
    assert {"Deprecation", "Sunset"} <= answer["headers"].keys()


def test_a_client_warns_once(served: tuple[Served, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    server, _ = served
    monkeypatch.setattr(deprecated, "_warned", set())
    with Client(server.url, timeout_s=20) as client, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            client.get_online_features("plain", [{"key": 0}])
    assert [(w.category, str(w.message)) for w in said] == [
        (DeprecatedFeature, "service plain is deprecated: kept until 2027-03-01; use every"),
        (
            DeprecatedFeature,
            "feature numbers:f_last is deprecated: kept until 2027-03-01; use latest:f",
        ),
    ]
    assert {w.filename for w in said} == {__file__}


def test_what_is_applied_meanwhile_is_told_within_seconds(served: tuple[Served, Path]) -> None:
    server, folder = served
    deprecate(folder)
    end = time.monotonic() + 30
    while "sunset" in ask(server, "/v1/services/plain/features", **PLAIN):
        assert time.monotonic() < end
        time.sleep(0.2)
    deprecate(folder, OF_SERVICE, OF_FEATURE)
    while "sunset" not in ask(server, "/v1/services/plain/features", **PLAIN):
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_header_is_read_back() -> None:
    said = [Deprecated("2027-03-01", use="a:b"), Deprecated("2027-04-01")]
    found = [Deprecation("feature", "v:f", said[0]), Deprecation("view", "v_2", said[1])]
    ((name, value),) = headers(found)
    assert name == b"featurekit-deprecated"
    assert read(value.decode()) == found
    assert headers([]) == []
    for other in ("", '"x"', '"x";kind=feature', '"x";kind=view;after="soon"', "x;y", '"'):
        assert read(other) == []
