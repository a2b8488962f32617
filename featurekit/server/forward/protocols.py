"""The protocols that model servers speak, each with how it is asked and read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from featurekit.server.forward import invocations, oip
from featurekit.server.forward.columns import Column
from featurekit.server.forward.replies import Order, Predicted
from featurekit.server.forward.targets import MLFLOW, OIP, Target


@dataclass(frozen=True, slots=True)
class Protocol:
    """A protocol: its `title`; `order` makes what a server is asked, `predicted` reads the answer,
    and `errors` names where one that is an error says why. `lacking_as_float` says that an int or a
    bool that may be None is sent as a float."""

    title: str
    order: Callable[[Target, Sequence[Column], int, str, str], Order]
    predicted: Callable[[Target, bytes, int, str], Predicted]
    errors: tuple[str, ...]
    lacking_as_float: bool


PROTOCOLS = {
    OIP: Protocol("the Open Inference Protocol", oip.order, oip.predicted, oip.ERRORS, True),
    MLFLOW: Protocol(
        "the protocol of MLflow's scoring server",
        invocations.order,
        invocations.predicted,
        invocations.ERRORS,
        False,
    ),
}
