"""The fixtures of this folder."""

from tests.commands.finished_run import made, place

__all__ = ["made", "place"]
