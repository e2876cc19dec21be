"""`python -m assl_lightning.classes`."""

from assl_lightning.commands.classes import main

if __name__ == "__main__":
    raise SystemExit(main())
