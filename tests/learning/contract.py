"""Checks that every algorithm must pass, each of an algorithm that is made anew where it is needed.

`python tests/learning/contract.py OUTPUT DEVICES NAME…` trains the named ones on so many processes, to be compared;
"NAME OVERRIDE" is one with another setting.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from assl_lightning.config.compose import compose, conf_dir
from assl_lightning.config.instantiate import make_algorithm
from assl_lightning.config.schema import Config
from assl_lightning.data.pool import Pool
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.networks.base import FeatureNetwork
from tests.stripes import CLASSES, LABELS, POOL_SIZE, make_datamodule

Make = Callable[[], Algorithm]

STEPS, STEPS_PER_EPOCH, RESUMED_FROM = 9, 5, (3, 5, 7)


class Plain(FeatureNetwork):
    """Two layers without batch norm, so that an image's logits depend on that image alone; sure of itself."""

    def __init__(self) -> None:
        head = nn.Linear(16, CLASSES)
        super().__init__(head, 16, CLASSES)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
        with torch.no_grad():
            head.weight.mul_(40)  # confident predictions, or no pseudo-label counts

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images)
        return features


def make_network() -> Plain:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Plain()


def make_of_configuration(text: str) -> Make:
    """Make the algorithm of "NAME", conf/algorithm/NAME.yaml, or of "NAME OVERRIDE …", around a plain network."""
    config = _configuration(text)
    return lambda: make_algorithm(config, make_network())


@cache
def _configuration(text: str) -> Config:
    name, *overrides = text.split()
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="test"):
        return compose(GlobalHydra.instance().hydra, [f"algorithm={name}", "acquisition=random", *overrides])


def make_data() -> PoolDataModule:
    pool = Pool(POOL_SIZE, CLASSES)
    labelled = torch.arange(0, POOL_SIZE, 7)[1:]  # so that a position in the unlabelled subset is not a pool index
    pool.label(labelled, LABELS[labelled], 0)
    return make_datamodule(pool, steps_per_round=STEPS, steps_per_epoch=STEPS_PER_EPOCH, seed=1)


def one_step(algorithm: Algorithm, **changes: Any) -> tuple[Any, Any]:
    """The batch of a first step, and what the algorithm returns of it."""
    if algorithm.needs_weight_ema and algorithm._trainer is None:
        begin_averages(algorithm)
    datamodule = make_data()
    batch: Any = datamodule.on_after_batch_transfer(next(iter(datamodule.train_dataloader())), 0)
    batch |= {name: change(batch[name]) for name, change in changes.items()}
    algorithm.log_step = lambda *_, **__: None  # type: ignore[method-assign]  # there is no trainer
    return batch, algorithm.training_step(batch, 0)


_kept: list[Trainer] = []  # an algorithm has only a weak reference to its trainer


def begin_averages(algorithm: Algorithm) -> None:
    """Give an algorithm a trainer whose averaged weights are the present ones."""
    weight_ema = WeightEMA(0.9)
    trainer = Trainer(accelerator="cpu", callbacks=[weight_ema], logger=False, enable_checkpointing=False)
    _kept.append(trainer)
    algorithm.trainer = trainer
    weight_ema.on_fit_start(trainer, algorithm)


def check_step_output(make: Make) -> None:
    """The loss has a gradient; what the callback reads is detached, and of the pool's indices."""
    batch, output = one_step(make())
    assert output["loss"].shape == ()
    assert output["loss"].requires_grad
    assert output["loss"].isfinite()
    if "statistics" not in make().produces:
        return
    rows = len(batch["index"])
    assert torch.equal(output["index"], batch["index"]), "the pool's indices"
    assert output["index"].dtype == torch.int64
    assert torch.equal(output["labelled_index"], batch["labelled_index"]), "the pool's indices of the labelled images"
    shapes = {
        "logits_weak": (rows, CLASSES),
        "logits_strong": (rows, CLASSES),
        "features_weak": (rows, 16),
        "features_labelled": (len(batch["label"]), 16),
    }
    for name, shape in shapes.items():
        assert output[name].shape == shape, name
        assert not output[name].requires_grad, f"{name} must be detached"


def check_views(make: Make) -> None:
    """Logits and features are those of the view that they are called after."""
    algorithm = make()
    if "statistics" not in algorithm.produces:
        return
    network = make_network()  # the weights that the step began with
    batch, output = one_step(algorithm)
    with torch.no_grad():
        expected = {
            "logits_weak": network(batch["weak"]),
            "logits_strong": network(batch["strong"]),
            "features_weak": network.features(batch["weak"]),
            "features_labelled": network.features(batch["labelled_image"]),
        }
    for name, value in expected.items():
        assert torch.allclose(output[name], value, atol=1e-5), f"{name} must be of the view that its name says"


def _tracked(images: Tensor) -> Tensor:
    return images.clone().requires_grad_()


def check_gradient(make: Make) -> None:
    """The unlabelled images teach by their strong view alone."""
    algorithm = make()
    images = ("labelled_image", "weak", "strong")
    batch, output = one_step(algorithm, **dict.fromkeys(images, _tracked))
    output["loss"].backward()
    assert batch["labelled_image"].grad.abs().sum() > 0
    if "statistics" in algorithm.produces:
        assert batch["strong"].grad.abs().sum() > 0
    assert batch["weak"].grad is None or batch["weak"].grad.abs().sum() == 0, "no gradient into the weak view"


def _no_rows(rows: Tensor) -> Tensor:
    return rows[:0]


def check_without_unlabelled(make: Make) -> None:
    """A pool that is all labelled can be trained on."""
    _, output = one_step(make(), **dict.fromkeys(("index", "weak", "strong"), _no_rows))
    assert output["loss"].isfinite(), "the loss without unlabelled images"
    if "statistics" in make().produces:
        assert [len(output[name]) for name in ("index", "logits_weak", "logits_strong")] == [0, 0, 0]


def fit(make: Make, directory: Path, resume: Path | None = None, devices: int = 1) -> Algorithm:
    """Train nine steps, or those that are left."""
    algorithm = make()
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=2,
        callbacks=[
            WeightEMA(0.9),
            ModelCheckpoint(directory, every_n_train_steps=1, save_top_k=-1, filename="{step}"),
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=2,
        reload_dataloaders_every_n_epochs=1,
    )
    trainer.fit(algorithm, datamodule=make_data(), ckpt_path=resume, weights_only=True if resume else None)
    assert trainer.global_step == STEPS or trainer.should_stop
    return algorithm


def check_resume(make: Make, directory: Path) -> None:
    """A training that goes on from any checkpoint ends as the undisturbed one, to the last bit: all state is saved."""
    whole = fit(make, directory / "whole")
    end = {name: value.clone() for name, value in whole.state_dict().items()}
    begin = make().state_dict()
    assert any(not torch.equal(value, end[name]) for name, value in begin.items())
    for step in RESUMED_FROM:
        resumed = fit(make, directory / f"from_{step}", resume=directory / "whole" / f"step={step}.ckpt")
        for name, value in end.items():
            assert torch.equal(resumed.state_dict()[name], value), f"{name}, resumed from step {step}"
        whole.load_state_dict(end)  # a step changes what it keeps beside the weights
        (_, output), (_, expected) = one_step(resumed), one_step(whole)
        assert torch.equal(output["loss"], expected["loss"]), f"the next loss, resumed from step {step}"


def main(output: Path, devices: int, names: list[str]) -> None:
    torch.set_num_threads(1)
    for name in names:
        algorithm = fit(make_of_configuration(name), output / f"{name}_{devices}", devices=devices)
        if algorithm.global_rank == 0:
            torch.save(algorithm.state_dict(), output / f"{name}_{devices}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
