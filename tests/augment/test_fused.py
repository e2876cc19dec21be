"""The kernel of all views, in Triton's interpreter on the CPU, against the dense plan, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assl_lightning.augment import Normalise, StrongAugment, WeakAugment, fused
from assl_lightning.augment.fused import FusedViews, Rows
from assl_lightning.augment.ops import FIXMATCH_OPS
from assl_lightning.base import kernels
from assl_lightning.base.seeding import Draws
from tests.interpreted import interpreted_views

pytestmark = [
    pytest.mark.skipif(not interpreted_views(), reason="needs Triton 3.3, of torch's wheels for CUDA on Linux"),
    pytest.mark.filterwarnings(
        "ignore:overflow encountered:RuntimeWarning"
    ),  # unsigned products of 64 bits wrap around
]


def check(images: torch.Tensor, views: FusedViews, num_labelled: int = 3) -> None:
    """Compare the views of every image."""
    index = torch.arange(len(images)).flip(0)
    labelled = Rows(index[:num_labelled], Draws(11, torch.arange(num_labelled) + 100))
    unlabelled, strong = Rows(index, Draws(2**62 + 5, index + 7)), Draws(13, index + 7)
    made, expected = (make(images, labelled, unlabelled, strong) for make in (views, views.with_dense))
    lying = torch.channels_last if views.channels_last else torch.contiguous_format
    for mine, other in zip(made, expected, strict=True):
        assert mine.is_contiguous(memory_format=lying)
        assert torch.equal(mine, other)


def images_of(shape: tuple[int, ...], count: int) -> torch.Tensor:
    images = torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images[::5] //= 9  # levels that many operations treat apart
    images[0] = 7  # of one level
    return images


def views_of(channels: int, augments_labelled: bool = True, channels_last: bool = False, **changes: Any) -> FusedViews:
    weak = WeakAugment(flip=changes.pop("flip", True), pad_fraction=changes.pop("pad_fraction", 0.125))
    normalise = Normalise((0.4914, 0.4822, 0.4465)[:channels], (0.2471, 0.2435, 0.2616)[:channels])
    return FusedViews(weak, StrongAugment(weak=weak, **changes), normalise, augments_labelled, channels_last)


@pytest.mark.parametrize("name", FIXMATCH_OPS)
@pytest.mark.parametrize("shape", [(3, 9, 7), (1, 8, 8)])
def test_each_operation_has_the_dense_plans_bits(name: str, shape: tuple[int, ...]) -> None:
    views = views_of(shape[0], ops=(name,), num_ops=1, op_probability=1.0, max_magnitude=10, cutout_fraction=0.0)
    check(images_of(shape, 6), views)


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        ((3, 32, 32), {}),
        ((1, 28, 28), {"flip": False}),
        ((3, 17, 23), {"num_ops": 3, "pad_fraction": 0.4}),
        ((3, 2, 2), {"op_probability": 0.3}),
        ((1, 1, 1), {"num_ops": 0}),
    ],
)
@pytest.mark.parametrize("augments_labelled", [True, False])
def test_all_views_of_a_step_have_the_dense_plans_bits(
    shape: tuple[int, ...], changes: dict[str, Any], augments_labelled: bool
) -> None:
    check(images_of(shape, 8), views_of(shape[0], augments_labelled, **changes))


@pytest.mark.parametrize("shape", [(3, 17, 23), (1, 8, 8)])
def test_views_may_lie_in_memory_as_convolutions_take_them(shape: tuple[int, ...]) -> None:
    check(images_of(shape, 6), views_of(shape[0], channels_last=True))


def test_the_trial_on_a_device_finds_no_fault_in_the_kernel() -> None:
    assert fused._fault_of.__wrapped__(views_of(1), (1, 8, 8), torch.device("cpu")) is None


def test_the_trial_compiles_what_a_step_needs_whose_keys_have_63_bits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[Any] = []

    def launch(*arguments: Any, **constants: Any) -> None:
        given.extend(arguments)
        raise RuntimeError("no launch")

    monkeypatch.setattr(kernels, "launch", launch)
    fault = fused._fault_of.__wrapped__(views_of(1), (1, 8, 8), torch.device("cpu"))
    assert fault == "cannot run here (RuntimeError: no launch)"
    assert "by torch's operators, in hundreds of launches a step: the kernel cannot run here" in caplog.text
    assert sum(isinstance(value, int) and value >= 2**31 for value in given) == 3


def test_kernels_run_on_no_cpu() -> None:
    assert not kernels.can_run(torch.device("cpu"))
