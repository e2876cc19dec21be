"""Under autocast in bfloat16 the network computes in 16 bits, what is made of its logits is float32, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from assl_lightning.learning.adamatch import AdaMatch
from assl_lightning.learning.fixmatch import FixMatch
from assl_lightning.learning.flexmatch import FlexMatch
from assl_lightning.learning.freematch import FreeMatch
from assl_lightning.learning.pseudo_label_loss import pseudo_label_loss
from assl_lightning.learning.pseudo_labels import PseudoLabelling
from assl_lightning.learning.simclr import nt_xent
from assl_lightning.learning.softmatch import SoftMatch
from assl_lightning.learning.uda import UDA
from assl_lightning.method import scores
from assl_lightning.method.further_statistics import FurtherStatistics
from assl_lightning.method.settings import FURTHER
from assl_lightning.method.statistics import SampleStatistics
from tests.emulated_device import CUDA, emulated_cuda_gpu
from tests.learning import contract
from tests.stripes import CLASSES, SGD

KINDS: dict[str, Callable[..., PseudoLabelling]] = {
    "fixmatch": partial(FixMatch, threshold=0.4, balanced_head=True),
    "flexmatch": partial(FlexMatch, threshold=0.4, num_samples=24),
    "freematch": partial(FreeMatch, fairness=0.1),
    "softmatch": SoftMatch,
    "adamatch": AdaMatch,
    "uda": partial(UDA, threshold=0.4),
}


@contextmanager
def device_of(name: str) -> Iterator[torch.device]:
    """Give the CPU, whose autocast is torch's, or an emulated GPU, whose is the emulation's."""
    if name == "cpu":
        yield torch.device("cpu")
        return
    with emulated_cuda_gpu():
        yield CUDA


def logits_of(rows: int, device: torch.device, seed: int) -> Tensor:
    logits = 3 * torch.randn(rows, CLASSES, generator=torch.Generator().manual_seed(seed))
    return logits.to(torch.bfloat16).to(device)


def made_of_logits(algorithm: PseudoLabelling, device: torch.device) -> list[Tensor]:
    """Return pseudo-labels, their weights, and all losses of two steps, and the gradient of the second one."""
    algorithm.to(device)
    found = []
    for step in range(2):
        labelled, weak, strong = (logits_of(rows, device, 3 * step + part) for part, rows in enumerate((6, 12, 12)))
        strong.requires_grad_()
        label, index = torch.arange(6).to(device) % CLASSES, torch.arange(12).to(device) * 2
        pseudo = algorithm.judge(weak, labelled, index)
        total = pseudo_label_loss(labelled, label, strong, pseudo).total
        further = algorithm.further_loss(strong, pseudo)
        total = total if further is None else total + further
        if algorithm.balanced is not None:
            total = total + algorithm.balanced(labelled, label, strong, algorithm.balanced.weigh(weak, 0.5))
        total.backward()
        found += [*pseudo, total.detach(), strong.grad]
    return [value.cpu() for value in found if value is not None]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", KINDS)
def test_losses_and_pseudo_labels_of_an_algorithm_are_those_without_autocast(name: str, device: str) -> None:
    algorithm = KINDS[name](contract.make_network(), optimizer=SGD)
    with device_of(device) as there:
        with torch.autocast(there.type, torch.bfloat16):
            mixed = made_of_logits(deepcopy(algorithm), there)
        plain = made_of_logits(algorithm, there)
    assert {value.dtype for value in mixed} == {torch.float32, torch.bfloat16, torch.int64} - (
        {torch.int64} if name == "uda" else set()
    )
    for mine, other in zip(mixed, plain, strict=True):
        assert mine.dtype == other.dtype
        assert torch.equal(mine, other)


def observed(device: torch.device) -> list[Tensor]:
    """Return all that is made of the logits of two views: scores, further statistics, tables, and SimCLR's loss."""
    weak, strong = logits_of(9, device, 0), logits_of(9, device, 1)
    index = torch.tensor([0, 3, 3, 5, 7, 1, -1, 2, 3]).to(device)
    table = SampleStatistics(8, device=device, further=FURTHER)
    further: FurtherStatistics = table.further
    uncertainty, inconsistency = scores.pseudo_el2n(weak), scores.symmetric_kl(weak, strong)
    table.update(index, uncertainty, inconsistency, further=further.observe(weak, strong))
    kept: list[Any] = [further[name].rows(slice(None)) for name in FURTHER]
    values = [uncertainty, inconsistency, table.score(0.5, 2.0), *kept, nt_xent(weak, strong)]
    return [value.cpu().nan_to_num(7) for value in values]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_scores_statistics_and_the_loss_of_a_warm_up_are_those_without_autocast(device: str) -> None:
    with device_of(device) as there:
        plain = observed(there)
        with torch.autocast(there.type, torch.bfloat16):
            mixed = observed(there)
    assert {value.dtype for value in mixed} <= {torch.float32, torch.int32}
    for mine, other in zip(mixed, plain, strict=True):
        assert torch.equal(mine, other)


def test_the_emulated_gpu_casts_under_autocast_as_torch_does_on_cuda() -> None:
    with emulated_cuda_gpu() as counts:
        weight = torch.ones(3, 3).to(CUDA).requires_grad_()
        counts.clear()
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            product = weight @ weight.detach()
            assert product.dtype == torch.bfloat16
            assert counts.launches.total() == 3, "two casts and a product"
            assert product.softmax(-1).dtype == product.sum().dtype == product.exp().dtype == torch.float32
            assert (product + product).dtype == torch.bfloat16
            assert torch.cat([product, weight]).dtype == torch.float32
            with torch.autocast("cuda", enabled=False):
                assert (weight @ weight).dtype == torch.float32
            assert (weight.double() @ weight.double()).dtype == torch.float64
        product.float().sum().backward()
        assert weight.grad is not None
        assert weight.grad.dtype == torch.float32
