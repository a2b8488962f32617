"""Training sets and models in MLflow, each with its feature contract, and what was trained on what.

`training` keeps training sets, `models` keeps models and loads them, `lineage` tells of both, and
`forgetting` of what they keep of forgotten entities.
`registry` names versions in a registry, and `server` serves them. MLflow is imported in this folder
alone, and all of it goes through `client`.
"""

from featurekit.plugins.mlflow.forgetting import StillKept, find_forgotten
from featurekit.plugins.mlflow.lineage import model_lineage
from featurekit.plugins.mlflow.models import (
    KeptModel,
    ServedModel,
    load_contract,
    load_model,
    log_model,
)
from featurekit.plugins.mlflow.training import log_training_set, remake

__all__ = [
    "KeptModel",
    "ServedModel",
    "StillKept",
    "find_forgotten",
    "load_contract",
    "load_model",
    "log_model",
    "log_training_set",
    "model_lineage",
    "remake",
]
