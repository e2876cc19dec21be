"""The version of this package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("assl-lightning")
except PackageNotFoundError:  # the source tree is used without being installed
    __version__ = "0+unknown"
