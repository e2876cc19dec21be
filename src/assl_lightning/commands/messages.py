"""Messages of the command line: this package's own on stdout, without Lightning's advice."""

from __future__ import annotations

import logging
import os
import sys
import warnings


def set_up_messages() -> None:
    """Our own messages on stdout; not what Lightning says of itself and advises for other set-ups.

    For the command line alone: logging and warnings are process-wide, so a library must not do this to its users.
    """
    ours = logging.getLogger("assl_lightning")
    speaks_for_all = os.environ.get("LOCAL_RANK", "0") == "0"
    if not ours.handlers:  # without any, Python prints warnings itself
        ours.addHandler(_Printing() if speaks_for_all else logging.NullHandler())
        ours.setLevel(logging.INFO)
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)


class _Printing(logging.Handler):
    """Prints to whatever stdout is by then; who calls the command from Python may put another in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(f"{self.format(record)}\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            self.handleError(record)


_NOISE = (
    ".*does not have many workers.*",  # the loader yields indices; workers would slow it down
    ".*LeafSpec.*",
    ".*all_gather.*deprecated.*",  # what Lightning calls under DDP
)
