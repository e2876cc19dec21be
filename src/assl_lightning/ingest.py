"""`python -m assl_lightning.ingest`."""

from assl_lightning.commands.ingest import main

if __name__ == "__main__":
    raise SystemExit(main())
