"""The state of a run's directory before the run, read without changing it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from assl_lightning.base.command_line import line_of
from assl_lightning.base.run_files import LOCK
from assl_lightning.check.findings import Finding, wrong
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.records import read_config, reason_of_end
from assl_lightning.loop.settings import RoundSettings


@dataclass(frozen=True)
class DirectoryState:
    """The state of a run's directory, in words and numbers."""

    words: str
    complete_rounds: int = 0
    num_bytes: int = 0  # of the files that are there now
    findings: tuple[Finding, ...] = ()
    has_ended: bool = False  # a rule has ended the run, which would do nothing
    is_warm: bool = False  # the warm-up of its network is complete


def read_directory(run_dir: Path, settings: RoundSettings) -> DirectoryState:
    """Find out if a run would begin, go on or be finished in `run_dir`, or why none of these is possible."""
    existing = nearest_existing(run_dir)
    if not existing.is_dir():
        return _refused(f"run_dir {run_dir} cannot be made, since {existing} is a file; choose another run_dir")
    if not os.access(existing, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
        why = f"the file system of {existing} is read-only" if is_read_only else f"{existing} belongs to others"
        return _refused(f"run_dir {run_dir} cannot be written, since {why}; choose another run_dir")
    directory = RunDirectory(run_dir)
    if directory.is_new():
        return DirectoryState("new")
    try:
        directory.open(settings.as_dict())  # only compares: the directory exists
        if (run_dir / LOCK).exists():
            with directory.held():
                pass
        reason = reason_of_end(run_dir, settings.rounds)
        is_same_rule = read_config(run_dir).get("stop") == settings.as_dict().get("stop")
        complete, is_warm = len(directory.records()), directory.read_warm_up() is not None
    except Exception as error:  # a broken config.yaml may raise any error of the YAML parser
        return _refused(f"{line_of(error)}.")
    num_bytes = weigh(run_dir)
    has_ended = reason is not None and is_same_rule
    if complete > settings.rounds or has_ended:
        how = (
            f"ended by its rule after round {complete - 1}: {reason}"
            if has_ended
            else f"finished, all {complete} rounds"
        )
        return DirectoryState(f"{how}; the run would do nothing", complete, num_bytes, has_ended=has_ended)
    begun = f"{complete} of {settings.rounds + 1} rounds are complete" if complete else "in its first round"
    return DirectoryState(f"holds this run, to go on with: {begun}", complete, num_bytes, is_warm=is_warm)


def nearest_existing(path: Path) -> Path:
    """Return `path` if it exists, else the deepest directory above it that does."""
    return next(candidate for candidate in (path.absolute(), *path.absolute().parents) if candidate.exists())


def weigh(directory: Path) -> int:
    """Return the bytes of all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _refused(sentence: str) -> DirectoryState:
    return DirectoryState("cannot be used", findings=(wrong(sentence),))
