"""A whole run whose steps a CUDA graph replays, on an emulated GPU: it equals a run without one, to the last bit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from lightning.pytorch import Callback

from assl_lightning.learning.simclr import SimCLR
from assl_lightning.learning.step_graph import WARM_UP_STEPS, StepGraph
from assl_lightning.loop.settings import RoundSettings
from tests.emulated_device import emulated_cuda_gpu
from tests.emulated_graph import emulated_graphs
from tests.same_run import differences_of_runs
from tests.small_runs import make_trainer, run
from tests.stripes import SGD

pytestmark = pytest.mark.e2e

STEPS = 6
SETTINGS = RoundSettings(rounds=1, initial_labels=6, labels_per_round=3, steps_per_round=STEPS, weight_ema=0.8)


class Counting(StepGraph):
    """Counts over all trainings of a run."""

    trained: int = 0
    replayed: int = 0

    def on_train_end(self, *arguments: object) -> None:
        assert self.reason is None
        type(self).trained += 1
        type(self).replayed += self.replayed_steps
        super().on_train_end(*arguments)  # type: ignore[arg-type]


def run_on_a_gpu(directory: Path, *callbacks: Callback) -> None:
    with emulated_cuda_gpu(), emulated_graphs():
        run(
            directory,
            settings=SETTINGS,
            make_trainer=partial(make_trainer, *callbacks, accelerator="gpu", devices=1),
            make_warm_up=partial(SimCLR, optimizer=SGD, steps=STEPS, batch_size=8),
        )


def test_a_run_with_a_graph_picks_and_learns_as_one_without_to_the_last_bit(tmp_path: Path) -> None:
    run_on_a_gpu(tmp_path / "plain")
    run_on_a_gpu(tmp_path / "graph", Counting())
    assert Counting.trained == 3, "the warm-up and two rounds"
    assert Counting.replayed == 3 * (STEPS - WARM_UP_STEPS)
    assert list(differences_of_runs(tmp_path / "plain", tmp_path / "graph")) == []
