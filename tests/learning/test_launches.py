"""What a training step asks of a GPU, counted on an emulated one: launches of kernels, waits of the host, copies.

The batch is small: the numbers of a step at the paper's 64 + 448 + 448 are the same.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from assl_lightning import ASSLScoreCallback, FixMatch
from assl_lightning.augment import Normalise, StrongAugment, WeakAugment
from assl_lightning.data.pool import Pool
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.non_finite import NonFinite
from assl_lightning.learning.settings import OnNonFinite
from assl_lightning.learning.step_graph import WARM_UP_STEPS, StepGraph
from assl_lightning.learning.step_seed import StepSeed
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.networks.resnet import ResNet18
from tests.emulated_device import Counts, emulated_cuda_gpu
from tests.emulated_graph import emulated_graphs
from tests.interpreted import interpreted_views

WARM_UP, STEPS = 2, 1  # the counted steps come after the first ones, which make tables and buffers
AT_MOST = {
    "views": 399,
    "normalisation": 24,
    "forward": 70,
    "loss and sums": 21,
    "backward": 103,
    "optimizer": 2,
    "weight average": 1,
    "score callback": 89,
    "non-finite": 5,
    "batch": 2,
    "Lightning": 3,
}
"""Launches of a step by part; lower a number with the code, and raise none without a reason."""
SGD = partial(torch.optim.SGD, lr=0.03, momentum=0.9, nesterov=True)


class Window(Callback):
    """Keep the counts of `STEPS` steps in the middle of a fit, from the start of one to the start of another."""

    def __init__(self, counts: Counts, first: int) -> None:
        self.counts, self.first = counts, first
        self.kept: dict[str, Counter[str]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.first:
            self.counts.clear()
        if batch_idx == self.first + STEPS:
            for name in ("launches", "waits", "copies"):
                self.kept[name] = Counter(getattr(self.counts, name))


def counted_steps(
    non_finite: OnNonFinite = "stop",
    *,
    has_triton: bool = False,
    graph: StepGraph | None = None,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
) -> dict[str, Counter[str]]:
    """Launches, waits and copies of `STEPS` steps of ResNet-18, as a round trains it."""
    images = torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    pool = Pool(40, 10)
    pool.label(torch.arange(10), torch.arange(10), 0)
    datamodule = PoolDataModule(
        pool,
        pool_images=images,
        test_images=images[:4],
        test_labels=torch.arange(4),
        normalise=Normalise((0.5,) * 3, (0.25,) * 3),
        weak=WeakAugment(),
        strong=StrongAugment(),
        batch_size=4,
        mu=2,
        steps_per_round=WARM_UP + (0 if graph is None else WARM_UP_STEPS) + STEPS + 1,
    )
    with emulated_cuda_gpu(has_triton=has_triton) as counts, emulated_graphs():
        window = Window(counts, WARM_UP + (0 if graph is None else WARM_UP_STEPS))
        score = ASSLScoreCallback(40, assume_unique=True)
        trainer = Trainer(
            accelerator="gpu",
            devices=1,
            precision=precision,
            max_epochs=1,
            callbacks=[
                window,
                StepSeed(0, 0),
                NonFinite(non_finite),
                score,
                WeightEMA(0.999),
                *([graph] if graph else []),
            ],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(FixMatch(ResNet18(10), optimizer=SGD), datamodule=datamodule)
    return window.kept


@pytest.fixture(scope="module")
def counted() -> dict[str, Counter[str]]:
    return counted_steps()


def test_a_step_launches_at_most_so_many_kernels(counted: dict[str, Counter[str]]) -> None:
    a_step = {part: count / STEPS for part, count in counted["launches"].items()}
    assert {part: count for part, count in a_step.items() if count > AT_MOST.get(part, 0)} == {}
    assert a_step["forward"] > 50, "counting works"
    assert a_step["backward"] > 50


def test_a_step_waits_for_nothing_and_copies_its_indices_at_once(counted: dict[str, Counter[str]]) -> None:
    assert counted["waits"] == Counter()
    assert sum(counted["copies"].values()) == STEPS


def test_leaving_steps_out_waits_for_nothing_and_launches_a_few_kernels(counted: dict[str, Counter[str]]) -> None:
    skipping = counted_steps("skip")
    assert skipping["waits"] == Counter()
    assert sum(skipping["copies"].values()) == STEPS
    more = skipping["launches"].total() - counted["launches"].total()
    assert more <= 20 * STEPS


@pytest.mark.slow
def test_in_bf16_a_step_casts_each_weight_and_its_gradient_and_has_at_most_260_launches_with_triton(
    counted: dict[str, Counter[str]],
) -> None:
    mixed = counted_steps(precision="bf16-mixed")
    assert mixed["waits"] == Counter()
    assert sum(mixed["copies"].values()) == STEPS
    parts = mixed["launches"]
    weights = 20 + 2 * 2  # of convolutions, and of two linear layers with a bias
    assert parts["forward"] - counted["launches"]["forward"] in range(weights * STEPS - STEPS, weights * STEPS + 1)
    by_kernels = {"batch", "views", "normalisation", "score callback"}  # which are 1 + 3 launches
    assert sum(parts[part] for part in parts.keys() - by_kernels) + 4 * STEPS <= 260 * STEPS


@pytest.mark.slow
def test_with_a_graph_a_step_launches_its_views_and_one_graph_and_a_few_kernels_more() -> None:
    graph = StepGraph()
    replayed = counted_steps(graph=graph)
    assert graph.replayed_steps == WARM_UP + STEPS + 1
    assert replayed["waits"] == Counter()
    assert sum(replayed["copies"].values()) == STEPS
    launches = replayed["launches"]
    assert launches.pop("graph") == STEPS
    assert launches.keys() == {"views", "normalisation", "batch", "non-finite", "Lightning", "loss and sums"}
    rest = launches.total() - launches["views"] - launches["normalisation"] - launches["batch"]
    assert rest <= 16 * STEPS


@pytest.mark.e2e  # for its time: the interpreter makes every view of a whole step
@pytest.mark.skipif(not interpreted_views(), reason="needs Triton 3.3, of torch's wheels for CUDA on Linux")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of the interpreter
def test_with_triton_a_step_launches_a_third_also_in_bf16(caplog: pytest.LogCaptureFixture) -> None:
    fused = counted_steps(has_triton=True, precision="bf16-mixed")
    assert "by torch's operators" not in caplog.text
    assert fused["waits"] == Counter()
    assert sum(fused["copies"].values()) == STEPS
    assert fused["launches"]["views"] == STEPS, "one launch"
    assert fused["launches"]["normalisation"] == 0
    assert fused["launches"]["score callback"] <= 4 * STEPS
    assert fused["launches"].total() <= 260 * STEPS


@pytest.mark.e2e  # likewise
@pytest.mark.skipif(not interpreted_views(), reason="needs Triton 3.3, of torch's wheels for CUDA on Linux")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_with_triton_and_a_graph_a_step_launches_ten() -> None:
    graph = StepGraph()
    replayed = counted_steps(has_triton=True, graph=graph)
    assert graph.replayed_steps == WARM_UP + STEPS + 1
    assert replayed["waits"] == Counter()
    assert replayed["launches"]["graph"] == replayed["launches"]["views"] == STEPS
    assert replayed["launches"].total() <= 10 * STEPS
