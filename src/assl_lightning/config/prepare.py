"""Check a configuration with its classes and its data, and fill in the values that come from the data.

This is done before the loop writes its first file, and finds an argument that a class does not take, a data set that is
not as declared, and a network that does not fit the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from assl_lightning.base.run_files import CONFIG
from assl_lightning.config.class_list import explained, plan_classes, source_node
from assl_lightning.config.contradictions import check_budget, explain
from assl_lightning.config.instantiate import (
    check_arguments,
    instantiate_as,
    instantiate_node,
    make_stop,
    make_strategy,
    nodes,
)
from assl_lightning.config.precision import with_precision
from assl_lightning.config.refusals import error_at
from assl_lightning.config.schema import Config, ConfigurationError, left_open
from assl_lightning.config.trying import check_single_images, try_network, try_trainer
from assl_lightning.config.values import show
from assl_lightning.config.written_keys import naming_written_keys
from assl_lightning.data.class_names import list_classes, oddities
from assl_lightning.data.growth import reindex_source
from assl_lightning.data.long_tail import long_tailed
from assl_lightning.data.pixel_statistics import pixel_statistics
from assl_lightning.data.reclassing import with_classes
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.records import read_config
from assl_lightning.loop.requirements import find_contradictions
from assl_lightning.method.candidates import Acquisition


class Prepared(NamedTuple):
    """A configuration that is checked and complete, with its data."""

    config: Config
    source: PoolSource
    later: tuple[str, ...]  # classes that join when the run waits for labels


def prepare(config: Config) -> Prepared:
    """Check the configuration, read its data, and fill in the values that come from the data and from the device.

    Raises:
        ConfigurationError: the configuration does not fit its classes, this machine, its data or its directory.
    """
    if Path(config.run_dir).exists() and not Path(config.run_dir).is_dir():
        raise ConfigurationError(f"{show('run_dir', config.run_dir)}: must be a directory, or not exist; it is a file")
    config = with_precision(config)
    check(config)
    planned, asked = plan_classes(config, read_class_names), config
    config = planned.config
    try:
        source = load_source(config, planned.later)
    except ConfigurationError as error:
        with_advice = explained(error, asked, read_class_names)
        if with_advice is error:
            raise
        raise with_advice from error
    return Prepared(fill_from_data(config, source), source, planned.later)


@naming_written_keys
def check(config: Config) -> None:
    """Build and discard all parts that need no data; raise a `ConfigurationError` if a class refuses arguments."""
    errors = [line for key, node in nodes(config) for line in check_arguments(key, node)]
    if errors:
        raise ConfigurationError(errors)
    for key, node in (
        ("data.weak", config.data.weak),
        ("data.strong", config.data.strong),
    ):
        instantiate_node(key, node)
    strategy = make_strategy(config)
    trainer = try_trainer(config)
    algorithm = try_network(config)
    _check_requirements(config, strategy, algorithm)
    num_samples = config.data.num_samples if config.known_labels == "hidden" else None
    labelled = config.settings.initial_labels if config.known_labels == "hidden" else None
    check_single_images(config, trainer, labelled, num_samples)


def _check_requirements(config: Config, strategy: Acquisition, algorithm: Algorithm) -> None:
    """Raise a line for each contradiction between the strategy, the algorithm and the settings."""
    names = {"acquisition": config.acquisition.name, "algorithm": config.algorithm.name}
    found = find_contradictions(strategy, algorithm, config.settings, config.algorithm.mu, make_stop(config))
    if found:
        raise ConfigurationError(explain(contradiction, **names) for contradiction in found)


def processes_to_start(config: Config) -> int:
    """Return the number of processes that Lightning starts by repeating the command line; 0 if others start them."""
    strategy = try_trainer(config).strategy
    environment = getattr(strategy, "cluster_environment", None)
    if environment is None or environment.creates_processes_externally:
        return 0
    return int(getattr(strategy, "num_processes", 1)) - 1


@naming_written_keys
def read_class_names(config: Config) -> tuple[str, ...]:
    """Return the present classes of the data, in their order."""
    return instantiate_as(PoolSource, "data.source", config.data.source).class_names


@naming_written_keys
def load_source(config: Config, later: Sequence[str] = ()) -> PoolSource:
    """Read the data, compare them with their declaration, and apply data.imbalance_factor.

    In a run that has begun, images keep their indices, and classes have their present names. The data may also have
    classes that join `later`; their labels are not used yet.
    """
    node, classes = source_node(config, later)
    source = instantiate_as(PoolSource, "data.source", node)
    if classes is not None:
        with error_at("data.source", node):
            source = with_classes(source, config.data.source["class_names"], classes.resolve)
    _check_source(config, source)
    source = _make_long_tailed(config, source)
    with error_at("run_dir", {"run_dir": config.run_dir}):
        known = RunDirectory(Path(config.run_dir)).pool_on_disk()
        return source if known is None else reindex_source(source, known)


def fill_from_data(config: Config, source: PoolSource) -> Config:
    """Return the configuration with the values that come from the data, for the keys that are null (`left_open`).

    These are `data.mean` and `data.std`, of the pool when the run begins, and `data.source.class_names` if the source
    takes it. They are written to the run's config.yaml, and stay the same from then on.
    """
    data, open_keys = config.data, left_open(config)
    if "data.mean" in open_keys or "data.std" in open_keys:
        mean, std = _pixel_statistics(config, source)
        data = replace(data, mean=data.mean or mean, std=data.std or std)
    if "data.source.class_names" in open_keys:
        data = replace(data, source={**data.source, "class_names": list(source.class_names)})
    return replace(config, data=data)


def _pixel_statistics(config: Config, source: PoolSource) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the pixel mean and standard deviation of the pool.

    A run that has begun keeps the values in its config.yaml, since its images may have changed.
    """
    directory = Path(config.run_dir)
    with error_at("run_dir", {"run_dir": config.run_dir}):
        before = (read_config(directory).get("data") or {}) if (directory / CONFIG).exists() else {}
    if before.get("mean") and before.get("std"):
        return tuple(before["mean"]), tuple(before["std"])
    looked_at = torch.ones(len(source.pool_images), dtype=torch.bool)
    looked_at[source.unreadable] = False
    with error_at("data", {"mean": config.data.mean, "std": config.data.std}):
        return pixel_statistics(source.pool_images, looked_at.nonzero()[:, 0])


def _check_source(config: Config, source: PoolSource) -> None:
    """Raise unless the loaded data are as declared."""
    data = config.data
    num_samples, channels, *image_size = source.pool_images.shape
    if len(source.class_names) == 1:
        raise ConfigurationError(
            f"{show('data.num_classes', data.num_classes)}: must be at least 2, but {data.name} has once loaded "
            f"one class alone, {source.class_names[0]}; add images of another"
        )
    errors = [
        f"{show(f'data.{name}', declared)}: must be what {data.name} has once loaded, {show(f'data.{name}', loaded)}"
        f"{_and_classes(source) if name == 'num_classes' else ''}"
        for name, declared, loaded in (
            ("num_samples", num_samples if data.num_samples is None else data.num_samples, num_samples),
            ("num_classes", data.num_classes, len(source.class_names)),
            ("channels", data.channels, channels),
            ("image_size", list(data.image_size), image_size),
        )
        if declared != loaded
    ]
    if errors:
        raise ConfigurationError(errors)
    check_pool_size(config, num_samples)


def _and_classes(source: PoolSource) -> str:
    """Return the end of a message: the classes that were found, and remarks on odd names among them."""
    strange = " ".join(f"{sentence}." for sentence in oddities(source.class_names))
    return f": {list_classes(source.class_names)}{'. ' if strange else ''}{strange}"


def _make_long_tailed(config: Config, source: PoolSource) -> PoolSource:
    """Return the source with the class frequencies of data.imbalance_factor; raise if too few images are left."""
    with error_at("data", {"imbalance_factor": config.data.imbalance_factor}):
        source = long_tailed(source, config.data.imbalance_factor, config.data.imbalance_seed)
    why = f"after {show('data.imbalance_factor', config.data.imbalance_factor)}"
    check_pool_size(config, len(source.pool_images), why)
    return source


def check_pool_size(config: Config, num_samples: int, *because: str) -> None:
    """Raise if a pool has too few images for a run to begin; a run that has begun may have lost some."""
    if not RunDirectory(Path(config.run_dir)).has_begun:
        errors = check_budget(config, num_samples, *because)
        if errors:
            raise ConfigurationError(errors)
