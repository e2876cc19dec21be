"""One process at a time in a run's directory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import lock_descriptor

from assl_lightning.base.run_files import LOCK

log = logging.getLogger(__name__)


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Keep other processes of this machine out of a run; the system frees the lock when the process ends in any way.

    Raises:
        OSError: the lock file cannot be written.
        ValueError: another process holds the lock.
    """
    with (run_dir / LOCK).open("a+") as file:
        try:
            is_free = lock_descriptor(file.fileno(), blocking=False)
        except OSError as error:  # some file systems of clusters have no locks
            log.warning("run_dir %s cannot be locked (%s); see that no other process runs there", run_dir, error)
            is_free = True
        if not is_free:
            raise ValueError(f"run_dir {run_dir} is in use by another process; wait for it, or choose another run_dir")
        yield


def is_held(run_dir: Path) -> bool:
    """True if a process of this machine holds the lock of a run; False if that cannot be found out."""
    try:
        with (run_dir / LOCK).open("r+") as file:
            return not lock_descriptor(file.fileno(), blocking=False)
    except OSError:  # there is no lock file, it must not be written, or the file system has no locks
        return False
