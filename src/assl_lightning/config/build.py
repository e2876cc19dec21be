"""From a validated configuration to objects, and on to the loop.

What can only be checked with a class or the data at hand is checked here, before the loop writes its first file: an
argument that a class does not take, a data set that is not as declared, a network that does not fit the images.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TypeVar

import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from assl_lightning.augment.normalise import Normalise
from assl_lightning.base.paths import expanded
from assl_lightning.base.processes import check_that_results_return, is_first_rank
from assl_lightning.base.run_files import CONFIG, POOL, UNREADABLE
from assl_lightning.base.words import first_few, nearest, one_line
from assl_lightning.config.class_list import explained, plan_classes, source_node
from assl_lightning.config.refusals import error_at
from assl_lightning.config.schema import Config, ConfigurationError, Node, check_budget, left_open, show
from assl_lightning.config.trying import StepSizes, try_single_images, try_training
from assl_lightning.data.class_names import list_classes, oddities
from assl_lightning.data.decoding import count_links
from assl_lightning.data.growth import reindex_source
from assl_lightning.data.long_tail import long_tailed
from assl_lightning.data.pixel_statistics import pixel_statistics
from assl_lightning.data.pool import Pool, unused
from assl_lightning.data.reclassing import with_classes
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.undecodable import Row, UndecodableImagesError, rows_behind, rows_of
from assl_lightning.learning.accelerators import auto_accelerator
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.moving import CONTENTS
from assl_lightning.loop.oracles import Oracle
from assl_lightning.loop.records import CLASSES, read_config
from assl_lightning.loop.requirements import find_contradictions
from assl_lightning.loop.settings import CheckpointSettings, RoundSettings, ScoreSettings
from assl_lightning.loop.training import check_precision
from assl_lightning.method.candidates import Acquisition
from assl_lightning.networks.adapt import with_features
from assl_lightning.networks.base import FeatureNetwork

log = logging.getLogger(__name__)

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Parts:
    """What the loop is called with, beside the settings."""

    pool: Pool
    datamodule: PoolDataModule
    make_network: Callable[[], FeatureNetwork]
    make_algorithm: Callable[[FeatureNetwork], Algorithm]
    make_trainer: Callable[..., Trainer]
    acquisition: Acquisition
    oracle: Oracle
    unreadable: tuple[Row, ...]


def make_settings(config: Config, source: PoolSource | None = None) -> RoundSettings:
    """The loop's settings; the whole configuration goes along, to be written to the run's directory.

    So do digests of what lies at its paths, where the data of `source` have no files that name them, and the names of
    the classes, where the configuration has none.
    """
    found = {} if source is None else _contents(config, source)
    written: dict[str, Any] = {CONTENTS: found} if found else {}
    if source is not None and not config.data.source.get("class_names"):
        written[CLASSES] = list(source.class_names)
    return RoundSettings(
        seed=config.seed,
        rounds=config.rounds,
        initial_labels=config.initial_labels,
        initial_acquisition=config.initial_acquisition,
        hold_out=config.hold_out,
        labels_per_round=config.labels_per_round,
        steps_per_round=config.steps_per_round,
        steps_per_epoch=config.steps_per_epoch,
        init=config.init,
        continue_from=config.continue_from,
        score=ScoreSettings(**asdict(config.score)),
        unvisited=config.acquisition.unvisited,
        acquisition_weights=config.acquisition.weights,
        acquisition_features=config.acquisition.features,
        weight_ema=config.algorithm.weight_ema,
        non_finite=config.non_finite,
        checkpoint=CheckpointSettings(**asdict(config.checkpoint)),
        change_devices=config.change_devices,
        config={**config.as_dict(), **written},
    )


def _contents(config: Config, source: PoolSource) -> dict[str, str]:
    """Digests by which a run recognises its weights, and data without file names, where they have moved."""
    found = {} if source.paths else {"data": source.digest()}
    weights = config.network.get("weights")
    if isinstance(weights, str):
        digest = hashlib.sha256()
        with expanded(weights).open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        found["network.weights"] = digest.hexdigest()
    return found


def check(config: Config) -> None:
    """Build all that needs no data and throw it away: `ConfigurationError` where a class refuses what it is given."""
    errors = [line for key, node in nodes(config) for line in check_arguments(key, node)]
    if errors:
        raise ConfigurationError(errors)
    for key, node in (
        ("data.weak", config.data.weak),
        ("data.strong", config.data.strong),
    ):
        _instantiate(key, node)
    strategy = _make_strategy(config)
    trainer = _try_trainer(config)
    algorithm = _try_network(config)
    _check_requirements(config, strategy, algorithm)
    num_samples = config.data.num_samples if config.known_labels == "hidden" else None
    labelled = config.initial_labels if config.known_labels == "hidden" else None
    _try_single_images(config, trainer, labelled, num_samples)


def _make_strategy(config: Config) -> Acquisition:
    strategy: Acquisition = _instantiate("acquisition.strategy", config.acquisition.strategy)
    _check_kind(strategy, Acquisition, "acquisition.strategy", config.acquisition.strategy)
    return strategy


_KEYS = {
    **{"acquisition_features": "acquisition.features", "acquisition_weights": "acquisition.weights"},
    **{"unvisited": "acquisition.unvisited", "mu": "algorithm.mu"},
}
"""Settings of `RoundSettings` and the datamodule that have another key here."""


def _check_requirements(config: Config, strategy: Acquisition, algorithm: Algorithm) -> None:
    """Raise a line for each contradiction between the strategy, the algorithm and the settings."""
    names = {"acquisition": config.acquisition.name, "algorithm": config.algorithm.name}
    found = find_contradictions(strategy, algorithm, make_settings(config), config.algorithm.mu)
    if found:
        raise ConfigurationError(
            f"{', '.join(show(_KEYS.get(key, key), names.get(key, value)) for key, value in each.settings.items())}: "
            f"{each.reason}"
            for each in found
        )


def processes_to_start(config: Config) -> int:
    """How many more processes Lightning starts for a run, by repeating the command line; 0 where others start them."""
    strategy = _try_trainer(config).strategy
    environment = getattr(strategy, "cluster_environment", None)
    if environment is None or environment.creates_processes_externally:
        return 0
    return int(getattr(strategy, "num_processes", 1)) - 1


def assemble(config: Config) -> Parts:
    """Check, read the data and build what the loop is called with. Writes nothing but downloads and caches."""
    config, source, _ = prepare(config)
    return put_together(config, source)


def prepare(config: Config) -> tuple[Config, PoolSource, tuple[str, ...]]:
    """The configuration, checked and complete, the data, and the classes that join later."""
    if Path(config.run_dir).exists() and not Path(config.run_dir).is_dir():
        raise ConfigurationError(f"{show('run_dir', config.run_dir)}: must be a directory, or not exist; it is a file")
    check(config)
    planned, asked = plan_classes(config, read_class_names), config
    config = planned.config
    try:
        source = load_source(config, planned.later)
    except ConfigurationError as error:
        told = explained(error, asked, read_class_names)
        if told is error:
            raise
        raise told from error
    return complete(config, source), source, planned.later


def read_class_names(config: Config) -> tuple[str, ...]:
    """The classes that the data have now, in their order."""
    return _instantiate_as(PoolSource, "data.source", config.data.source).class_names


def load_source(config: Config, later: Sequence[str] = ()) -> PoolSource:
    """Read the data, hold them against what was declared, and make them as long-tailed as was asked for.

    Where the run has begun, its images have the indices that they had, and its classes the names that they have now;
    the data may have classes besides that join `later`, of which no label is taken yet.
    """
    node, classes = source_node(config, later)
    source = _instantiate_as(PoolSource, "data.source", node)
    if classes is not None:
        with error_at("data.source", node):
            source = with_classes(source, config.data.source["class_names"], classes.resolve)
    _check_source(config, source)
    source = _make_long_tailed(config, source)
    with error_at("run_dir", {"run_dir": config.run_dir}):
        known = RunDirectory(Path(config.run_dir)).pool_on_disk()
        return source if known is None else reindex_source(source, known)


def complete(config: Config, source: PoolSource) -> Config:
    """The same with what only the data tell, where it was left open: the run's directory holds it fast from then on.

    That is `data.mean` and `data.std`, those of the pool as the run begins, and `data.source.class_names` where the
    source takes such a thing.
    """
    data, open_keys = config.data, left_open(config)
    if "data.mean" in open_keys or "data.std" in open_keys:
        mean, std = _pixel_statistics(config, source)
        data = replace(data, mean=data.mean or mean, std=data.std or std)
    if "data.source.class_names" in open_keys:
        data = replace(data, source={**data.source, "class_names": list(source.class_names)})
    return replace(config, data=data)


def _pixel_statistics(config: Config, source: PoolSource) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the pool as the run begins; one that has begun is taken at its word.

    Images may have come, gone, broken and been mended since.
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


def put_together(config: Config, source: PoolSource) -> Parts:
    """What the loop is called with, over the images of `source`; the configuration is `complete`. Writes nothing."""
    assert config.data.mean is not None
    assert config.data.std is not None
    pool = Pool(len(source.pool_images), config.data.num_classes, source.sample_ids)
    _exclude_unreadable(config, source, pool)
    pool.exclude(source.absent)
    if config.known_labels == "given":
        _give_labels(config, source, pool)
    if not RunDirectory(Path(config.run_dir)).has_begun:
        known = len(pool.labelled) + config.initial_labels
        _try_single_images(config, _try_trainer(config), known, len(pool.unlabelled))
    datamodule = PoolDataModule(
        pool,
        pool_images=source.pool_images,
        test_images=source.test_images,
        test_labels=source.test_labels,
        test_ids=source.test_ids,
        normalise=Normalise(config.data.mean, config.data.std),
        weak=_instantiate("data.weak", config.data.weak),
        strong=_instantiate("data.strong", config.data.strong),
        batch_size=config.algorithm.batch_size,
        mu=config.algorithm.mu,
        labelled_view=config.algorithm.labelled_view,
        labelled_stream=config.algorithm.labelled_stream,
        max_passes=config.algorithm.max_passes,
        include_labelled=config.algorithm.include_labelled,
        num_workers=config.data.num_workers,
    )
    make_oracle = _instantiate("oracle", config.oracle | {"_partial_": True})
    with error_at("oracle", config.oracle):
        oracle: Oracle = make_oracle(source=source)
    return Parts(
        pool=pool,
        datamodule=datamodule,
        make_network=partial(make_network, config),
        make_algorithm=partial(make_algorithm, config),
        make_trainer=_trainer_factory(config),
        acquisition=_make_strategy(config),
        oracle=oracle,
        unreadable=rows_of(source),
    )


def make_network(config: Config) -> FeatureNetwork:
    """The network, with as many outputs as the data has classes."""
    network = _instantiate_as(nn.Module, "network", config.network)
    with error_at("network", config.network):
        return with_features(network, config.data.num_classes)


def make_algorithm(config: Config, network: FeatureNetwork) -> Algorithm:
    """The learning algorithm around a network."""
    make_module = _instantiate("algorithm.module", config.algorithm.module | {"_partial_": True})
    with error_at("algorithm.module", config.algorithm.module):
        algorithm: Algorithm = make_module(network)
        algorithm.configure_optimizers()  # its arguments are looked at only when it is made
        return algorithm


def check_arguments(key: str, node: Mapping[str, Any]) -> list[str]:
    """A line for each class under `key` that cannot be imported, and each argument that a class does not take."""
    errors = []
    if "_target_" in node:
        name = node["_target_"]
        try:
            taken = inspect.signature(resolve_name(name)).parameters
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            return [
                f"{show(f'{key}._target_', name)}: cannot be imported ({one_line(error)}); name package.module.Class"
            ]
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in taken.values()):
            errors += [
                f"{show(f'{key}.{argument}', value)}: {name.rpartition('.')[2]} takes no argument {argument!r}"
                f"{nearest(argument, taken)}; it takes {', '.join(taken)}"
                for argument, value in node.items()
                if argument not in taken and not argument.startswith("_")
            ]
    for argument, value in node.items():
        if isinstance(value, Mapping):
            errors += check_arguments(f"{key}.{argument}", value)
    return errors


# --- parts -----------------------------------------------------------------------------------------------------------


def nodes(config: Config) -> Iterator[tuple[str, Node]]:
    """Every part that names a class, by its key."""
    yield "data.source", config.data.source
    yield "data.weak", config.data.weak
    yield "data.strong", config.data.strong
    yield "network", config.network
    yield "algorithm.module", config.algorithm.module
    yield "acquisition.strategy", config.acquisition.strategy
    yield "trainer", config.trainer
    yield "oracle", config.oracle


def _instantiate(key: str, node: Node) -> Any:
    with error_at(key, node):
        return instantiate(node, _convert_="all")


def _instantiate_as(kind: type[Kind], key: str, node: Node) -> Kind:
    """What the class of a node makes, which must be of a `kind`."""
    made = _instantiate(key, node)
    _check_kind(made, kind, key, node)
    return made  # type: ignore[no-any-return]


def _check_kind(made: object, kind: type, key: str, node: Node) -> None:
    if not isinstance(made, kind):
        raise ConfigurationError(
            f"{show(f'{key}._target_', node['_target_'])}: must make an object of "
            f"{kind.__module__}.{kind.__qualname__}, but made one of {type(made).__name__}; name another class"
        )


def _check_source(config: Config, source: PoolSource) -> None:
    """What was declared must be what was loaded."""
    data = config.data
    num_samples, channels, *image_size = source.pool_images.shape
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
    _check_budget(config, num_samples)


def _and_classes(source: PoolSource) -> str:
    """The end of a message: the names of the classes that were found, and what is odd about some of them."""
    strange = " ".join(f"{sentence}." for sentence in oddities(source.class_names))
    return f": {list_classes(source.class_names)}{'. ' if strange else ''}{strange}"


def _make_long_tailed(config: Config, source: PoolSource) -> PoolSource:
    """The source with the class frequencies that were asked for; what is left must be enough for the labels."""
    with error_at("data", {"imbalance_factor": config.data.imbalance_factor}):
        source = long_tailed(source, config.data.imbalance_factor, config.data.imbalance_seed)
    why = f"after {show('data.imbalance_factor', config.data.imbalance_factor)}"
    _check_budget(config, len(source.pool_images), why)
    return source


def _check_budget(config: Config, num_samples: int, *because: str) -> None:
    """A pool must have enough images for a run to begin; of one that has begun, some may have gone."""
    if not RunDirectory(Path(config.run_dir)).has_begun:
        errors = check_budget(config, num_samples, *because)
        if errors:
            raise ConfigurationError(errors)


def _give_labels(config: Config, source: PoolSource, pool: Pool) -> None:
    """The labels that the data have are known from the first round on; the rest must be enough for the others."""
    index = pool.unlabelled[source.hidden_labels[pool.unlabelled] >= 0]
    pool.label(index, source.hidden_labels[index], 0)
    _check_budget(config, len(pool.unlabelled), f"without {len(index)} that have a label, known_labels=given")
    if not (config.initial_labels or len(index) or RunDirectory(Path(config.run_dir)).has_begun):
        raise ConfigurationError(
            f"{show('initial_labels', 0)}: must be at least 1, since {config.data.name} has no label"
        )


def _exclude_unreadable(config: Config, source: PoolSource, pool: Pool) -> None:
    """Take images that cannot be decoded out of the pool, as `data.unreadable` says, and name the first of them."""
    if not len(source.unreadable):
        return
    count = len(source.unreadable)
    named = first_few([source.sample_ids[index] for index in source.unreadable.tolist()])
    found = f"{count} of the pool's {pool.num_samples:,} images cannot be decoded"
    links = count_links(source.reasons)
    if config.data.unreadable == "fail":
        message = f"{found} ({named}); fetch them again, or leave them out of the run with data.unreadable=exclude"
        raise ConfigurationError(f"{show('data.unreadable', 'fail')}: {message}") from UndecodableImagesError(
            message, rows_of(source)
        )
    with error_at("run_dir", {"run_dir": config.run_dir}):
        check_readable(RunDirectory(Path(config.run_dir)), source)
    _check_budget(config, pool.num_samples - count, f"without {count} that cannot be decoded")
    pool.exclude(source.unreadable)
    file = Path(config.run_dir) / UNREADABLE
    log.warning(
        "%s and are left out of the run, which keeps their indices: %s; %s has all%s", found, named, file, links
    )


@contextmanager
def listing_unreadable(config: Config) -> Iterator[None]:
    """Write the list of all undecodable images where they end the block and the error cannot name all of them."""
    try:
        yield
    except ConfigurationError as error:
        rows = rows_behind(error)
        if len(rows) <= 3 or not is_first_rank():
            raise
        try:
            file = RunDirectory(Path(config.run_dir)).note_unreadable(rows)
        except (OSError, ValueError):  # the directory is no place for it, which is told when the images are mended
            raise error from None
        *before, last = error.lines
        raise ConfigurationError([*before, f"{last}; {file} lists all {len(rows):,}"]) from error


def check_readable(directory: RunDirectory, source: PoolSource) -> None:
    """A run that goes on must do without what cannot be decoded now, or it would train on no image under a label.

    While it waits for labels nothing is looked at, and the next round leaves these images out.

    Raises:
        ValueError: the round that is under way needs one.
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


def _trainer_factory(config: Config) -> Callable[..., Trainer]:
    """Makes a Trainer as `Trainer` does; the configuration's arguments, callbacks and logger join those of the call."""
    arguments = {key: value for key, value in config.trainer.items() if key != "logger" and not key.startswith("_")}
    logger = config.trainer.get("logger")
    make: Callable[..., Trainer] = _instantiate("trainer", {"_target_": config.trainer["_target_"], "_partial_": True})

    def make_trainer(**keywords: Any) -> Trainer:
        configured: dict[str, Any] = _instantiate("trainer", arguments)  # anew each time: callbacks have states
        _check_callbacks(configured.get("callbacks"))
        for name in ("callbacks", "plugins"):
            configured[name] = [*keywords.get(name, []), *(configured.get(name) or [])]
        if configured.get("accelerator") == "auto":
            configured["accelerator"] = auto_accelerator()
        configured["logger"] = False
        if logger:
            make_logger = _instantiate("trainer.logger", logger | {"_partial_": True})
            with error_at("trainer.logger", logger):
                configured["logger"] = make_logger(save_dir=keywords["default_root_dir"])
        with error_at("trainer", config.trainer):
            return make(**{**keywords, **configured})

    return make_trainer


def _check_callbacks(callbacks: object) -> None:
    """Lightning looks at them only in a fit."""
    if callbacks is None or (isinstance(callbacks, list) and all(isinstance(one, Callback) for one in callbacks)):
        return
    raise ConfigurationError(
        f"{show('trainer.callbacks', callbacks)}: must be a list of callbacks of Lightning, each with its class in "
        f"_target_"
    )


def _try_trainer(config: Config) -> Trainer:
    """Devices, precision, strategy and logger: what this machine and these packages cannot do is said at once."""
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = _trainer_factory(config)(default_root_dir=directory, max_epochs=1)
    _check_kind(made, Trainer, "trainer", config.trainer)
    with error_at("trainer", {"strategy": config.trainer.get("strategy")}):
        check_that_results_return(made)
    try:
        check_precision(made)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    return made


def _try_network(config: Config) -> Algorithm:
    """Pass two blank images through a network of the same kind, which must give two rows of logits."""
    data = config.data
    with error_at("data", {"channels": data.channels, "image_size": data.image_size}):
        images = torch.zeros(2, data.channels, *data.image_size)
    with torch.random.fork_rng(devices=[]):
        network = make_network(config)
        algorithm = make_algorithm(config, network)
        with error_at("network", config.network), torch.no_grad():
            logits = network.eval()(images)
        if logits.shape != (2, data.num_classes):
            raise ConfigurationError(
                f"network: for images of shape {tuple(images.shape)} the logits must have shape "
                f"(2, {data.num_classes}); {type(network).__name__} gives {tuple(logits.shape)}"
            )
        with error_at("network", config.network):
            try_training(network, images, data.num_classes)
    return algorithm


def _try_single_images(config: Config, trainer: Trainer, labelled: int | None, num_unlabelled: int | None) -> None:
    """Refuse steps of one image, for a run that begins; the numbers of images are None where they are not known."""
    asked = config.hold_out + config.initial_labels + config.rounds * config.labels_per_round
    unlabelled = None if num_unlabelled is None else num_unlabelled - asked
    devices = 1 if config.trainer.get("sync_batchnorm") else trainer.world_size
    image = torch.zeros(1, config.data.channels, *config.data.image_size)

    def make() -> Algorithm:
        return make_algorithm(config, make_network(config))

    with torch.random.fork_rng(devices=[]):
        try_single_images(config, StepSizes(devices, labelled, unlabelled), make, image)
