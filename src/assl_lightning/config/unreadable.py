"""Leave out images of the pool that cannot be decoded, or refuse them; list them in the run's directory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from assl_lightning.base.processes import is_first_rank
from assl_lightning.base.run_files import POOL, UNREADABLE
from assl_lightning.base.words import first_few
from assl_lightning.config.prepare import check_pool_size
from assl_lightning.config.refusals import error_at
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.data.decoding import count_links
from assl_lightning.data.pool import Pool, unused
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.undecodable import refuse_unreadable, rows_behind
from assl_lightning.loop.directory import RunDirectory

log = logging.getLogger(__name__)


def exclude_unreadable(config: Config, source: PoolSource, pool: Pool) -> None:
    """Take images that cannot be decoded out of the pool, as `data.unreadable` says, and name the first of them."""
    if not len(source.unreadable):
        return
    if config.data.unreadable == "fail":
        with error_at("data.unreadable", {"data.unreadable": "fail"}):
            refuse_unreadable(source)
    count = len(source.unreadable)
    with error_at("run_dir", {"run_dir": config.run_dir}):
        check_readable(RunDirectory(Path(config.run_dir)), source)
    check_pool_size(config, pool.num_samples - count, f"without {count} that cannot be decoded")
    pool.exclude(source.unreadable)
    log.warning(
        "%s of the pool's %s images cannot be decoded and %s left out of the run, which keeps their indices: %s; %s "
        "has all%s",
        *(
            count,
            f"{pool.num_samples:,}",
            "is" if count == 1 else "are",
            first_few([source.sample_ids[index] for index in source.unreadable.tolist()]),
        ),
        *(Path(config.run_dir) / UNREADABLE, count_links(source.reasons)),
    )


@contextmanager
def listing_unreadable(config: Config) -> Iterator[None]:
    """Write a list of all undecodable images, if they end the block and are too many for its message."""
    try:
        yield
    except ConfigurationError as error:
        rows = rows_behind(error)
        if len(rows) <= 3 or not is_first_rank():
            raise
        try:
            file = RunDirectory(Path(config.run_dir)).note_unreadable(rows)
        except (OSError, ValueError):  # an unusable directory, which is reported once the images can be decoded
            raise error from None
        *before, last = error.lines
        raise ConfigurationError([*before, f"{last}; {file} lists all {len(rows):,}"]) from error


def check_readable(directory: RunDirectory, source: PoolSource) -> None:
    """Raise if the round under way of a run needs an image that cannot be decoded any more.

    While the run waits for labels it needs none, and the next round leaves these images out.

    Raises:
        ValueError: the round needs such an image.
    """
    number = directory.under_way()
    if not directory.has(number, POOL) or directory.read_state(number)[0] == "waiting":
        return
    state = directory.load_tensors(number, POOL)
    since = state.get("labelled_in_round")
    if not isinstance(since, Tensor) or since.shape != source.hidden_labels.shape:
        return  # of another data set, or damaged, which the loop refuses
    with directory.reading(number, POOL):
        lost = source.unreadable[~torch.isin(source.unreadable, unused(state))].tolist()
    if lost:
        raise ValueError(
            f"the run has {len(lost)} images in its pool that cannot be decoded any more, such as "
            f"{source.sample_ids[lost[0]]}; fetch them again to go on with it, or choose another run_dir"
        )
