from __future__ import annotations

import functools
import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from assl_lightning.learning.simclr import SimCLR, nt_xent
from assl_lightning.networks.adapt import with_features
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.networks.small import SmallCNN
from assl_lightning.networks.vit import ViTSmall
from tests.learning import pairs_run
from tests.learning.contract import make_network
from tests.learning.pairs_run import BATCH_SIZE, STEPS, make_data
from tests.shell import run_python
from tests.stripes import CLASSES, SGD


def loss_of_definition(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Chen et al. 2020, Eq. 1 and Algorithm 1, one view at a time in float64."""
    views = [view for pair in zip(first.double(), second.double(), strict=True) for view in pair]  # 2k and 2k + 1

    def similarity(i: int, j: int) -> Any:
        return torch.dot(views[i], views[j]) / (views[i].norm() * views[j].norm())

    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(views)):
        j = i + 1 if i % 2 == 0 else i - 1
        others = [torch.exp(similarity(i, k) / temperature) for k in range(len(views)) if k != i]
        total = total - torch.log(torch.exp(similarity(i, j) / temperature) / torch.stack(others).sum())
    return total / len(views)


def rows(count: int, seed: int, width: int = 5) -> Tensor:
    return 3 * torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_loss_and_gradient_are_those_of_the_definition(count: int, temperature: float) -> None:
    pair = [rows(count, seed).requires_grad_() for seed in (1, 2)]
    same = [rows(count, seed).requires_grad_() for seed in (1, 2)]
    loss, expected = nt_xent(*pair, temperature=temperature), loss_of_definition(same[0], same[1], temperature)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    for gradient, its in zip(torch.autograd.grad(loss, pair), torch.autograd.grad(expected, same), strict=True):
        torch.testing.assert_close(gradient, its, rtol=1e-4, atol=1e-6)
        assert count == 1 or gradient.abs().sum() > 0.01, "or the tolerance would hide everything"


def test_two_images_at_right_angles_give_the_value_worked_out_by_hand() -> None:
    """Each view has similarity 1 to its partner and 0 to the two views of the other image."""
    first, second = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    expected = -math.log(math.exp(2) / (math.exp(2) + 2))
    assert float(nt_xent(first, second, temperature=0.5)) == pytest.approx(expected, rel=1e-6)


def test_views_that_are_all_alike_are_told_apart_by_chance() -> None:
    same = torch.ones(4, 3)
    assert float(nt_xent(same, same, temperature=0.3)) == pytest.approx(math.log(7), rel=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda first, second: (second, first),
        lambda first, second: (first[torch.tensor([2, 0, 3, 1])], second[torch.tensor([2, 0, 3, 1])]),
        lambda first, second: (7 * first, second * torch.tensor([0.1, 1, 10, 100])[:, None]),
        lambda first, second: (first @ rotation(), second @ rotation()),
    ],
    ids=["views swapped", "images in another order", "lengths changed", "all rotated"],
)
def test_what_changes_no_angle_between_views_changes_no_loss(change: Callable[..., tuple[Tensor, Tensor]]) -> None:
    first, second = rows(4, 1), rows(4, 2)
    torch.testing.assert_close(nt_xent(*change(first, second)), nt_xent(first, second), rtol=1e-5, atol=1e-6)


def rotation() -> Tensor:
    orthogonal: Tensor = torch.linalg.qr(rows(5, 3))[0]
    return orthogonal


def test_partners_in_another_order_are_another_loss() -> None:
    first = rows(4, 1)
    assert nt_xent(first, first.roll(1, 0)) > nt_xent(first, first) + 0.5


def test_the_loss_is_in_float32_also_under_autocast() -> None:
    first, second = rows(6, 1), rows(6, 2)
    expected = nt_xent(first, second)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nt_xent(first, second), expected)
        half = nt_xent(first.bfloat16(), second.bfloat16())
    assert half.dtype == torch.float32
    assert torch.equal(half, nt_xent(first.bfloat16().float(), second.bfloat16().float()))


# ---- training


def make(network: FeatureNetwork | None = None, **changes: Any) -> SimCLR:
    settings: dict[str, Any] = {"optimizer": SGD, "steps": STEPS, "batch_size": BATCH_SIZE, "weight_decay": 0.01}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return SimCLR(SmallCNN(CLASSES, width=4) if network is None else network, **(settings | changes))


def fit(module: SimCLR, *callbacks: Any, resume: Path | None = None, **keywords: Any) -> SimCLR:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[*callbacks],
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=2,
        **keywords,
    )
    trainer.fit(module, datamodule=make_data(module), ckpt_path=resume, weights_only=True if resume else None)
    assert trainer.global_step == module.steps
    return module


def train_obviously(module: SimCLR) -> SimCLR:
    """The same training in a loop, of loss and optimizer alone."""
    data = make_data(module)
    trained: list[nn.Parameter] = [*module.network.get_submodule("trunk").parameters(), *module.projection.parameters()]
    decaying = [value for value in trained if value.ndim > 1]
    others = [value for value in trained if value.ndim == 1]
    groups: list[dict[str, Any]] = [{"params": decaying, "weight_decay": 0.01}, {"params": others}]
    optimizer = SGD(groups)
    for item in data.train_dataloader():
        batch = data.on_after_batch_transfer(item, 0)
        both = module.network.features(torch.cat([batch["first"], batch["second"]]))
        projected = module.projection(both)
        optimizer.zero_grad()
        loss_of_definition(projected[: len(projected) // 2], projected[len(projected) // 2 :], 0.5).backward()
        optimizer.step()
    return module


def test_a_training_is_that_of_the_obvious_loop() -> None:
    begun = make()
    trained, expected = fit(make()), train_obviously(make())
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    changed = {name for name, value in begun.state_dict().items() if not torch.equal(value, trained.state_dict()[name])}
    assert {name for name in begun.state_dict() if name not in changed} == {"network.head.weight", "network.head.bias"}


def test_the_head_of_the_network_stays_trainable() -> None:
    network = SmallCNN(CLASSES, width=4)
    fit(make(network))
    assert all(parameter.requires_grad for parameter in network.head.parameters())
    assert all(parameter.grad is None for parameter in network.head.parameters())


@pytest.mark.parametrize(
    "network",
    [
        lambda: ViTSmall(CLASSES, channels=1, patch_size=4, token_dim=8, depth=4, num_heads=2, embedding_dim=6),
        lambda: with_features(nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.ReLU(), nn.Linear(7, CLASSES)), CLASSES),
    ],
    ids=["without batch norm", "adapted"],
)
def test_any_network_can_be_trained(network: Callable[[], FeatureNetwork]) -> None:
    module = make(network())
    before = deepcopy(module.network.state_dict())
    fit(module)
    same = {name for name, value in module.network.state_dict().items() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.startswith("head.")}


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create the checkpoint")
def test_a_training_goes_on_from_any_checkpoint_to_the_last_bit(tmp_path: Path) -> None:
    save = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    whole = fit(make(), save)
    for step in (1, 3, 5):
        resumed = fit(make(), resume=tmp_path / f"step={step}.ckpt")
        for name, value in whole.state_dict().items():
            assert torch.equal(resumed.state_dict()[name], value), f"{name}, resumed from step {step}"


def test_mixed_precision_trains_nearly_the_same() -> None:
    plain, mixed = fit(make(make_network())), fit(make(make_network()), precision="bf16-mixed")
    begun = make_network().state_dict()["body.1.weight"]
    of_plain, of_mixed = (module.network.state_dict()["body.1.weight"] - begun for module in (plain, mixed))
    assert not torch.equal(of_plain, of_mixed)
    assert torch.cosine_similarity(of_plain.flatten(), of_mixed.flatten(), dim=0) > 0.9


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Gradients are summed in another order. The network has no batch norm, which sees the images of one process."""
    for devices in (1, 2):
        run_python(Path(pairs_run.__file__), tmp_path, str(devices), timeout=300)
    one, two = (torch.load(tmp_path / f"{devices}.pt", weights_only=True) for devices in (1, 2))
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-5)
    begun = make_network().state_dict()
    assert (one["network.body.1.weight"] - begun["body.1.weight"]).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps": 0}, "steps must be at least 1 "),
        ({"batch_size": 1}, "batch_size must be at least 2 "),
        ({"temperature": 0.0}, "temperature must be above 0; got 0.0"),
        ({"hidden_width": 0}, "hidden_width must be at least 1 "),
        ({"projection_width": 0}, "projection_width must be at least 1 "),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0; got -1.0"),
    ],
)
def test_an_impossible_setting_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**setting)


def test_a_network_whose_features_cannot_be_trained_is_refused() -> None:
    frozen = SmallCNN(CLASSES, width=4)
    frozen.trunk.requires_grad_(False)
    linear = with_features(nn.Linear(64, CLASSES), CLASSES)
    for network, name in ((frozen, "SmallCNN"), (linear, "AdaptedNetwork")):
        with pytest.raises(ValueError, match=rf"features of {name} have no parameter .* choose another network, or"):
            make(network)


def test_parameters_that_are_frozen_stay_as_they_are() -> None:
    network = SmallCNN(CLASSES, width=4)
    first = next(network.trunk.parameters()).requires_grad_(False)
    before = first.clone()
    fit(make(network, optimizer=functools.partial(torch.optim.AdamW, lr=0.01)))
    assert torch.equal(first, before)
