"""Runs units of work in partitions of Spark (featurekit[spark]), of Spark Connect as well."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from featurekit.errors import EngineError
from featurekit.offline.engines.protocol import Work


class SparkEngine:
    """The executors of a Spark session, which the caller opened and closes."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.name = "spark"
        self.workers = _parallel(session)

    @classmethod
    def at(cls, name: str) -> SparkEngine:
        """A session of its own: at a master, at a server of Spark Connect (sc://…), or as the
        environment says (spark). EngineError where there is none."""
        library = _library()
        # Workers have the Python that runs here, and not the first one of their PATH.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = library.SparkSession.builder.appName("featurekit")
        if name.startswith("sc://"):
            builder = builder.remote(name)
        elif name != "spark":
            builder = builder.master(name)
        try:
            made = cls(builder.getOrCreate())
        except Exception as error:
            raise EngineError(f"engine {name} cannot be reached: {error}") from error
        made.name = name
        return made

    def run(self, work: Work, units: Sequence[bytes]) -> Iterator[bytes]:
        """As the protocol's. A partition has one unit. EngineError where a task failed as often as
        Spark runs it."""
        import pyarrow as pa

        given = list(units)

        def apply(batches: Iterable[Any]) -> Iterator[Any]:
            for batch in batches:
                for (number,) in zip(*batch.to_pydict().values(), strict=True):
                    yield pa.RecordBatch.from_pydict({"made": pa.array([work(given[number])])})

        numbers = self.session.range(0, len(given), 1, len(given))
        try:
            with warnings.catch_warnings():
                # No pandas is in it, of which Spark says that 3 is too new.
                warnings.filterwarnings("ignore", ".*pandas", FutureWarning)
                rows = numbers.mapInArrow(apply, "made binary").collect()
        except Exception as error:
            raise EngineError(f"engine {self.name}: a task failed: {error}") from error
        for row in rows:
            yield bytes(row["made"])


def _parallel(session: Any) -> int:
    """How many tasks run at once, as far as the session says."""
    try:
        return max(int(session.sparkContext.defaultParallelism), 1)
    except Exception:  # Spark Connect has no context
        default = session.conf.get("spark.default.parallelism", None)
        return max(int(default or session.conf.get("spark.sql.shuffle.partitions", "2")), 1)


def _library() -> Any:
    try:
        import pyspark.sql
    except ImportError as error:
        raise EngineError(
            "engine spark needs the package; pip install 'featurekit[spark]'"
        ) from error
    return pyspark.sql
