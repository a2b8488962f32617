"""`featurekit contract verify`: says whether a feature contract is to be believed."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from featurekit.cli.arguments import argument, verb
from featurekit.cli.contracts import CONTRACT, held_keys, read_contract
from featurekit.cli.show import short
from featurekit.core.screen import Screen


@verb(
    "A contract that was changed, contradicts itself, or is not signed by a key that is held here "
    "is an error with exit code 3.",
    CONTRACT,
    argument(
        "--training",
        type=Path,
        metavar="TRAIN.parquet",
        help="and whether its content hash and its profile are those of this training set",
    ),
)
def verify(arguments: Namespace, screen: Screen) -> None:
    """Verify a feature contract."""
    found = read_contract(arguments, arguments.contract)
    if arguments.training is not None:
        from featurekit.offline.trained_on import check_training

        check_training(found, arguments.training)
    training = None if arguments.training is None else str(arguments.training)
    screen.document(
        {
            "contract": str(arguments.contract),
            "service": found.service,
            "fingerprint": found.fingerprint,
            "sha256": found.sha256,
            "signed_by": found.signed_by,
            "training": training,
        }
    )
    screen.line(f"{arguments.contract} is unchanged: SHA-256 {found.sha256}")
    screen.line(f"It is of {found.service}@{short(found.fingerprint)}.")
    by = found.signed_by
    if by is None:
        screen.line("It is not signed.")
    else:
        known = "" if held_keys(arguments) else ", says itself: no public key is held here"
        screen.line(f"It is signed by {by}{known}.")
    if training is not None:
        screen.line(f"Its rows and its profile are those of {training}.")
