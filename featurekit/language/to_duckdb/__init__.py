"""Turns transforms' IR into DuckDB's SQL: `lower` adds a function's columns to a `Lowering`."""

from featurekit.language.to_duckdb.function import lower as lower
from featurekit.language.to_duckdb.function import may_err as may_err
from featurekit.language.to_duckdb.function import python_parts as python_parts
from featurekit.language.to_duckdb.lowering import Lowering as Lowering
from featurekit.language.to_duckdb.lowering import Sql as Sql
from featurekit.language.to_duckdb.lowering import Value as Value
