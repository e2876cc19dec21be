"""The versions of the packages that a run begins with, and the commits of its code."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from assl_lightning.base.version import __version__

GIT_COMMIT = "git_commit"
"""Key of this package's commit; for an installation without a commit, the value is a sentence with the version."""

COMMIT_THERE = "git_commit_of_working_directory"
"""Key of the commit of the repository around the working directory, if that is another repository."""

_PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "numpy",
    "scikit-learn",
)


def environment() -> dict[str, str]:
    """Return name → version of Python, the platform, this package and its main dependencies; and the commits."""
    versions = {"assl-lightning": __version__} | {package: version(package) for package in _PACKAGES}
    system = {"python": platform.python_version(), "platform": platform.platform()}
    return {**system, **commits(Path(__file__).resolve().parent, Path.cwd()), **versions}


def commits(package: Path, working_directory: Path) -> dict[str, str]:
    """Return the commit of the code in the directory `package`, and of the repository around `working_directory`.

    The repository around `package` counts only if it tracks the package: a virtual environment may lie in the
    repository of another project. For a package that pip installed from a repository, pip has recorded the commit.
    """
    own = _git(package, "ls-files", "--error-unmatch", "__init__.py") and _git(package, "rev-parse", "HEAD")
    found = {GIT_COMMIT: own or _commit_of_installation() or f"unknown (installed as version {__version__})"}
    there = _git(working_directory, "rev-parse", "HEAD")
    is_another = there and _git(working_directory, "rev-parse", "--show-toplevel") != (
        own and _git(package, "rev-parse", "--show-toplevel")
    )
    return {**found, COMMIT_THERE: there} if is_another else found


def _git(directory: Path, *arguments: str) -> str:
    """Return the output of git in `directory`, or "" if git fails or is not installed."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=others)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _commit_of_installation() -> str:
    """Return the commit that pip recorded when it installed from a repository (PEP 610), or ""."""
    try:
        origin = json.loads(distribution("assl-lightning").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError, OSError):
        return ""
    commit = (origin.get("vcs_info") or {}).get("commit_id") if isinstance(origin, dict) else None
    return commit if isinstance(commit, str) else ""
