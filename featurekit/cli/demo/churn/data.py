"""Turns the example shop's generated order lines into those of a shop whose customers come and go.

The customers of the example shop stay as they are, so that nothing is to be learnt of churn. Here
each of them has a first and a last day, and buys more often in between.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featurekit.cli.demo.sample_data import FILES, write_sample_data

_LINES, _SEED = 200_000, 11
_LEAST_ID, _STEP = 12_347, 14
"""Four customers of the example shop, whose numbers are seven apart, become one."""
_COME_FROM, _COME_TO = np.datetime64("2009-12-01", "us"), np.datetime64("2011-10-01", "us")
_STAYS_DAYS, _DAY_US = 240.0, 86_400_000_000


def write_leaving_data(folder: Path) -> Path:
    """Write order lines of a shop whose customers come and go; the path. The bytes are the same
    each time."""
    path = write_sample_data(folder, lines=_LINES)["order_lines"]
    (folder / FILES[1]).unlink()
    table = pq.read_table(path)
    number = table.schema.get_field_index("customer_id")
    field, united = table.schema.field(number), _united(table["customer_id"])
    table = table.set_column(number, field, united)
    pq.write_table(table.filter(_is_there(united, table["invoice_date"])), path)
    return path


def _united(customers: Any) -> Any:
    """The customer's number on each line, where several have become one."""
    steps = pc.divide(pc.subtract(customers, _LEAST_ID), _STEP)
    return pc.add(pc.multiply(steps, _STEP), _LEAST_ID)


def _is_there(customers: Any, instants: Any) -> Any:
    """For each line whether its customer had come and not left; one guest of four is kept."""
    random = np.random.RandomState(_SEED)
    known = pc.unique(customers).drop_null().sort()
    whole_us = int((_COME_TO - _COME_FROM).astype(np.int64))
    come = (random.random_sample(len(known)) * whole_us).astype(np.int64)
    stays = (random.standard_exponential(len(known)) * _STAYS_DAYS * _DAY_US).astype(np.int64)
    begins = _COME_FROM + come.astype("timedelta64[us]")
    place = pc.index_in(customers, known).combine_chunks()
    after = pc.greater_equal(instants, pc.take(pa.array(begins), place))
    before = pc.less(instants, pc.take(pa.array(begins + stays.astype("timedelta64[us]")), place))
    guests = pa.array(random.random_sample(len(place)) < 0.25)
    return pc.if_else(pc.is_null(place), guests, pc.and_(after, before))
