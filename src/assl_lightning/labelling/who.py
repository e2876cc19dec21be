"""Whose answers are those of a file that does not say."""

from __future__ import annotations

import getpass


def who_is_here() -> str:
    """The name by which somebody is logged in; "" where there is none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""
