"""Feast's monitoring metrics of a repo on featurekit's offline store, by Feast's own DuckDB store.

They are statistics of the files, and no features: that store computes them with the DuckDB that
featurekit reads the files with, and keeps them in Parquet beside the repo.
"""

from __future__ import annotations

from typing import Any


class Monitored:
    """The part of an offline store that Feast's monitoring asks, with Feast's own signatures."""

    @staticmethod
    def compute_monitoring_metrics(config: Any, *given: Any, **named: Any) -> list[dict[str, Any]]:
        """A dict of statistics for each column that is asked for, as Feast describes it."""
        found: list[dict[str, Any]] = _asked("compute_monitoring_metrics", config, given, named)
        return found

    @staticmethod
    def get_monitoring_max_timestamp(config: Any, *given: Any, **named: Any) -> Any:
        """The last instant of a source, in UTC; None where it has no rows."""
        return _asked("get_monitoring_max_timestamp", config, given, named)

    @staticmethod
    def ensure_monitoring_tables(config: Any) -> None:
        """Make the files of the metrics where they are absent."""
        _asked("ensure_monitoring_tables", config, (), {})

    @staticmethod
    def save_monitoring_metrics(config: Any, *given: Any, **named: Any) -> None:
        """Keep metrics; one of the same key is replaced."""
        _asked("save_monitoring_metrics", config, given, named)

    @staticmethod
    def query_monitoring_metrics(config: Any, *given: Any, **named: Any) -> list[dict[str, Any]]:
        """The kept metrics of a project, by date."""
        found: list[dict[str, Any]] = _asked("query_monitoring_metrics", config, given, named)
        return found

    @staticmethod
    def clear_monitoring_baseline(config: Any, *given: Any, **named: Any) -> None:
        """Let no kept metric be the baseline any more."""
        _asked("clear_monitoring_baseline", config, given, named)


def _asked(name: str, config: Any, given: Any, named: Any) -> Any:
    from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig

    its = config.model_copy()
    its._offline_store = DuckDBOfflineStoreConfig()
    return getattr(DuckDBOfflineStore, name)(its, *given, **named)
