"""`python -m assl_lightning.export`."""

from assl_lightning.commands.export import main

if __name__ == "__main__":
    raise SystemExit(main())
