"""`featurekit keys show`: shows which keys sign and which are believed; never a private one."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import verb
from featurekit.cli.repo import open_store
from featurekit.core.screen import Screen


@verb("A private key is never shown; its public half is.")
def show(arguments: Namespace, screen: Screen) -> None:
    """Show the keys of a repo."""
    with open_store(arguments) as store:
        trust, key = store.parts.trust, store.parts.private_key()
    held = [one.text for one in trust.keys]
    signing = None if key is None else key.public.text
    screen.document({"signing": signing, "public_keys": held, "run_python": trust.python})
    if signing is None:
        screen.line("No private key: apply publishes plans unsigned.")
    else:
        screen.line(f"apply signs with the private half of {signing}")
    for one in held:
        screen.line(f"Plans must be signed by {one}")
    if not held:
        screen.line("No public key: plans are believed unsigned.")
    if signing is not None and held and signing not in held:
        screen.line("What is signed here is refused by readers with the settings of this repo.")
