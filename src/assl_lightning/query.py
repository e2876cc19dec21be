"""`python -m assl_lightning.query`."""

from assl_lightning.commands.query import main

if __name__ == "__main__":
    raise SystemExit(main())
