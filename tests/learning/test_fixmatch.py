from __future__ import annotations

import functools
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import Tensor, nn

from assl_lightning import ASSLScoreCallback, FixMatch, PoolDataModule
from assl_lightning.augment.normalise import Normalise
from assl_lightning.augment.strong import StrongAugment
from assl_lightning.augment.weak import WeakAugment
from assl_lightning.data.pool import Pool
from assl_lightning.learning.fixmatch import fixmatch_loss
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.networks.small import SmallCNN
from assl_lightning.networks.vit import ViTSmall

SGD = functools.partial(torch.optim.SGD, lr=0.03, momentum=0.9, nesterov=True)


def logits(rows: int, classes: int = 4, scale: float = 3.0, seed: int = 0) -> Tensor:
    return (scale * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))).requires_grad_()


def loss_of_definition(
    labelled: Tensor, label: Tensor, weak: Tensor, strong: Tensor, threshold: float, temperature: float, lambda_u: float
) -> tuple[float, float, float, float]:
    """FixMatch's Eq. 3 and 4, one sample at a time in float64."""

    def cross_entropy(row: Tensor, target: int) -> float:
        return float(-torch.log_softmax(row.detach().double(), -1)[target])

    supervised = sum(cross_entropy(row, int(y)) for row, y in zip(labelled, label, strict=True)) / len(label)
    total, counted = 0.0, 0
    for w, s in zip(weak, strong, strict=True):
        q = torch.softmax(w.detach().double() / temperature, -1)
        if float(q.max()) >= threshold:
            counted += 1
            total += cross_entropy(s, int(q.argmax()))
    unsupervised = total / len(weak)
    return supervised + lambda_u * unsupervised, supervised, unsupervised, counted / len(weak)


@pytest.mark.parametrize("threshold", [0.6, 0.8])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("lambda_u", [0.0, 1.0, 2.5])
def test_the_loss_is_that_of_the_definition(threshold: float, temperature: float, lambda_u: float) -> None:
    labelled, weak, strong = logits(3, seed=1), logits(40, scale=1.2, seed=2), logits(40, seed=3)
    label = torch.tensor([0, 3, 1])
    loss = fixmatch_loss(labelled, label, weak, strong, threshold=threshold, temperature=temperature, lambda_u=lambda_u)
    expected = loss_of_definition(labelled, label, weak, strong, threshold, temperature, lambda_u)
    assert 0 < expected[3] < 1, "the mask must let some through and hold some back, or it is not tested"
    assert [part.item() for part in loss] == pytest.approx(expected, rel=1e-5)


def test_a_confidence_equal_to_the_threshold_counts() -> None:
    even = torch.zeros(1, 2)
    loss = fixmatch_loss(even, torch.tensor([0]), even, even, threshold=0.5)
    assert loss.mask_rate.item() == 1.0


def test_no_gradient_flows_through_the_pseudo_label() -> None:
    labelled, weak, strong = logits(2), logits(8, scale=9, seed=1), logits(8, seed=2)
    fixmatch_loss(labelled, torch.tensor([0, 1]), weak, strong, threshold=0.5).total.backward()
    assert weak.grad is None
    assert strong.grad is not None
    assert strong.grad.abs().sum() > 0


@pytest.mark.parametrize("setting", [{"threshold": 1.01}, {"lambda_u": 0.0}])
def test_without_pseudo_labels_the_gradient_is_the_supervised_one(setting: dict[str, float]) -> None:
    labelled, strong = logits(4), logits(12, seed=2)
    label = torch.tensor([0, 1, 2, 3])
    fixmatch_loss(labelled, label, logits(12, scale=50, seed=1), strong, **setting).total.backward()
    reference = labelled.detach().clone().requires_grad_()
    F.cross_entropy(reference, label).backward()
    torch.testing.assert_close(labelled.grad, reference.grad)
    assert strong.grad is not None
    assert strong.grad.abs().sum() == 0


def test_half_precision_logits_give_a_float32_loss() -> None:
    loss = fixmatch_loss(
        logits(2).bfloat16(), torch.tensor([0, 1]), logits(4, scale=20).bfloat16(), logits(4, seed=1).bfloat16()
    )
    assert loss.total.dtype == torch.float32
    assert loss.total.isfinite()


def test_without_unlabelled_rows_the_step_is_the_supervised_one() -> None:
    labelled, empty = logits(3), torch.empty(0, 4)
    loss = fixmatch_loss(labelled, torch.tensor([0, 1, 2]), empty, empty)
    torch.testing.assert_close(loss.total, F.cross_entropy(labelled, torch.tensor([0, 1, 2])))
    assert loss.mask_rate.item() == 0.0


def small_cnn() -> FeatureNetwork:
    return SmallCNN(4, channels=1, width=4)


def tiny_vit() -> FeatureNetwork:
    return ViTSmall(4, channels=1, patch_size=4, token_dim=16, depth=2, last_blocks=2, num_heads=2, embedding_dim=8)


def make_parts(
    steps: int = 3, make_network: Callable[[], FeatureNetwork] = small_cnn, *, include_labelled: bool = False
) -> tuple[FixMatch, PoolDataModule]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (50, 1, 12, 12), dtype=torch.uint8, generator=generator)
    pool = Pool(50, 4)
    start = torch.arange(6)
    pool.label(start, start % 4, 0)
    weak = WeakAugment(flip=False)
    datamodule = PoolDataModule(
        pool,
        pool_images=images,
        test_images=images[:5],
        test_labels=torch.zeros(5, dtype=torch.int64),
        normalise=Normalise((0.5,), (0.3,)),
        weak=weak,
        strong=StrongAugment(weak=weak),
        batch_size=4,
        mu=3,
        steps_per_round=steps,
        include_labelled=include_labelled,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make_network()
    return FixMatch(network, optimizer=SGD, threshold=0.3), datamodule


def make_trainer(**settings: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )


def plain_torch_training(network: FeatureNetwork, datamodule: PoolDataModule) -> tuple[nn.Module, list[float]]:
    """FixMatch with SGD and weight EMA as kekmodel's code describes it, without Lightning and without this package's
    algorithm: returns the averaged model, its buffers copied, and the losses."""
    network.train()
    average = deepcopy(network)
    decay: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_free = name == "bias" or "token" in name or "position" in name
            is_free = is_free or isinstance(module, nn.BatchNorm2d | nn.LayerNorm)
            (free if is_free else decay).append(parameter)
    optimizer = torch.optim.SGD(
        [{"params": decay, "weight_decay": 5e-4}, {"params": free, "weight_decay": 0.0}],
        lr=0.03,
        momentum=0.9,
        nesterov=True,
    )
    losses = []
    for item in datamodule.train_dataloader():
        batch: Any = datamodule.on_after_batch_transfer(item, 0)
        out = network(torch.cat([batch["labelled_image"], batch["weak"], batch["strong"]]))
        labelled, weak, strong = out[:4], out[4:16], out[16:]
        loss = F.cross_entropy(labelled, batch["label"])
        confidence, target = torch.softmax(weak.detach(), -1).max(-1)
        loss = loss + ((confidence >= 0.3) * F.cross_entropy(strong, target, reduction="none")).sum() / 12
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
                mean.mul_(0.9).add_(weight, alpha=0.1)
            for kept, value in zip(average.buffers(), network.buffers(), strict=True):
                kept.copy_(value)
        losses.append(loss.item())
    return average, losses


@pytest.mark.parametrize("make_network", [small_cnn, tiny_vit])
def test_steps_of_sgd_and_weight_averaging_equal_plain_torch(make_network: Callable[[], FeatureNetwork]) -> None:
    algorithm, datamodule = make_parts(make_network=make_network)
    reference = deepcopy(algorithm.network)
    average, losses = plain_torch_training(reference, datamodule)
    weight_ema = WeightEMA(0.9)
    trainer = make_trainer(callbacks=[weight_ema], log_every_n_steps=1)
    trainer.fit(algorithm, datamodule=datamodule)
    assert trainer.callback_metrics["loss"].item() == pytest.approx(losses[-1], rel=1e-5)
    for name, value in algorithm.network.state_dict().items():
        torch.testing.assert_close(value, reference.state_dict()[name], rtol=1e-4, atol=1e-6)
    averaged = weight_ema.averaged(algorithm.network, prefix="network.")
    for name, value in averaged.state_dict().items():
        torch.testing.assert_close(value, average.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_weak_views_without_a_gradient_change_neither_the_features_nor_the_gradient() -> None:
    algorithm, datamodule = make_parts(make_network=tiny_vit)
    network = algorithm.network.double()
    batch: Any = datamodule.on_after_batch_transfer(next(iter(datamodule.train_dataloader())), 0)
    for name in ("labelled_image", "weak", "strong"):
        batch[name] = batch[name].double()
    weights = torch.randn(4 + 12 + 12, network.feature_dim, dtype=torch.float64)
    weights[4:16] = 0  # what the loss sends back to the weak views

    together = network.features(torch.cat([batch["labelled_image"], batch["weak"], batch["strong"]]))
    apart = algorithm._features(batch)
    torch.testing.assert_close(apart, together)
    parameters = [weight for name, weight in network.named_parameters() if not name.startswith("head")]
    gradients = [torch.autograd.grad((features * weights).sum(), parameters) for features in (apart, together)]
    torch.testing.assert_close(*gradients)
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])


def test_every_weight_gets_a_gradient_where_autocast_keeps_what_it_cast() -> None:
    algorithm, datamodule = make_parts(make_network=tiny_vit)
    batch: Any = datamodule.on_after_batch_transfer(next(iter(datamodule.train_dataloader())), 0)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=True):
        features = algorithm._features(batch)
        algorithm.network.head(features).float().square().mean().backward()
    assert [name for name, weight in algorithm.network.named_parameters() if weight.grad is None] == []


def test_the_step_returns_what_the_score_callback_needs_detached() -> None:
    algorithm, datamodule = make_parts()
    batch: Any = datamodule.on_after_batch_transfer(next(iter(datamodule.train_dataloader())), 0)
    algorithm.log_step = lambda *_, **__: None  # type: ignore[method-assign]
    output = algorithm.training_step(batch, 0)
    assert torch.equal(output["index"], batch["index"])
    assert output["logits_weak"].shape == output["logits_strong"].shape == (12, 4)
    assert not output["logits_weak"].requires_grad
    assert not output["logits_strong"].requires_grad
    assert output["loss"].requires_grad


class ByHand(FixMatch):
    """FixMatch that also notes each image's features, one image at a time, before the step changes the weights."""

    def on_train_start(self) -> None:
        self.seen: dict[int, Tensor] = {}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        streams = (("index", "weak"), ("labelled_index", "labelled_image"))
        for index, images in streams:  # so that the labelled row wins
            for row, sample in enumerate(batch[index].tolist()):
                with torch.no_grad():
                    self.seen[sample] = self.network.features(batch[images][row : row + 1])[0].half().float()
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("include_labelled", [False, True])
def test_the_callback_keeps_the_latest_features_of_both_streams(include_labelled: bool) -> None:
    algorithm, datamodule = make_parts(steps=6, make_network=tiny_vit, include_labelled=include_labelled)
    by_hand = ByHand(algorithm.network, optimizer=SGD, threshold=0.3)
    callback = ASSLScoreCallback(keep_features=True)
    make_trainer(callbacks=[callback], log_every_n_steps=1).fit(by_hand, datamodule=datamodule)
    seen = torch.tensor(sorted(by_hand.seen))
    assert {*datamodule.pool.labelled.tolist()} <= {*seen.tolist()}
    assert callback.features.seen(torch.arange(50)).nonzero()[:, 0].equal(seen)
    expected = torch.stack([by_hand.seen[sample] for sample in seen.tolist()])
    torch.testing.assert_close(callback.features.rows(seen), expected, rtol=2e-3, atol=1e-4)
    assert expected.std(0).max() > 0.1, "or any sample's features would do"


def test_kept_features_change_neither_statistics_nor_weights() -> None:
    fits = []
    for keep_features in (False, True):
        algorithm, datamodule = make_parts(steps=6)
        callback = ASSLScoreCallback(keep_features=keep_features)
        make_trainer(callbacks=[callback], log_every_n_steps=1).fit(algorithm, datamodule=datamodule)
        fits.append((callback.statistics.rows(torch.arange(50)), algorithm.state_dict()))
    (statistics, weights), (with_features, weights_with_features) = fits
    for name, column in vars(statistics).items():
        assert torch.equal(getattr(with_features, name), column), name
    for name, value in weights.items():
        assert torch.equal(weights_with_features[name], value), name


def test_a_checkpoint_loads_safely_into_a_new_algorithm(tmp_path: Any) -> None:
    algorithm, datamodule = make_parts()
    trainer = make_trainer()
    trainer.fit(algorithm, datamodule=datamodule)
    trainer.save_checkpoint(tmp_path / "final.ckpt", weights_only=False)
    again = FixMatch.load_from_checkpoint(
        tmp_path / "final.ckpt", network=SmallCNN(4, channels=1, width=4), optimizer=SGD, weights_only=True
    )
    for name, value in algorithm.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"threshold": 0.0}, "threshold must be above 0; got 0.0"),
        ({"temperature": -1.0}, "temperature must be above 0; got -1.0"),
        ({"lambda_u": -0.5}, "lambda_u must be at least 0; got -0.5"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0; got -1.0"),
        ({"weight_decay_exempt": "none"}, "weight_decay_exempt must be one of by_module, by_name; got 'none'"),
    ],
)
def test_an_impossible_setting_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FixMatch(SmallCNN(4), optimizer=SGD, **setting)
