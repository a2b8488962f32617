"""Servers to compare ours with, each a process: `python -m benchmarks.serving_peers KIND FD JSON`.

`raw` is uvicorn with an application of a few lines: it reads the packed strings of the entities
that the body names, by redis-py, and writes their floats by orjson from NumPy. It knows no service,
types, statuses, instants or errors. `feast` is Feast's own feature server on a repo that was made
before.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import orjson
import redis.asyncio
import uvicorn

_JSON = [(b"content-type", b"application/json")]


def raw(url: str, prefix: str, width: int) -> Callable[..., Awaitable[None]]:
    """An application that answers the packed floats of entities."""
    client = redis.asyncio.Redis.from_url(url)
    one = struct.Struct(f"<{width}d")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            return
        asked = (await receive())["body"]
        keys = orjson.loads(asked)["entities"]["key"] if asked else [0]
        if len(keys) == 1:
            found = await client.get(f"{prefix}{keys[0]}")
            columns: Any = [[value] for value in one.unpack(found)]
        else:
            values = await client.mget([f"{prefix}{key}" for key in keys])
            rows = np.frombuffer(b"".join(values), dtype="<f8").reshape(len(keys), -1)
            columns = np.ascontiguousarray(rows.T)
        body = orjson.dumps({"results": columns}, option=orjson.OPT_SERIALIZE_NUMPY)
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [*_JSON, length]})
        await send({"type": "http.response.body", "body": body})

    return app


def feast(config: dict[str, Any]) -> Any:
    """Feast's own application."""
    from feast import FeatureStore, RepoConfig
    from feast.feature_server import get_app

    return get_app(FeatureStore(config=RepoConfig(**config)))


def main() -> None:
    """Serve on a socket that is given, until the process is ended."""
    kind, descriptor, told = sys.argv[1:]
    app = {"raw": raw, "feast": feast}[kind](**json.loads(told))
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, ws="none", timeout_keep_alive=600
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(descriptor))])


if __name__ == "__main__":
    main()
