"""Turns models of MLflow's registry into a server of the Open Inference Protocol (version 2), which
`featurekit serve --forward` sends features to: `python -m featurekit.plugins.mlflow.server`.

It serves versions of models of scikit-learn that carry a feature contract. It takes the columns of
the contract alone, in its order, and of no other version of the service, where it is told one. It
is a small server for one machine: nobody is asked who they are, and one request is predicted at a
time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.conversions import to_pandas
from featurekit.core.types import from_text
from featurekit.define.feature_contract.contract import Contract
from featurekit.errors import ConfigError, FeaturekitError, RequestRefused
from featurekit.plugins.mlflow.client import mlflow
from featurekit.plugins.mlflow.models import load_contract
from featurekit.server.forward.oip import VERSION
from featurekit.server.listen import bound

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise ConfigError(
        f"featurekit.plugins.mlflow.server: {error}; run `pip install 'featurekit[mlflow,server]'`"
    ) from None

_KINDS = {"bool": "BOOL", "int": "INT64", "float": "FP64", "str": "BYTES"}
_OUTPUTS = {"b": "BOOL", "i": "INT64", "f": "FP64", "U": "BYTES", "O": "BYTES"}
"""The protocol's types, by the kinds of NumPy."""


@dataclass(frozen=True, slots=True)
class Served:
    """A version of a model, with the contract of its columns and the function that predicts."""

    name: str
    version: str
    contract: Contract
    model: Any
    function: str

    @classmethod
    def load(cls, name: str, version: str) -> Served:
        """That version, from the tracking server that is set. ContractRefused where its contract is
        not believed or names a column that the protocol has no type for, DataError where MLflow has
        no such model."""
        uri = f"models:/{name}/{version}"
        contract = load_contract(uri)
        for one in contract.features:
            if _kind(one) not in _KINDS:
                raise ConfigError(
                    f"{uri}: {one.name} is a {one.type}, which the Open Inference Protocol has no "
                    "type for; leave it out of the service"
                )
        info = mlflow.models.get_model_info(uri)
        function = info.flavors["python_function"]["predict_fn"]
        return cls(name, version, contract, mlflow.sklearn.load_model(uri), function)

    def frame(self, inputs: Any) -> Any:
        """The columns of a request with the dtypes that the model was fitted on. RequestRefused,
        which says what is wrong with them."""
        import pyarrow as pa

        if not isinstance(inputs, list) or not all(isinstance(one, dict) for one in inputs):
            raise RequestRefused("`inputs` is no list of tensors")
        names = [one.get("name") for one in inputs]
        if names != self.contract.names:
            raise RequestRefused(
                f"the inputs are {', '.join(map(str, names))}; this model takes "
                f"{', '.join(self.contract.names)}, in this order"
            )
        features = self.contract.features
        columns = [_column(one, tensor) for one, tensor in zip(features, inputs, strict=True)]
        if len({len(column) for column in columns}) > 1:
            raise RequestRefused("the inputs have different numbers of rows")
        types = {one.name: from_text(one.type) for one in features}
        table = pa.table(columns, names=list(types))
        return to_pandas(table, types, [one.name for one in features if one.nulls == "may"])

    def check_version(self, parameters: Any) -> None:
        """RequestRefused where the features are of another version than the model learnt from: its
        columns may have the same names and other values."""
        told = parameters.get(VERSION) if isinstance(parameters, dict) else None
        if told not in (None, self.contract.version):
            raise RequestRefused(
                f"{self.name} version {self.version} learnt from {self.contract.version}, and was "
                f"given features of {told}; forward its own, as in "
                f"service={self.contract.service}@{self.contract.fingerprint[:12]}"
            )

    def predicted(self, inputs: Any) -> dict[str, Any]:
        """The output of a request: a value for each row, or one for each row and class. Of two
        classes it is the probability of the second."""
        frame = self.frame(inputs)
        try:
            found = getattr(self.model, self.function)(frame)
        except (TypeError, ValueError) as error:
            raise RequestRefused(f"the model does not take these features: {error}") from None
        if self.function == "predict_proba" and found.shape[1] == 2:
            found = found[:, 1]
        data = [_plain(value) for value in found.ravel().tolist()]
        kind = _OUTPUTS[found.dtype.kind]
        return {"name": self.function, "shape": [*found.shape], "datatype": kind, "data": data}


def _kind(feature: Any) -> str:
    return from_text(feature.type).name


def _plain(value: Any) -> Any:
    """A value as JSON has it: NaN is null."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _column(feature: Any, tensor: dict[str, Any]) -> Any:
    """A tensor as a column of the feature's type. RequestRefused where it is none."""
    import pyarrow as pa

    values, kind = tensor.get("data"), _kind(feature)
    if not isinstance(values, list):
        raise RequestRefused(f"input {feature.name!r} has no list `data`")
    if values and all(isinstance(one, list) and len(one) == 1 for one in values):
        values = [one[0] for one in values]
    made = [_value(feature, kind, one) for one in values]
    return pa.chunked_array([pa.array(made, from_text(feature.type).arrow)])


def _value(feature: Any, kind: str, value: Any) -> Any:
    """A value of a tensor as one of the feature. null is None, or NaN where the feature is a float
    that never is None. An int or a bool that may be None comes as a float."""
    if value is None or (kind != "float" and isinstance(value, float) and math.isnan(value)):
        if feature.nulls == "may":
            return None
        if kind == "float":
            return math.nan
    elif kind == "float" and type(value) in (int, float):
        return float(value)
    elif (kind, type(value)) in (("str", str), ("int", int)):
        return value
    elif kind == "int" and type(value) is float and value.is_integer():
        return int(value)
    elif kind == "bool" and (type(value) is bool or value in (0.0, 1.0)):
        return bool(value)
    raise RequestRefused(f"input {feature.name!r}: {value!r} is no {feature.type}")


class Models:
    """The versions that are served, by name and version; without a version, the greatest."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._served = {(one.name, one.version): one for one in served}
        self._newest = {one.name: one for one in sorted(served, key=lambda each: int(each.version))}

    def _found(self, request: Request) -> Served | None:
        name, version = request.path_params["model"], request.path_params.get("version")
        return self._newest.get(name) if version is None else self._served.get((name, version))

    async def infer(self, request: Request) -> Response:
        """The predictions of a request; 400 or 404 with an `error` where there are none."""
        one = self._found(request)
        if one is None:
            return self._unknown()
        try:
            body = json.loads(await request.body())
            if not isinstance(body, dict):
                raise RequestRefused("the body is no object")
            one.check_version(body.get("parameters"))
            output = one.predicted(body.get("inputs"))
        except (RequestRefused, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        answer = {"id": body.get("id"), **self._named(one), "outputs": [output]}
        return Response(json.dumps(answer, allow_nan=False), media_type="application/json")

    async def about(self, request: Request) -> Response:
        """What a model takes and gives."""
        one = self._found(request)
        if one is None:
            return self._unknown()
        inputs = [
            {"name": each.name, "datatype": _KINDS[_kind(each)], "shape": [-1, 1]}
            for each in one.contract.features
        ]
        told = {"name": one.name, "versions": [one.version], "platform": "mlflow_sklearn"}
        return JSONResponse({**told, "inputs": inputs})

    async def ready(self, request: Request) -> Response:
        """That the models are loaded, which they are before the port is open."""
        return JSONResponse({"ready": True})

    def _named(self, one: Served) -> dict[str, str]:
        return {"model_name": one.name, "model_version": one.version}

    def _unknown(self) -> Response:
        served = ", ".join(f"{name} version {number}" for name, number in self._served)
        return JSONResponse({"error": f"there is no such model; there is {served}"}, 404)

    def app(self) -> Starlette:
        """The routes of the protocol."""
        routes = [Route("/v2/health/live", self.ready), Route("/v2/health/ready", self.ready)]
        for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [
                Route(path, self.about),
                Route(f"{path}/ready", self.about),
                Route(f"{path}/infer", self.infer, methods=["POST"]),
            ]
        return Starlette(routes=routes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m featurekit.plugins.mlflow.server",
        description="Serve models of MLflow's registry by the Open Inference Protocol, version 2.",
    )
    parser.add_argument("--tracking-uri", required=True, metavar="URI")
    parser.add_argument("--model", action="append", required=True, metavar="NAME/VERSION")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="(default: a free one)")
    return parser.parse_args()


def main() -> None:
    """Load the models, print the address as a line of JSON, and serve until SIGTERM."""
    arguments = _arguments()
    mlflow.set_tracking_uri(arguments.tracking_uri)
    mlflow.set_registry_uri(arguments.tracking_uri)
    served = []
    for text in arguments.model:
        name, _, version = text.rpartition("/")
        if not name or not version.isdecimal():
            raise SystemExit(f"--model {text}: write NAME/VERSION, as in churn/3")
        served.append(Served.load(name, version))
    listening = bound(arguments.host, arguments.port)
    address = f"http://{arguments.host}:{listening.getsockname()[1]}"
    print(json.dumps({"url": address}), flush=True)
    config = uvicorn.Config(Models(served).app(), log_level="warning", access_log=False)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


if __name__ == "__main__":
    try:
        main()
    except FeaturekitError as problem:
        raise SystemExit(f"featurekit.plugins.mlflow.server: error: {problem}") from None
