"""Images of a data set that cannot be decoded: an error that holds all of them, and a table of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from assl_lightning.base.atomic import write_text
from assl_lightning.data.decoding import Faults, describe_faults, name_faults
from assl_lightning.data.sources.base import PoolSource

Row = tuple[str, str, str]
"""An image that cannot be decoded: "pool" or "test", its sample id, and the reason."""

_HEADER = ("split", "sample_id", "reason")

_EXCLUDE = "data.unreadable=exclude"


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
    *,
    may_exclude: bool,
    test_is_drawn: bool = False,
    remedy: str = "mend them or take them out",
) -> None:
    """Raise where images of the test set cannot be decoded, or of the pool unless these may be excluded and some stay.

    Both parts are told at once, with the `remedy`. Where they may be excluded, a drawn test set has none of them.
    The rows have the ids; a part without ids has empty ones.

    Raises:
        UndecodableImagesError: as said.
    """
    none_left = 0 < len(pool) == len(pool_ids)
    if not test and not none_left and (may_exclude or not pool):
        return
    of_pool, of_test = [*pool.values()], [*test.values()]
    if test and pool:
        message = (
            f"{len(pool) + len(test)} images cannot be decoded, {len(test)} of the test set's and {len(pool)} of the "
            f"pool's: {name_faults([*of_test, *of_pool])}; {remedy}"
        )
    else:
        message = f"{describe_faults(of_pool or of_test, 'pool' if pool else 'test set')}; {remedy}"
    if none_left:
        message += "; no image is left in the pool"
    elif not may_exclude and (test_is_drawn or not test):
        message += f", or leave them out of the run with {_EXCLUDE}"
    elif pool and test:
        message += f" ({_EXCLUDE} leaves out those of the pool alone)"
    rows = [
        (split, ids[place] if ids else "", reason)
        for split, ids, faults in (("pool", pool_ids, pool), ("test", test_ids, test))
        for place, reason in sorted(faults.items())
    ]
    raise UndecodableImagesError(message, rows)


def rows_of(source: PoolSource) -> tuple[Row, ...]:
    """The images of a source's pool that cannot be decoded, by their indices."""
    reasons = source.reasons or ("it cannot be decoded",) * len(source.unreadable)
    return tuple(
        ("pool", source.sample_ids[index], reason)
        for index, reason in zip(source.unreadable.tolist(), reasons, strict=True)
    )


def rows_behind(error: BaseException) -> tuple[Row, ...]:
    """The undecodable images that made `error` be raised; none where it has another cause."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UndecodableImagesError):
        cause = cause.__cause__
    return () if cause is None else cause.rows


def check_place(path: Path) -> None:
    """Refuse a path at which there is another file than such a table.

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
    """Write the table, CSV in UTF-8 with a header, in one piece."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_HEADER)
    writer.writerows(rows)
    write_text(path, text.getvalue())
