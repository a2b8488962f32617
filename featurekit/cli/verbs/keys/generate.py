"""`featurekit keys generate`: makes a pair of keys."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store, repo_folder
from featurekit.core.files import check_writable, write_whole
from featurekit.core.screen import Screen
from featurekit.core.signing import PrivateKey
from featurekit.errors import ConfigError


@verb(
    "The file gets the private key, for this user's eyes alone; it is never overwritten. The audit "
    "log of the repo that the shell is in, if any, gets the public one.",
    argument(
        "file",
        nargs="?",
        type=Path,
        default=Path("featurekit.key"),
        metavar="FILE",
        help="where the private key goes; keep it out of the repo (default: featurekit.key)",
    ),
)
def generate(arguments: Namespace, screen: Screen) -> None:
    """Make a pair of keys."""
    path: Path = arguments.file
    check_writable(path, "FILE")
    if path.exists():
        raise ConfigError(
            f"{path} is there already; a key is never overwritten, so name a new file"
        )
    key = PrivateKey.make()
    public = key.public.text
    folder = repo_folder(arguments)
    if folder is not None:
        with open_store(arguments) as store:
            store.parts.audit.note("keys", {"action": "generate", "public_key": public})
    write_whole(path, f"{key.text}\n".encode(), durable=True, replace=False, mode=0o600)
    screen.document({"private_key_file": path, "public_key": public})
    screen.line(f"Wrote the private key to {path}; keep it where `featurekit apply` runs:")
    screen.line(f"  FEATUREKIT_SIGNING_KEY_FILE={path.resolve()}")
    screen.line("The public key, for whoever serves or pushes:")
    screen.line(f"  FEATUREKIT_PUBLIC_KEYS={public}")
