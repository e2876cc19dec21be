"""`python -m assl_lightning.predict`."""

from assl_lightning.commands.predict import main

if __name__ == "__main__":
    raise SystemExit(main())
