"""Opens an engine by its name, as in settings and on the command line."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from featurekit.errors import ConfigError

if TYPE_CHECKING:
    from featurekit.offline.engines.protocol import Engine

LOCAL = "local"
_FORMS = (
    "local, ray, ray://HOST:10001, ray+gcs://HOST:6379, spark, spark://HOST:7077, local[2], yarn, "
    "k8s://… or sc://HOST:15002"
)
_SPARK = ("spark", "yarn")
_SPARK_BEGINS = ("spark://", "local[", "k8s://", "sc://")


def check_engine(given: Any) -> None:
    """ConfigError for what is neither an engine nor the name of one."""
    if isinstance(given, str):
        if not (given == LOCAL or _is_ray(given) or _is_spark(given)):
            raise ConfigError(f"engine: {given!r} is none; write {_FORMS}")
    elif not (given is None or _is_session(given) or _is_engine(given)):
        raise ConfigError(
            f"engine is a name, a Spark session or an object with name, workers and run, found "
            f"{type(given).__name__}; names are {_FORMS}"
        )


def engine_of(given: Any) -> Engine | None:
    """The engine that is given by its name, as a Spark session, or itself; None for this process.

    One of a name is opened once in a process, and closed when that ends. ConfigError for another
    one, EngineError where it cannot be reached, or its library is not installed.
    """
    check_engine(given)
    if given is None or given == LOCAL:
        return None
    if isinstance(given, str):
        return _opened(given, os.getpid())
    if not _is_session(given):
        made: Engine = given
        return made
    from featurekit.offline.engines.spark import SparkEngine

    return SparkEngine(given)


@functools.cache
def _opened(name: str, _process: int) -> Engine:
    if _is_ray(name):
        from featurekit.offline.engines.ray import RayEngine

        return RayEngine.at(name)
    from featurekit.offline.engines.spark import SparkEngine

    return SparkEngine.at(name)


def _is_ray(name: str) -> bool:
    return name == "ray" or name.startswith(("ray://", "ray+gcs://"))


def _is_spark(name: str) -> bool:
    return name in _SPARK or name.startswith(_SPARK_BEGINS)


def _is_engine(given: Any) -> bool:
    from featurekit.offline.engines.protocol import (
        Engine,
    )  # settings are read without what it needs

    return isinstance(given, Engine) and not isinstance(given, type)


def _is_session(given: Any) -> bool:
    """Whether it is a Spark session, for which nothing of Spark is imported."""
    return type(given).__name__ == "SparkSession" and type(given).__module__.startswith("pyspark.")
