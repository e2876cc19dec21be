"""Make the arguments of the loop from a prepared configuration and its data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from assl_lightning.augment.normalise import Normalise
from assl_lightning.base.paths import expanded
from assl_lightning.config.instantiate import (
    instantiate_node,
    make_algorithm,
    make_network,
    make_stop,
    make_strategy,
    make_warm_up,
    round_logger_factory,
    trainer_factory,
)
from assl_lightning.config.prepare import check_pool_size
from assl_lightning.config.refusals import error_at
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.config.trying import check_single_images, try_trainer
from assl_lightning.config.unreadable import exclude_unreadable
from assl_lightning.config.values import show
from assl_lightning.config.written_keys import naming_written_keys
from assl_lightning.data.pool import Pool
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.undecodable import Row, rows_of
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.simclr import SimCLR
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.moving import CONTENTS
from assl_lightning.loop.oracles import Oracle
from assl_lightning.loop.records import CLASSES
from assl_lightning.loop.round_log import MakeLogger
from assl_lightning.loop.settings import RoundSettings
from assl_lightning.method.candidates import Acquisition
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.stopping.rules import StopRule


@dataclass(frozen=True)
class Parts:
    """The arguments of the loop, beside the settings."""

    pool: Pool
    datamodule: PoolDataModule
    make_network: Callable[[], FeatureNetwork]
    make_algorithm: Callable[[FeatureNetwork], Algorithm]
    make_trainer: Callable[..., Trainer]
    acquisition: Acquisition
    oracle: Oracle
    unreadable: tuple[Row, ...]
    make_warm_up: Callable[[FeatureNetwork], SimCLR] | None
    stop: StopRule | None
    make_round_logger: MakeLogger | None


def make_settings(config: Config, source: PoolSource | None = None) -> RoundSettings:
    """Return the loop's settings, with the whole configuration to be written to the run's directory.

    Added to it are digests (`_contents`), and the names of the classes of `source` if the configuration has none.
    """
    found = {} if source is None else _contents(config, source)
    written: dict[str, Any] = {CONTENTS: found} if found else {}
    if source is not None and not config.data.source.get("class_names"):
        written[CLASSES] = list(source.class_names)
    return replace(config.settings, config={**config.as_dict(), **written})


def _contents(config: Config, source: PoolSource) -> dict[str, str]:
    """Return digests by which a run recognises its initial weights, and data without file names, at another path."""
    found = {} if source.paths else {"data": source.digest()}
    weights = config.network.get("weights")
    if isinstance(weights, str):
        digest = hashlib.sha256()
        with expanded(weights).open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        found["network.weights"] = digest.hexdigest()
    return found


@naming_written_keys
def make_parts(config: Config, source: PoolSource) -> Parts:
    """Make the arguments of the loop over the images of `source`, from a complete configuration. Writes nothing."""
    assert config.data.mean is not None
    assert config.data.std is not None
    pool = Pool(len(source.pool_images), config.data.num_classes, source.sample_ids)
    exclude_unreadable(config, source, pool)
    pool.exclude(source.absent)
    if config.known_labels == "given":
        _give_labels(config, source, pool)
    if not RunDirectory(Path(config.run_dir)).has_begun:
        known = len(pool.labelled) + config.settings.initial_labels
        check_single_images(config, try_trainer(config), known, len(pool.unlabelled))
    datamodule = PoolDataModule(
        pool,
        pool_images=source.pool_images,
        test_images=source.test_images,
        test_labels=source.test_labels,
        test_ids=source.test_ids,
        normalise=Normalise(config.data.mean, config.data.std),
        weak=instantiate_node("data.weak", config.data.weak),
        strong=instantiate_node("data.strong", config.data.strong),
        batch_size=config.algorithm.batch_size,
        mu=config.algorithm.mu,
        labelled_view=config.algorithm.labelled_view,
        labelled_stream=config.algorithm.labelled_stream,
        max_passes=config.algorithm.max_passes,
        include_labelled=config.algorithm.include_labelled,
        num_workers=config.data.num_workers,
    )
    return Parts(
        pool=pool,
        datamodule=datamodule,
        make_network=partial(make_network, config),
        make_algorithm=partial(make_algorithm, config),
        make_trainer=trainer_factory(config),
        acquisition=make_strategy(config),
        oracle=make_oracle(config, source),
        unreadable=rows_of(source),
        make_warm_up=None if config.warm_up is None else partial(make_warm_up, config.warm_up),
        stop=make_stop(config),
        make_round_logger=round_logger_factory(config),
    )


def make_oracle(config: Config, source: PoolSource) -> Oracle:
    """Make the oracle that answers for the images of `source`."""
    make = instantiate_node("oracle", config.oracle | {"_partial_": True})
    with error_at("oracle", config.oracle):
        oracle: Oracle = make(source=source)
    return oracle


def _give_labels(config: Config, source: PoolSource, pool: Pool) -> None:
    """Label the images of the pool whose labels the data have; raise if too few are left for the other labels."""
    index = pool.unlabelled[source.hidden_labels[pool.unlabelled] >= 0]
    pool.label(index, source.hidden_labels[index], 0)
    check_pool_size(config, len(pool.unlabelled), f"without {len(index)} that have a label, known_labels=given")
    if not (config.settings.initial_labels or len(index) or RunDirectory(Path(config.run_dir)).has_begun):
        raise ConfigurationError(
            f"{show('initial_labels', 0)}: must be at least 1, since {config.data.name} has no label"
        )
