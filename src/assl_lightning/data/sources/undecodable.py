"""Images that cannot be decoded: an error that holds all of them, and a table that lists them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assl_lightning.base.atomic import write_text
from assl_lightning.base.csv_text import table_as_csv
from assl_lightning.data.decoding import Faults, describe_faults, name_faults
from assl_lightning.data.sources.base import PoolSource

Row = tuple[str, str, str]
"""An image that cannot be decoded: "pool" or "test", its sample id, and the reason."""

_HEADER = ("split", "sample_id", "reason")

_EXCLUDE = "data.unreadable=exclude"
_REMEDY = "mend them or take them out"


class UndecodableImagesError(ValueError):
    """Some images cannot be decoded; the message names the first of them, `rows` has all."""

    def __init__(self, message: str, rows: Sequence[Row]) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


def refuse_undecodable(
    pool: Faults,
    test: Faults,
    pool_ids: Sequence[str],
    test_ids: Sequence[str],
) -> None:
    """Refuse a test set with images that cannot be decoded, and a pool that has no others; the faults are by index.

    The error is about both parts. A part without ids has empty ones in the error's rows.

    Raises:
        UndecodableImagesError: an image of the test set cannot be decoded, or no image of the pool can be.
    """
    none_left = 0 < len(pool) == len(pool_ids)
    if not test and not none_left:
        return
    of_pool, of_test = [*pool.values()], [*test.values()]
    if test and pool:
        message = (
            f"{len(pool) + len(test)} images cannot be decoded, {len(test)} of the test set's and {len(pool)} of the "
            f"pool's: {name_faults([*of_test, *of_pool])}; {_REMEDY}"
        )
    else:
        message = f"{describe_faults(of_pool or of_test, 'pool' if pool else 'test set')}; {_REMEDY}"
    if none_left:
        message += "; no image is left in the pool"
    elif pool:
        message += f" ({_EXCLUDE} leaves out those of the pool alone)"
    rows = [
        (split, ids[index] if ids else "", reason)
        for split, ids, faults in (("pool", pool_ids, pool), ("test", test_ids, test))
        for index, reason in sorted(faults.items())
    ]
    raise UndecodableImagesError(message, rows)


def refuse_unreadable(source: PoolSource) -> None:
    """Refuse a source with images in its pool that cannot be decoded.

    Raises:
        UndecodableImagesError: with the first of them, and how to leave them out of a run.
    """
    rows = rows_of(source)
    if rows:
        names = source.reasons or [sample_id for _, sample_id, _ in rows]
        raise UndecodableImagesError(
            f"{len(rows)} of the pool's {len(source.pool_images):,} images cannot be decoded: {name_faults(names)}; "
            f"{_REMEDY}, or leave them out of the run with {_EXCLUDE}",
            rows,
        )


def rows_of(source: PoolSource) -> tuple[Row, ...]:
    """Return the images of a source's pool that cannot be decoded, in the order of their indices."""
    reasons = source.reasons or ("it cannot be decoded",) * len(source.unreadable)
    return tuple(
        ("pool", source.sample_ids[index], reason)
        for index, reason in zip(source.unreadable.tolist(), reasons, strict=True)
    )


def rows_behind(error: BaseException) -> tuple[Row, ...]:
    """Return the undecodable images because of which `error` was raised; none where it has another cause."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UndecodableImagesError):
        cause = cause.__cause__
    return () if cause is None else cause.rows


def check_place(path: Path) -> None:
    """Refuse a path where a table cannot be written, or where another file is.

    Raises:
        FileNotFoundError: the directory is missing.
        ValueError: another file is there.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written, since {path.parent} is no directory; make it first")
    if not path.exists():
        return
    wanted = ",".join(_HEADER).encode()
    if not path.is_file() or path.read_bytes()[: len(wanted)] != wanted:
        raise ValueError(f"{path} holds something else than a list of images that cannot be decoded; name another file")


def write_undecodable(path: Path, rows: Sequence[Row]) -> None:
    """Write the table, as CSV in UTF-8 with a header, in one piece."""
    write_text(path, table_as_csv(_HEADER, rows, line_end="\r\n"))
