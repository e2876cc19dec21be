"""`python -m assl_lightning.audit`."""

from assl_lightning.commands.audit import main

if __name__ == "__main__":
    raise SystemExit(main())
