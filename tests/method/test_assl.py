from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from assl_lightning.method import top_k
from assl_lightning.method.assl import ASSL
from assl_lightning.method.bounds import confidence_bound
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.candidates import Candidates


def make_candidates(rows: int, seed: int = 0) -> Candidates:
    generator = torch.Generator().manual_seed(seed)
    uncertainty, uncertainty_variance, inconsistency, inconsistency_variance = torch.rand(4, rows, generator=generator)
    return Candidates(
        index=torch.randperm(10 * rows, generator=generator)[:rows],
        statistics=CandidateStatistics(
            uncertainty,
            uncertainty_variance,
            inconsistency,
            inconsistency_variance,
            visits=torch.ones(rows, dtype=torch.int32),
        ),
    )


def reference_score(candidates: Candidates, row: int, c_u: float, c_i: float, factors: str) -> float:
    """Eq. 3, 5 and 6 for one sample."""
    statistics = candidates.statistics
    assert statistics is not None
    u = float(statistics.uncertainty_mean[row]) + c_u * math.sqrt(float(statistics.uncertainty_variance[row]))
    i = float(statistics.inconsistency_mean[row]) + c_i * math.sqrt(float(statistics.inconsistency_variance[row]))
    return {"both": u * i, "uncertainty": u, "inconsistency": i}[factors]


@pytest.mark.parametrize("factors", ["both", "uncertainty", "inconsistency"])
@pytest.mark.parametrize(("c_u", "c_i"), [(0.5, 2.0), (0.0, 0.0), (0.0, 2.0), (0.5, 0.0)])
def test_the_score_and_the_picks_are_those_of_the_papers_equations(
    factors: Literal["both", "uncertainty", "inconsistency"], c_u: float, c_i: float
) -> None:
    candidates = make_candidates(50)
    strategy = ASSL(c_u=c_u, c_i=c_i, factors=factors)
    expected = [reference_score(candidates, row, c_u, c_i, factors) for row in range(50)]
    selection = strategy.acquire(candidates, 7, torch.Generator())
    assert selection.scores is not None
    torch.testing.assert_close(selection.scores, torch.tensor(expected))
    best = sorted(range(50), key=lambda row: -expected[row])[:7]
    assert selection.index.tolist() == candidates.index[best].tolist()


class MadeTensors(TorchDispatchMode):
    """Notes how many numbers the tensors had that were made; views were there before."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and not func.is_view:
            self.numbers.append(made.numel())
        return made


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_the_picks_are_those_of_a_full_sort_however_large_the_chunks(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top_k, "_CHUNK", chunk)
    candidates = make_candidates(300)
    assert candidates.statistics is not None
    candidates.statistics.uncertainty_mean[:100] = 0.25
    candidates.statistics.uncertainty_variance[:100] = 0.25
    candidates.statistics.inconsistency_mean[:100] = 0.25
    candidates.statistics.inconsistency_variance[:100] = 0.25
    score = confidence_bound(candidates.statistics, 0.5, 2.0, "both")
    rows = sorted(range(300), key=lambda row: (-score[row], candidates.index[row].item()))
    selection = ASSL().acquire(candidates, 290, torch.Generator())
    assert selection.index.tolist() == candidates.index[rows[:290]].tolist()
    assert selection.scores is not None
    assert torch.equal(selection.scores, score)


def test_acquiring_makes_no_tensor_larger_than_a_chunk_but_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_k, "_CHUNK", 64)
    candidates = make_candidates(5000)
    with MadeTensors() as made:
        selection = ASSL().acquire(candidates, 20, torch.Generator())
    assert selection.scores is not None
    *others, largest = sorted(made.numbers)
    assert largest == selection.scores.numel() == 5000
    assert 64 <= others[-1] <= 64 + 2 * 20


def test_statistics_of_other_rows_than_the_candidates_are_an_error() -> None:
    candidates = make_candidates(5)
    assert candidates.statistics is not None
    fewer = replace(candidates, statistics=candidates.statistics.take(slice(0, 4)))
    with pytest.raises(ValueError, match=r"visits must be one number for each candidate, shape \(5,\); got \(4,\)"):
        ASSL().acquire(fewer, 1, torch.Generator())


def test_the_defaults_are_the_papers_constants() -> None:
    assert (ASSL().c_u, ASSL().c_i, ASSL().factors) == (0.5, 2.0, "both")


def test_a_sample_without_statistics_is_an_error_that_names_it() -> None:
    candidates = make_candidates(5)
    assert candidates.statistics is not None
    candidates.statistics.uncertainty_mean[3] = torch.nan
    with pytest.raises(ValueError, match=f"score of sample {int(candidates.index[3])} is nan"):
        ASSL().acquire(candidates, 1, torch.Generator())


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_weight_that_gives_no_upper_bound_is_an_error_that_names_it(value: float) -> None:
    with pytest.raises(ValueError, match=r"c_u must be (at least 0|a finite number); got"):
        ASSL(c_u=value)
    with pytest.raises(ValueError, match=r"c_i must be (at least 0|a finite number); got"):
        ASSL(c_i=value)


def test_an_unknown_factor_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="factors must be one of both, uncertainty, inconsistency; got 'u'"):
        ASSL(factors="u")  # type: ignore[arg-type]
