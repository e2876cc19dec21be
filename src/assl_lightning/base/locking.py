"""One process at a time in a run's directory."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assl_lightning.base.run_files import LOCK

log = logging.getLogger(__name__)


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Keep other processes of this machine out of a run; the system lets go when the process ends, however.

    Raises:
        ValueError: another process runs there.
    """
    if sys.platform == "win32":  # which has no such lock
        yield
        return
    import fcntl

    with (run_dir / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"run_dir {run_dir} is in use by another process; wait for it, or choose another run_dir"
            ) from None
        except OSError as error:  # some file systems of clusters have no locks
            log.warning("run_dir %s cannot be locked (%s); see that no other process runs there", run_dir, error)
        yield
