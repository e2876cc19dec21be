"""Versions that the loop of rounds needs, where the score callback alone works with older ones."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from assl_lightning.base.extras import install_command

NEEDED = {"lightning": "2.6.6", "hydra-core": "1.3.8"}
"""A package → the lowest version with which the loop is tested: those of the extra `loop` in pyproject.toml.

Lightning reads checkpoints without running their code (`Trainer.fit(weights_only=True)`) from 2.6 on; before 2.6.6
there were two ways around that. Hydra refuses dangerous `_target_`s from 1.3.4 on.
"""


def require_versions(*packages: str) -> None:
    """Raise unless the `packages` are new enough for the loop; one that has no version is not looked at.

    Raises:
        ImportError: with what is needed, what is there, and the command that installs it.
    """
    old = {package: found for package in packages if (found := _found(package)) and _parts(found) < _needed(package)}
    if old:
        raise ImportError(
            f"the loop of rounds needs {' and '.join(f'{package}>={NEEDED[package]}' for package in old)}; installed "
            f"is {' and '.join(f'{package} {found}' for package, found in old.items())}, which is enough for "
            f"ASSLScoreCallback alone; install what the loop needs with {install_command('loop')}"
        )


def _found(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _needed(package: str) -> tuple[int, ...]:
    return _parts(NEEDED[package])


def _parts(text: str) -> tuple[int, ...]:
    """Return the first three numbers of a version.

    >>> _parts("2.6.6"), _parts("2.7.0.dev1")
    ((2, 6, 6), (2, 7, 0))
    """
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])
