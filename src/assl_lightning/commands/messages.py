"""Messages of the command line: those of this package on stdout, without Lightning's advice."""

from __future__ import annotations

import logging
import os
import sys
import warnings


def set_up_messages() -> None:
    """Print the messages of this package on stdout, and hide Lightning's advice.

    Only the command line calls this: logging and warnings are process-wide, so a library must not change them.
    """
    ours = logging.getLogger("assl_lightning")
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"
    if not ours.handlers:  # without a handler, Python prints warnings by itself
        ours.addHandler(_Printing() if is_first else logging.NullHandler())
        ours.setLevel(logging.INFO)
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)


class _Printing(logging.Handler):
    """A handler that prints to the present `sys.stdout`, which callers from Python may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(f"{self.format(record)}\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            self.handleError(record)


_NOISE = (
    ".*does not have many workers.*",  # the loader yields indices; workers would slow it down
    ".*LeafSpec.*",
    ".*all_gather.*deprecated.*",  # called by Lightning under DDP
)
