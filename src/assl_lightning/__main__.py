"""`python -m assl_lightning`."""

from __future__ import annotations

import sys

from assl_lightning.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
