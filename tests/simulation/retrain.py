"""What the trigger on predictions runs in the folder of the shop: it learns the next model, by the
labels that are known by then."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from featurekit import FeatureStore
from tests.simulation.learn import NotBetter, next_model


def main() -> int:
    """1 where no better model was found."""
    place = Path.cwd()
    with FeatureStore(place) as store:
        try:
            print(json.dumps(next_model(store, place)))
        except NotBetter as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
