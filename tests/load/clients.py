"""Processes that ask and push, and keep what they were told."""

from __future__ import annotations

import datetime as dt
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.load import world


@dataclass(slots=True)
class Answer:
    """Rows that were asked for, between which instants, and what came back."""

    begin: float
    end: float
    keys: list[int]
    basket: list[float]
    asked: bool
    """Whether the instant was given by the caller."""
    as_of: dt.datetime
    columns: dict[str, list[Any]]
    statuses: dict[str, list[str]]


@dataclass(slots=True)
class Push:
    """Whose events were pushed, and between which instants."""

    begin: float
    end: float
    keys: frozenset[int]


def look_up(url: str, rate: float, end: float, seed: int) -> dict[str, Any]:
    """Ask at a rate, until the end; a slow answer delays those after it, and they count from when
    they were due."""
    from featurekit.client import Client

    rng = random.Random(seed)
    answers: list[Answer] = []
    errors: Counter[str] = Counter()
    due = time.time()
    with Client(url, timeout_s=10.0, retries=5) as client:
        while time.time() < end:
            time.sleep(max(0.0, due - time.time()))
            n = rng.choice((1, 1, 1, 10, 100))
            keys = [rng.randrange(-1, world.ENTITIES) for _ in range(n)]
            basket = [rng.choice((0.1, -0.0, 1e300, rng.random())) for _ in keys]
            as_of = None
            if rng.random() < 0.5:
                as_of = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=rng.uniform(5, 60))
            rows = {"key": keys, "basket": basket}
            try:
                result = client.get_online_features(world.SERVICE, rows, as_of)
                answers.append(
                    Answer(
                        due, time.time(), keys, basket, as_of is not None, result.as_of,
                        dict(result.columns), result.statuses(),
                    )
                )  # fmt: skip
            except Exception as error:
                errors[f"lookup: {type(error).__name__}: {error}"] += 1
            due += rng.expovariate(rate)
    return {"answers": answers, "errors": errors}


def push(url: str, rate: float, end: float, seed: int) -> dict[str, Any]:
    """Push at a rate, until the end."""
    from featurekit.client import Client

    if rate == 0:
        return {"pushes": [], "errors": Counter()}
    rng = random.Random(-1 - seed)
    pushes: list[Push] = []
    errors: Counter[str] = Counter()
    number, due = 0, time.time()
    with Client(url, retries=5) as client:
        while time.time() < end:
            time.sleep(max(0.0, due - time.time()))
            source = rng.choice(("clicks", "orders"))
            rows = []
            for _ in range(rng.choice((1, 5, 50))):
                rows.append(world.pushed(rng, source, number))
                number += 1
            begin = time.time()
            try:
                client.push(source, rows)
            except Exception as error:
                errors[f"push: {type(error).__name__}: {error}"] += 1
            pushes.append(Push(begin, time.time(), frozenset(row["key"] for row in rows)))
            due += rng.expovariate(rate)
    return {"pushes": pushes, "errors": errors}
