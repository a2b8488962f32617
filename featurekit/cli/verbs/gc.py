"""`featurekit gc`: removes the online states and plans that no version in use needs, and what is
kept of files for no source."""

from __future__ import annotations

from argparse import Namespace
from functools import partial

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.show import short
from featurekit.core.screen import Screen


@verb(
    "In use are the versions that are live, next or retained. Pushes, materialisations and "
    "publishing may go on meanwhile.",
    argument(
        "versions",
        nargs="*",
        metavar="NAME:FINGERPRINT",
        help="these only, views or services; one that is in use is refused (default: all unused)",
    ),
    argument("--dry-run", action="store_true", help="show what would go"),
    argument(
        "--retained",
        action="store_true",
        help="let go of retained versions too: rolling back to one then takes a materialisation",
    ),
)
def gc(arguments: Namespace, screen: Screen) -> None:
    """Remove what no version in use needs."""
    with open_store(arguments) as store, screen.progress() as move:
        done = store.gc(
            arguments.versions,
            retained=arguments.retained,
            dry_run=arguments.dry_run,
            progress=partial(move, "keys"),
        )
    screen.document(
        {
            "dry_run": done.dry_run,
            "keys": done.keys,
            "bytes": done.bytes,
            "versions": [
                {
                    "kind": v.kind,
                    "name": v.name,
                    "fingerprint": v.fingerprint,
                    "used_by": list(v.used_by),
                    "keys": v.keys,
                    "bytes": v.bytes,
                    "removed": not v.used_by and not done.dry_run,
                }
                for v in done.versions
            ],
            "files": [{"path": str(file.path), "bytes": file.bytes} for file in done.files],
            "served_rows": done.served_rows,
        }
    )
    gone = "would go" if done.dry_run else "removed"
    screen.table(
        ("kind", "name", "fingerprint", "keys", "bytes", ""),
        [
            (
                v.kind,
                v.name,
                short(v.fingerprint),
                v.keys,
                None if v.used_by else v.bytes,
                f"kept for {', '.join(v.used_by)}" if v.used_by else gone,
            )
            for v in done.versions
        ],
    )
    what = "would be" if done.dry_run else "were"
    screen.line(f"\n{done.keys} keys of {done.bytes} bytes {what} removed.")
    if done.files:
        screen.line(
            f"{len(done.files)} files of {done.file_bytes} bytes in {done.files[0].path.parent} "
            f"{what} removed: no source reads the contents any more that they were kept for."
        )
    if done.served_rows:
        screen.line(
            f"{done.served_rows} rows of forgotten entities, which were logged after these were "
            "forgotten, say FORGOTTEN in the serving log now."
        )
