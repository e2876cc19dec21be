"""Batch norms that count their batches in one launch count what they would count one by one."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from assl_lightning.networks import resnet, wide_resnet
from assl_lightning.networks.batch_counts import counted_together
from assl_lightning.networks.resnet import ResNet18
from assl_lightning.networks.wide_resnet import WideResNet
from tests.emulated_device import CUDA, emulated_cuda_gpu


def norms_of(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ("module", "make"), [(resnet, ResNet18), (wide_resnet, lambda classes: WideResNet(classes, depth=10))]
)
def test_a_network_leaves_the_same_state_and_gradients_as_without(
    module: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    together = make(4)
    norms_of(together)[1].eval()  # a frozen one
    apart = deepcopy(together)
    together(images).sum().backward()
    monkeypatch.setattr(module, "counted_together", lambda _: nullcontext())
    apart(images).sum().backward()
    assert [norm.num_batches_tracked for norm in norms_of(together)[:2]] == [1, 0]
    for name, value in apart.state_dict().items():
        assert torch.equal(together.state_dict()[name], value), name
    for mine, other in zip(together.parameters(), apart.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)


def test_the_tensors_stay_the_same_also_after_an_error_and_one_that_counts_nothing_stays_so() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False))
    count = network[0].num_batches_tracked
    with pytest.raises(ValueError, match="expected 4D input"), counted_together(network):
        network(torch.zeros(2, 3))
    assert network[0].num_batches_tracked is count
    assert count == 0
    assert network[1].num_batches_tracked is None
    with counted_together(network):
        network(torch.zeros(2, 3, 2, 2))
    assert network[0].num_batches_tracked == 1


def test_counting_is_one_launch() -> None:
    network = nn.Sequential(*(nn.BatchNorm2d(3) for _ in range(20)))
    with emulated_cuda_gpu() as counts:
        network.to(CUDA)
        counts.clear()
        with counted_together(network):
            pass
        assert counts.launches.total() == 1
        assert [int(norm.num_batches_tracked) for norm in norms_of(network)] == [1] * 20  # type: ignore[arg-type]


def test_batch_norms_that_average_by_their_count_go_on_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch.optim.swa_utils.update_bn makes them."""
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)).split(3)
    together = ResNet18(4)
    apart = deepcopy(together)
    torch.optim.swa_utils.update_bn(images, together)
    monkeypatch.setattr(resnet, "counted_together", lambda _: nullcontext())
    torch.optim.swa_utils.update_bn(images, apart)
    for name, value in apart.state_dict().items():
        assert torch.equal(together.state_dict()[name], value), name
    assert norms_of(together)[0].num_batches_tracked == 2
