from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor
from torch.utils.data import DataLoader

from assl_lightning.learning.algorithm import Algorithm, mean_cross_entropy
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.networks.small import SmallCNN


class Plain(Algorithm):
    """The least that an algorithm can be."""

    produces = frozenset()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return mean_cross_entropy(self(batch["image"]), batch["label"])


class Images(LightningDataModule):
    def _loader(self, seed: int, count: int) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(seed)
        rows = [
            {"image": torch.randn(1, 8, 8, generator=generator), "label": torch.randint(3, (), generator=generator)}
            for _ in range(count)
        ]
        return DataLoader(rows, batch_size=4)  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(0, 20)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(1, 30)


def make_algorithm() -> Plain:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SmallCNN(3, width=4)
    return Plain(network, optimizer=functools.partial(torch.optim.SGD, lr=0.2))


def fit(callbacks: list[Any], algorithm: Plain, **settings: Any) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=5,
        **({"max_epochs": 2} | settings),
    )
    resume = settings.pop("ckpt_path", None)
    trainer.fit(algorithm, datamodule=Images(), ckpt_path=resume)
    return trainer


def accuracy(network: torch.nn.Module) -> float:
    network.eval()
    with torch.no_grad():
        right = [(network(batch["image"]).argmax(-1) == batch["label"]).float() for batch in Images().val_dataloader()]
    return torch.cat(right).mean().item()


class Recorder(Callback):
    """Every weight after every step, in float64."""

    def __init__(self, algorithm: Plain) -> None:
        self.history = {name: [value.detach().double()] for name, value in algorithm.named_parameters()}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        for name, value in pl_module.named_parameters():
            self.history[name].append(value.detach().double())


def test_the_average_is_that_of_the_definition_from_the_initial_weights() -> None:
    algorithm, weight_ema = make_algorithm(), WeightEMA(0.8)
    recorder = Recorder(algorithm)
    fit([recorder, weight_ema], algorithm)
    for name, value in weight_ema.averaged(algorithm).named_parameters():
        weights = recorder.history[name]
        expected = weights[0]
        for weight in weights[1:]:
            expected = 0.8 * expected + 0.2 * weight
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
        assert torch.equal(dict(algorithm.named_parameters())[name].double(), weights[-1]), "the raw weights stay"


def test_both_accuracies_are_those_of_their_weights() -> None:
    algorithm, weight_ema = make_algorithm(), WeightEMA(0.97)
    trainer = fit([weight_ema], algorithm)
    assert trainer.callback_metrics["test_accuracy_raw"].item() == pytest.approx(accuracy(algorithm.network))
    averaged = weight_ema.averaged(algorithm.network, prefix="network.")
    assert trainer.callback_metrics["test_accuracy_ema"].item() == pytest.approx(accuracy(averaged))
    assert accuracy(averaged) != accuracy(algorithm.network), "or the two cannot be told apart"


def test_training_goes_on_in_training_mode_after_a_test() -> None:
    class Watch(WeightEMA):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
            assert all(module.training for module in pl_module.network.modules())
            super().on_train_batch_end(trainer, pl_module, *arguments)

    watch = Watch()
    fit([watch], make_algorithm())
    assert watch._updates == 10


def test_it_averages_once_for_each_step_of_the_optimizer() -> None:
    weight_ema = WeightEMA()
    trainer = fit([weight_ema], make_algorithm(), accumulate_grad_batches=2)
    assert weight_ema._updates == trainer.global_step == 6


def test_a_checkpoint_has_lightnings_layout_and_resumes_to_the_same_average(tmp_path: Path) -> None:
    whole, half = WeightEMA(0.9), WeightEMA(0.9)
    straight = make_algorithm()
    fit([whole], straight, max_epochs=2)
    first = make_algorithm()
    trainer = fit([half], first, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt", weights_only=False)
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)
    assert saved.keys() >= {"state_dict", "current_model_state", "averaging_state"}
    for name, value in half.averaged(first).state_dict().items():
        assert torch.equal(saved["state_dict"][name], value)
    for name, value in first.state_dict().items():
        assert torch.equal(saved["current_model_state"][name], value)

    resumed, again = WeightEMA(0.9), make_algorithm()
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[resumed],
        logger=False,
        max_epochs=2,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=5,
    )
    trainer.fit(again, datamodule=Images(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert resumed._updates == whole._updates == 10
    for name, value in whole.averaged(straight).state_dict().items():
        assert torch.equal(resumed.averaged(again).state_dict()[name], value)
    for name, value in straight.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    for weights in (resumed.averages, dict(again.named_parameters())):
        maps = [one for name, one in weights.items() if name.endswith("weight") and one.ndim == 4]
        assert all(one.is_contiguous(memory_format=torch.channels_last) for one in maps), "as they were made"
        assert not all(one.is_contiguous() for one in maps)


def test_lightnings_own_averaging_reads_our_checkpoint(tmp_path: Path) -> None:
    ours = WeightEMA(0.9)
    algorithm = make_algorithm()
    fit([ours], algorithm, max_epochs=1).save_checkpoint(tmp_path / "ours.ckpt", weights_only=False)
    theirs = EMAWeightAveraging(decay=0.9, use_buffers=False)
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[theirs],
        logger=False,
        max_epochs=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    again = make_algorithm()
    trainer.fit(again, datamodule=Images(), ckpt_path=tmp_path / "ours.ckpt", weights_only=True)
    assert theirs._average_model is not None
    average = dict(theirs._average_model.module.named_parameters())
    for name, value in ours.averaged(algorithm).named_parameters():
        assert torch.equal(average[name], value)
    for name, value in algorithm.named_parameters():
        assert torch.equal(dict(again.named_parameters())[name], value)


def test_a_checkpoint_without_an_average_is_refused() -> None:
    with pytest.raises(KeyError, match="saved without weight averaging; resume it without WeightEMA"):
        WeightEMA().on_load_checkpoint(None, make_algorithm(), {"state_dict": {}})  # type: ignore[arg-type]


def test_an_impossible_decay_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
        WeightEMA(1.0)
