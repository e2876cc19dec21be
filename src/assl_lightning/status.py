"""`python -m assl_lightning.status`."""

from assl_lightning.commands.status import main

if __name__ == "__main__":
    raise SystemExit(main())
