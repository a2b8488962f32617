"""Runs units of work as tasks of Ray (featurekit[ray])."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import Any

from featurekit.errors import EngineError
from featurekit.offline.engines.protocol import Work

_WAIT_S = 10
_RETRIES = 5
"""How often Ray runs a task again whose worker was lost."""


class RayEngine:
    """A cluster of Ray: `address` is its own form of one; without one it is the cluster that Ray
    finds, or one of this machine, which ends with the process. A cluster that this process is
    connected to already is taken as it is. EngineError where none can be reached."""

    def __init__(self, address: str | None = None) -> None:
        self.name, self._address = "ray" if address is None else address, address
        self.workers = self._connected()

    def _connected(self) -> int:
        """Connect, unless this process is connected; how many processors the cluster has."""
        ray, address = _library(), self._address
        try:
            if not ray.is_initialized():
                _check_reached(address)
                ray.init(
                    address=address, include_dashboard=False if address is None else None,
                    log_to_driver=False, logging_level="error",
                )  # fmt: skip
            return max(int(ray.cluster_resources().get("CPU", 1)), 1)
        except Exception as error:
            raise EngineError(f"engine {self.name} cannot be reached: {error}") from error

    @classmethod
    def at(cls, name: str) -> RayEngine:
        """The one of a name: ray, ray://HOST:PORT of Ray's client server, or ray+gcs://HOST:PORT."""
        return cls(None if name == "ray" else name.removeprefix("ray+gcs://"))

    def run(self, work: Work, units: Sequence[bytes]) -> Iterator[bytes]:
        """As the protocol's. EngineError where a task failed as often as Ray runs it."""
        ray = _library()
        self._connected()  # somebody may have ended the connection since

        def apply(unit: bytes) -> bytes:  # Ray takes no other callables than functions
            return work(unit)

        task: Any = ray.remote(max_retries=_RETRIES)(apply)
        waiting = [task.remote(unit) for unit in units]
        try:
            while waiting:
                done, waiting = ray.wait(waiting, num_returns=1)
                yield from ray.get(done)
        except ray.exceptions.RayError as error:
            raise EngineError(f"engine {self.name}: a task failed: {error}") from error
        finally:
            for one in waiting:
                ray.cancel(one, force=True)


def _check_reached(address: str | None) -> None:
    """Raises where nothing listens at the address: Ray itself would wait for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_WAIT_S).close()


def _library() -> Any:
    try:
        import ray
    except ImportError as error:
        raise EngineError("engine ray needs the package; pip install 'featurekit[ray]'") from error
    return ray
