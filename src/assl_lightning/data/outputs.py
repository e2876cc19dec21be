"""Directories whose pictures are no data: those that this package writes, and those that other programs leave behind.

A run writes copies of its images, for people to label, and contact sheets. If its directory lies among the images,
these pictures would join the pool at the next call, and copies of test images would be among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from assl_lightning.base.atomic import TEMPORARY
from assl_lightning.base.run_files import (
    AUDIT,
    CONFIG,
    INITIAL,
    LEDGER,
    LOCK,
    POOL,
    QUERIED,
    RECORDS,
    SAMPLES,
    STATE,
    TO_LABEL,
)

_ROUND = re.compile(r"round_[0-9]{2,}")
_AUDIT = re.compile(rf"{AUDIT}_[0-9]{{2,}}")
_OF_A_RUN = (RECORDS, LOCK, LEDGER, SAMPLES, "round_00")  # one of them lies beside config.yaml
_OF_A_ROUND = (POOL, QUERIED, STATE, INITIAL, TO_LABEL)
_SETTING = re.compile(rb"^labels_per_round:", re.MULTILINE)  # in the config.yaml of a run, and in few others

_OF_SYSTEMS = frozenset(
    {
        *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "__MACOSX", "__pycache__"),
        *("$RECYCLE.BIN", "System Volume Information", "lost+found"),
    }
)
"""Names of directories in which network drives, archives and systems keep thumbnails, resource forks and refuse."""

_OF_LOGGERS = {"lightning_logs": ("version_",), "wandb": ("run-", "offline-run-")}
"""A directory of a logger, and how the directories in it begin."""

_NAME_IN_A_RUN = re.compile(
    rf"(^|/)({_ROUND.pattern}/errors\.png|({_ROUND.pattern}|{_AUDIT.pattern})/(queried\.png|to_label/(contact_sheet\.png|images/[0-9]{{4,}}\.(png|jpg|webp))))$"
    r"|(^|/)report/curves?(_[0-9]+)?\.png$"
)


def written_by(directory: Path) -> str:
    """Return the kind of a directory whose pictures are no data, in words; "" for any other directory.

    >>> written_by(Path("photos/@eaDir"))
    'of systems'
    """
    return _written_here(directory) or _left_behind(directory)


def is_output_name(name: str) -> bool:
    """True if a path, by its names alone, is that of a picture that a run or a report writes.

    >>> is_output_name("runs/a/seed_0/round_01/to_label/images/0003.png"), is_output_name("a/images/0003.png")
    (True, False)
    """
    return bool(_NAME_IN_A_RUN.search(name))


def output_above(path: Path) -> Path | None:
    """Return the directory that this package wrote and that is `path` or holds it; None for any other path.

    Of a run's directory, only the rounds, the audits and the report count.
    """
    resolved = path.resolve()
    for directory in (resolved, *resolved.parents):
        kind = _written_here(directory)
        below = resolved.relative_to(directory).parts[:1]
        if kind and (kind != _RUN or not below or _is_ours_below(below[0])):
            return directory
    return None


def _is_ours_below(name: str) -> bool:
    return bool(_ROUND.fullmatch(name) or _AUDIT.fullmatch(name)) or name == "report"


def pictures_of_runs(paths: Iterable[Path]) -> list[Path]:
    """Return those of `paths` that lie in a directory that this package wrote."""
    is_output = cache(lambda directory: output_above(directory) is not None)
    return [path for path in paths if is_output(path.parent)]


_RUN = "of runs"


def _written_here(directory: Path) -> str:
    """Return the kind of a directory that this package writes, by files that no other program writes together."""
    has = {name for name in (CONFIG, RECORDS, "batch.json", "report.html") if (directory / name).is_file()}
    if CONFIG in has and any((directory / name).exists() for name in _OF_A_RUN) and _is_ours(directory / CONFIG):
        return _RUN
    if RECORDS in has and (directory / "round_00").is_dir():
        return _RUN
    if _ROUND.fullmatch(directory.name) and any((directory / name).exists() for name in _OF_A_ROUND):
        return "of rounds"
    if "batch.json" in has and (directory / "to_label.csv").is_file():
        return "of batches to label"
    if "report.html" in has and (directory / "tables.md").is_file():
        return "of reports"
    figures = ("rank_correlation.png", "uncertainty_histogram.png")
    return "of reports" if all((directory / name).is_file() for name in figures) else ""


def _left_behind(directory: Path) -> str:
    if directory.name in _OF_SYSTEMS or directory.name.endswith(TEMPORARY):
        return "of systems"
    begins = _OF_LOGGERS.get(directory.name)
    if begins and any(child.name.startswith(begins) for child in directory.iterdir()):
        return "of loggers"
    return "of Label Studio" if (directory / "label_studio.sqlite3").is_file() else ""


def _is_ours(config: Path) -> bool:
    try:
        return bool(_SETTING.search(config.read_bytes()))
    except OSError:
        return False
