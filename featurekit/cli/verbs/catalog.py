"""`featurekit catalog`: writes a catalogue of features as static pages."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from featurekit.cli.arguments import argument, positive, seconds, verb
from featurekit.cli.repo import open_store
from featurekit.cli.verbs.lineage import MANIFESTS
from featurekit.core.screen import Screen


@verb(
    "The pages need nothing from elsewhere; `featurekit serve --catalog FOLDER` serves them, and "
    "so does any server of files.",
    argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where to"),
    argument("--no-data", action="store_true", help="do not look at the values of features"),
    argument(
        "--entities",
        type=positive,
        default=5_000,
        metavar="N",
        help="of how many entities of a view values are looked at (default: 5000)",
    ),
    argument(
        "--max-rows",
        type=positive,
        default=20_000_000,
        metavar="N",
        help="look at no source of more rows (default: 20000000)",
    ),
    argument(
        "--max-time",
        type=seconds,
        default=60.0,
        metavar="DURATION",
        help="look at no further view after this time (default: 60s)",
    ),
    MANIFESTS,
    argument(
        "--parity",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="what `featurekit parity --json` has printed",
    ),
)
def catalog(arguments: Namespace, screen: Screen) -> None:
    """Write the catalogue."""
    from featurekit.project.site.gathered import Asked
    from featurekit.project.site.profiles import Bounds
    from featurekit.project.site.write import write_site

    bounds = Bounds(arguments.entities, arguments.max_rows, arguments.max_time)
    asked = Asked(
        None if arguments.no_data else bounds, tuple(arguments.manifests), tuple(arguments.parity)
    )
    with open_store(arguments) as store, screen.progress() as move:
        made = write_site(store.parts, arguments.output, asked, move)
    screen.document(
        {
            "folder": str(made.folder),
            "things": made.things,
            "bytes": made.bytes,
            "notes": list(made.notes),
        }
    )
    number = sum(made.things.values())
    screen.line(f"Wrote {number:,} pages to {made.folder} ({made.bytes / 1e6:.1f} MB).")
    for note in made.notes:
        screen.line(f"Note: {note}.")
