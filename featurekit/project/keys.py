"""Turns settings and environment into the keys that a project signs with, and what it believes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from featurekit.core.secrets import read_secret
from featurekit.core.signing import PrivateKey
from featurekit.define.published import KEYS_VARIABLE, PYTHON_VARIABLE, Signer, Trust
from featurekit.errors import ConfigError
from featurekit.project.config import FeaturekitConfig
from featurekit.project.registry import Registry

KEY_VARIABLE, FILE_VARIABLE = "FEATUREKIT_SIGNING_KEY", "FEATUREKIT_SIGNING_KEY_FILE"


def trust_of(config: FeaturekitConfig, project: str, registry: Registry) -> Trust:
    """What a repo believes of the plans in its store (F0). A version that its own registry has was
    applied from here, so that its functions of Python may run. The environment is asked first."""
    keys = None if os.environ.get(KEYS_VARIABLE) else config.public_keys
    python = None if os.environ.get(PYTHON_VARIABLE) else config.run_python
    return Trust.held(project, keys, python, recorded=registry.has_service)


def private_key(config: FeaturekitConfig, folder: Path) -> PrivateKey | None:
    """The key that signs plans: that of FEATUREKIT_SIGNING_KEY, else that in the file which
    FEATUREKIT_SIGNING_KEY_FILE or the settings name; None without any. ConfigError where it is no
    key, or the file cannot be read, or others may read it."""
    text = os.environ.get(KEY_VARIABLE)
    if text:
        return PrivateKey.read(text, where=KEY_VARIABLE)
    named = os.environ.get(FILE_VARIABLE) or config.signing_key_file
    if not named:
        return None
    path = folder / named
    return PrivateKey.read(read_secret(path, "the signing key"), where=str(path))


def signer_of(
    config: FeaturekitConfig,
    folder: Path,
    project: str,
    registry: Registry,
    now_us: Callable[[], int],
) -> Signer | None:
    """What signs the plans that are published now, by the store's clock, which all who sign share;
    None where there is no private key.

    ConfigError where readers are told to want signatures and there is no key to sign with.
    """
    key = private_key(config, folder)
    if key is None:
        if trust_of(config, project, registry).keys:
            raise ConfigError(
                f"the readers of project {project!r} hold a public key and would refuse an "
                f"unsigned plan; give the private key as {KEY_VARIABLE}, or its file as "
                f"{FILE_VARIABLE} or signing_key_file; nothing was published"
            )
        return None
    return Signer(project, key, registry.next_sequence(now_us()))
