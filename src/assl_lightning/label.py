"""`python -m assl_lightning.label`."""

from assl_lightning.commands.label import main

if __name__ == "__main__":
    raise SystemExit(main())
