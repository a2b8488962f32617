"""The parts of a training set that `split` made, and what to know of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from featurekit.core.attributes import Named
from featurekit.errors import DataError


class Told(Protocol):
    """What has a manifest, as a training set has."""

    @property
    def manifest(self) -> dict[str, Any]: ...


Part = TypeVar("Part", bound=Told)


class Splits(Named, Generic[Part]):
    """Parts of a training set by name, in their order; `left_out` rows are in none of them.

    `train, valid, test = training.split(…)` takes them apart, and `splits.test` names one.
    """

    def __init__(self, parts: Mapping[str, Part], left_out: int) -> None:
        self.parts, self.left_out = dict(parts), left_out

    def _part(self, name: str) -> Part:
        if name not in self.parts:
            raise DataError(f"split: there is no part {name!r}; there are {', '.join(self.parts)}")
        return self.parts[name]

    @property
    def train(self) -> Part:
        """What a model learns from."""
        return self._part("train")

    @property
    def valid(self) -> Part:
        """What is tried while a model is made. DataError where the split has no such part."""
        return self._part("valid")

    @property
    def test(self) -> Part:
        """What a model is judged by. DataError where the split has no such part."""
        return self._part("test")

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts.values())

    def __len__(self) -> int:
        return len(self.parts)

    def report(self) -> dict[str, dict[str, Any]]:
        """For each part its rows and, for each label, the rows of each status and class, with the
        weights of classes; parts that were not computed yet are computed."""
        return {
            name: {
                "rows": part.manifest["rows"],
                "labels": {
                    label: {k: about[k] for k in ("statuses", "classes") if k in about}
                    for label, about in part.manifest.get("label_columns", {}).items()
                },
            }
            for name, part in self.parts.items()
        }
