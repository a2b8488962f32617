"""A model server of the Open Inference Protocol (version 2), as a program of its own.

It prints its port. `GET /seen` has the bodies that it was sent, and `PUT /mood` changes how it
behaves: see `MOODS`. Its model is a sum in the order of the columns, so that it tells by its bits
what came, and in which order.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import socket
import struct
import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

MOODS = (
    "well", "slow", "garbled", "short", "failing", "busy", "refusing", "other_id", "other_model",
    "cut", "narrow", "named", "dying",
)  # fmt: skip
NAN = float("nan")


def score(row: list[Any], factor: float) -> float:
    """What the model says of a row: None and NaN are alike, as for a model on floats."""
    total = factor
    for i, value in enumerate(row):
        if isinstance(value, str):
            number = float(len(value))
        else:
            number = NAN if value is None else float(value)
        total = total * 0.7310585786300049 + (0.25 if math.isnan(number) else number / (i + 3))
    return total


def rows_of(body: dict[str, Any]) -> list[list[Any]]:
    return [list(row) for row in zip(*(one["data"] for one in body["inputs"]), strict=True)]


class Models:
    """What the server has seen, and its mood."""

    def __init__(self) -> None:
        self.mood, self.wait_s, self.seen = "well", 0.0, list[Any]()

    async def infer(self, request: Request) -> Response:
        data = await request.body()
        body = json.loads(data)
        self.seen.append({
            "path": request.url.path, "headers": dict(request.headers), "body": data.decode(),
        })  # fmt: skip
        factor = float(request.path_params.get("version", 1))
        values = [score(row, factor) for row in rows_of(body)]
        if self.wait_s:
            await asyncio.sleep(self.wait_s)
        if self.mood == "dying":
            os._exit(9)
        return self.reply(request, body, values)

    def reply(self, request: Request, body: dict[str, Any], values: list[float]) -> Response:
        n = len(values)
        output = {"name": "score", "shape": [n], "datatype": "FP64", "data": values}
        found: dict[str, Any] = {
            "id": body.get("id"), "model_name": request.path_params["model"],
            "model_version": request.path_params.get("version", "1"), "outputs": [output],
        }  # fmt: skip
        match self.mood:
            case "garbled":
                return Response(b'{"outputs": [', media_type="application/json")
            case "short":
                output |= {"shape": [n - 1], "data": values[:-1]}
            case "failing":
                return JSONResponse({"error": f"no such column {values}"}, 500)
            case "refusing":
                return JSONResponse({"error": "expected 3 inputs"}, 400)
            case "busy":
                return JSONResponse({"error": "later"}, 503, {"retry-after": "7"})
            case "other_id":
                found["id"] = "another"
            case "other_model":
                found["model_name"] = "another"
            case "cut":
                return Response(b"{}", headers={"content-length": "100"})
            case "narrow":
                narrow = [struct.unpack("<f", struct.pack("<f", v))[0] for v in values]
                output |= {"datatype": "FP32", "data": [float(f"{v:.9g}") for v in narrow]}
            case "named":
                label = {"name": "label", "shape": [n, 1], "datatype": "BYTES",
                         "data": [["yes" if v > 0 else "no"] for v in values]}  # fmt: skip
                pair = {"name": "pair", "shape": [n, 2], "datatype": "FP64",
                        "data": [x for v in values for x in (v, None)]}  # fmt: skip
                found["outputs"] = [output, label, pair]
        return Response(json.dumps(found), media_type="application/json")

    async def mood_of(self, request: Request) -> Response:
        told = await request.json()
        self.mood, self.wait_s = told["mood"], told.get("wait_s", 0.0)
        assert self.mood in MOODS
        return JSONResponse({})

    async def bodies(self, request: Request) -> Response:
        found, self.seen = self.seen, []
        return JSONResponse(found)


def app() -> Starlette:
    models = Models()
    return Starlette(routes=[
        Route("/v2/models/{model}/infer", models.infer, methods=["POST"]),
        Route("/v2/models/{model}/versions/{version}/infer", models.infer, methods=["POST"]),
        Route("/mood", models.mood_of, methods=["PUT"]),
        Route("/seen", models.bodies),
    ])  # fmt: skip


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 0))
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(app(), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])
