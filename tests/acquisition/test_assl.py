from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

from assl_lightning.acquisition.assl import ASSL
from assl_lightning.acquisition.base import Candidates
from assl_lightning.statistics import CandidateStatistics


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
    torch.testing.assert_close(strategy.scores(candidates), torch.tensor(expected))
    best = sorted(range(50), key=lambda row: -expected[row])[:7]
    assert strategy.acquire(candidates, 7, torch.Generator()).tolist() == candidates.index[best].tolist()


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
    with pytest.raises(ValueError, match=r"c_u .* must be finite and ≥ 0; got"):
        ASSL(c_u=value)
    with pytest.raises(ValueError, match=r"c_i .* must be finite and ≥ 0; got"):
        ASSL(c_i=value)


def test_an_unknown_factor_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="factors must be one of both, uncertainty, inconsistency; got 'u'"):
        ASSL(factors="u")  # type: ignore[arg-type]
