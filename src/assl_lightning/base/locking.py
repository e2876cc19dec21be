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


@contextmanager
def alone(lock: Path, waiting_for: str) -> Iterator[None]:
    """Let one process of this machine after the other into the block; the file `lock` is made, and removed after it.

    Args:
        waiting_for: what the one before does, for the line that is logged while this process waits.

    Raises:
        OSError: the lock file cannot be written.
    """
    with lock.open("a+") as file:
        try:
            if not lock_descriptor(file.fileno(), blocking=False):
                log.info("waiting for another process: %s", waiting_for)
                lock_descriptor(file.fileno())
        except OSError as error:  # some file systems of clusters have no locks: then all of them do it
            log.debug("%s cannot be locked (%s)", lock, error)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def is_held(run_dir: Path) -> bool:
    """True if a process of this machine holds the lock of a run; False if that cannot be found out."""
    try:
        with (run_dir / LOCK).open("r+") as file:
            return not lock_descriptor(file.fileno(), blocking=False)
    except OSError:  # there is no lock file, it must not be written, or the file system has no locks
        return False
