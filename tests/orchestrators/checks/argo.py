"""Reads templates as Hera's models of Argo Workflows, and writes them again: no word is lost."""

import sys

import yaml
from hera.workflows import models

for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        given = yaml.safe_load(file)
    model = getattr(models, given["kind"]).model_validate(given)
    again = model.model_dump(by_alias=True, exclude_none=True, mode="json")
    if again != given:
        sys.exit(f"{path}: Argo's models have\n{again}\nof\n{given}")
