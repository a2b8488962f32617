"""Feast's permissions hold for published views: its server asks who may read and push them."""

from __future__ import annotations

import datetime as dt
import json
import threading
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from cryptography.hazmat.primitives.asymmetric import rsa
from feast_servers import post, serving
from published_repos import columns, write_repo

from featurekit import FeatureStore

pytestmark = pytest.mark.filterwarnings("ignore")
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ROWS = {"user_id": [1, 2, 5], "basket": [0.1, 0.2, 0.3]}


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """A provider of identities: its discovery document, and the public key of its tokens."""
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found: Any = {"keys": [{**public, "kid": "one", "use": "sig", "alg": "RS256"}]}
            if self.path == "/discovery":
                found = {
                    "jwks_uri": f"{url}/keys",
                    "token_endpoint": f"{url}/token",
                    "authorization_endpoint": f"{url}/authorize",
                }
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield url
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def served(
    provider: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FeatureStore, str]]:
    """A published repo whose Feast server knows its callers by tokens."""
    folder: Path = tmp_path_factory.mktemp("guarded") / "repo"
    more = f"auth:\n  type: oidc\n  client_id: till\n  auth_discovery_url: {provider}/discovery\n"
    write_repo(folder, redis_url, project="guarded", more=more)
    with FeatureStore(folder) as store:
        _permit(folder)
        store.apply()
        store.materialize()
        with serving(folder, "serve", "--workers", "1", ready="/health") as url:
            yield store, url


def _permit(folder: Path) -> None:
    """Readers may read one view and one service, and pushers may push. The rest is for nobody."""
    from feast import FeatureService, FeatureView
    from feast import FeatureStore as FeastStore
    from feast.permissions.action import AuthzedAction
    from feast.permissions.permission import Permission
    from feast.permissions.policy import RoleBasedPolicy

    def allowed(name: str, types: list[Any], role: str, action: Any, **more: Any) -> Any:
        policy = RoleBasedPolicy(roles=[role])
        return Permission(name=name, types=types, policy=policy, actions=[action], **more)

    read, write = AuthzedAction.READ_ONLINE, AuthzedAction.WRITE_ONLINE
    FeastStore(repo_path=str(folder)).apply([
        allowed("gold", [FeatureView], "reader", read, name_patterns=["windows"]),
        allowed("till", [FeatureService], "reader", read, name_patterns=["checkout"]),
        allowed("pushes", [FeatureView], "pusher", write, name_patterns=["orders_push"]),
    ])  # fmt: skip


def _as(role: str) -> dict[str, str]:
    now = dt.datetime.now(dt.UTC)
    claims = {"preferred_username": role, "roles": [role], "exp": now + dt.timedelta(minutes=5)}
    token = jwt.encode(claims, KEY, algorithm="RS256", headers={"kid": "one"})
    return {"Authorization": f"Bearer {token}"}


def _status(url: str, body: Any, headers: dict[str, str]) -> int:
    try:
        post(url, body, **headers)
    except urllib.error.HTTPError as refused:
        return refused.code
    return 200


def test_a_role_reads_the_services_and_views_that_it_may(served: Any) -> None:
    store, url = served
    asked = {"feature_service": "checkout", "entities": ROWS}
    found = post(f"{url}/get-online-features", asked, **_as("reader"))
    names = found["metadata"]["feature_names"]
    theirs = {n: r["values"] for n, r in zip(names, found["results"], strict=True)}
    ours = store.get_online_features("checkout", ROWS).columns
    assert columns(theirs, list(ours)) == columns(ours, list(ours))
    gold = {"features": ["windows:spend_1d"], "entities": {"user_id": [1]}}
    plain = {"features": ["latest:units"], "entities": {"user_id": [1]}}
    assert _status(f"{url}/get-online-features", gold, _as("reader")) == 200
    assert _status(f"{url}/get-online-features", plain, _as("reader")) == 403
    assert _status(f"{url}/get-online-features", asked, _as("stranger")) == 403
    assert _status(f"{url}/get-online-features", asked, {}) == 401


def test_only_who_may_write_pushes(served: Any) -> None:
    store, url = served
    row = {
        "user_id": [3], "country": ["de"], "number": [1], "amount": [2.5], "units": [7],
        "note": ["pushed"], "at": [dt.datetime.now(dt.UTC).isoformat()],
    }  # fmt: skip
    body = {"push_source_name": "orders_push", "df": row, "to": "online"}
    rows = {"user_id": [3], "basket": [1.0]}
    assert _status(f"{url}/push", body, _as("reader")) == 403
    assert store.get_online_features("checkout", rows).columns["orders_7d"] == [0]
    assert _status(f"{url}/push", body, _as("pusher")) == 200
    assert store.get_online_features("checkout", rows).columns["orders_7d"] == [1]


def test_permissions_stay_when_definitions_are_published_again(served: Any) -> None:
    from feast import FeatureStore as FeastStore

    store, _ = served
    text = (store.path / "shop.py").read_text("utf-8")
    (store.path / "shop.py").write_text(text.replace("At the till.", "Once more."), "utf-8")
    changed = {(p.action, p.name) for p in store.apply().published}
    assert ("change", "checkout") in changed
    permissions = FeastStore(repo_path=str(store.path)).list_permissions()
    assert sorted(p.name for p in permissions) == ["gold", "pushes", "till"]
