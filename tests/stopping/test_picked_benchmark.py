"""The comparison of `benchmarks/picked_accuracy.py`, on scores and errors that are made up."""

from __future__ import annotations

import torch

from assl_lightning.acquisition import Candidates, PowerSampling
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.stopping import PickedAccuracy
from benchmarks.picked_accuracy import Network, table


def make_network(rows: int = 200) -> Network:
    """A network that is wrong about the fifth of the candidates with the largest scores."""
    score, zero = torch.arange(1.0, rows + 1) / rows, torch.zeros(rows)
    statistics = CandidateStatistics(score, zero, zero + 1, zero, zero.int() + 1)
    return Network(Candidates(3 * torch.arange(rows), statistics), score > 0.8, PickedAccuracy((1.0,), (True,)))


def test_a_draw_is_compared_with_the_errors_of_its_own_picks() -> None:
    network = make_network()
    found = network.drawn_anew(PowerSampling(beta=1000, uniform_share=1e-12), 5, seed=0)
    assert found.wrong == (True,) * 5
    assert round(network.accuracy, 6) == 0.8


def test_the_plain_mean_is_too_low_and_lure_is_right() -> None:
    by_name = {row[0]: row[1:] for row in table([make_network()] * 2, draws=150).rows}
    mean = {name: float(row[1].split(" ±")[0]) for name, row in by_name.items()}
    assert mean["50 picks of power, drawn anew: plain mean"] < -8
    assert abs(mean["50 picks of power, drawn anew: LURE"]) < 1
    assert abs(mean["50 picks of random, drawn anew: mean"]) < 1
    assert by_name["the same: LURE"][:2] == ("2", "-80.0 ± 0.0")
