"""`featurekit contract schema`: prints the JSON schema of feature contracts."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import verb
from featurekit.core.screen import Screen


@verb("It is the file schema.json of featurekit.define.feature_contract.")
def schema(arguments: Namespace, screen: Screen) -> None:
    """Print the schema of feature contracts."""
    import json

    from featurekit.define.feature_contract.document import json_schema

    made = json_schema()
    screen.document(made)
    screen.text(json.dumps(made, indent=2))
