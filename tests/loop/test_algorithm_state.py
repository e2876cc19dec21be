"""What an algorithm keeps beside the weights, from round to round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from assl_lightning.learning.flexmatch import NEVER_SEEN, FlexMatch
from assl_lightning.learning.softmatch import SoftMatch
from assl_lightning.loop.settings import Init, RoundSettings
from assl_lightning.loop.training import RoundTraining
from assl_lightning.networks.small import SmallCNN
from tests.small_runs import run
from tests.stripes import CLASSES, SGD

pytestmark = pytest.mark.e2e


State = dict[str, Tensor]


def state_of(algorithm: Any) -> State:
    return {name: value.clone() for name, value in algorithm.state_dict().items()}


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[tuple[State, State]]:
    """The state of the algorithm at the first step and at the end of each round."""
    found: list[tuple[State, State]] = []
    fit = RoundTraining._fit

    def watched(self: RoundTraining, trainer: Any, algorithm: Any, number: int) -> None:
        step, starts = algorithm.training_step, []

        def first(batch: Any, batch_idx: int) -> Any:
            if trainer.global_step == 0:
                starts.append(state_of(algorithm))
            return step(batch, batch_idx)

        algorithm.training_step = first
        fit(self, trainer, algorithm, number)
        found.append((starts[0], state_of(algorithm)))

    monkeypatch.setattr(RoundTraining, "_fit", watched)
    return found


def settings(init: Init) -> RoundSettings:
    return RoundSettings(rounds=1, initial_labels=6, labels_per_round=3, steps_per_round=8, init=init)


def test_with_continue_it_is_carried_but_for_samples_that_have_a_label_now(
    tmp_path: Path, states: list[tuple[State, State]]
) -> None:
    records = run(
        tmp_path / "run",
        make_network=lambda: SmallCNN(CLASSES, width=4),
        make_algorithm=lambda network: FlexMatch(network, optimizer=SGD, threshold=0.4),
        settings=settings("continue"),
    )
    (first, end), (second, _) = states
    expected = end["taken_for"].clone()
    assert (expected[records[0].queried] != NEVER_SEEN).any()
    expected[records[0].queried] = NEVER_SEEN
    assert torch.equal(second["taken_for"], expected)
    assert torch.equal(second["learned"], end["learned"])
    assert (first["taken_for"] == NEVER_SEEN).all()


def test_with_rand_it_begins_anew(tmp_path: Path, states: list[tuple[State, State]]) -> None:
    run(
        tmp_path / "run",
        make_algorithm=lambda network: SoftMatch(network, optimizer=SGD),
        settings=settings("rand"),
    )
    for start, end in states:
        assert int(end["confidence.values_of_mean"]) == 8
        assert int(start["confidence.values_of_mean"]) == 0
        assert float(start["confidence.variance"]) == 1.0


@pytest.mark.parametrize("init", ["continue", "rand"])
def test_the_head_that_judges_goes_on_or_begins_with_the_weights_of_the_other(
    tmp_path: Path, states: list[tuple[State, State]], init: Init
) -> None:
    run(
        tmp_path / "run",
        make_algorithm=lambda network: SoftMatch(network, optimizer=SGD, balanced_head=True, teacher="ema"),
        settings=settings(init),
    )
    (first, end), (second, _) = states
    for leaf in ("weight", "bias"):
        assert torch.equal(first[f"judging_head.{leaf}"], first[f"network.head.{leaf}"])
        assert not torch.equal(end[f"judging_head.{leaf}"], end[f"network.head.{leaf}"]), "each has learned its own"
        expected = end if init == "continue" else first
        assert torch.equal(second[f"judging_head.{leaf}"], expected[f"judging_head.{leaf}"])
