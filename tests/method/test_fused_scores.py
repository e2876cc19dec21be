"""The kernels of the score callback, in Triton's interpreter on the CPU, against `scores` and `SampleStatistics`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assl_lightning.method import fused_scores, scores
from assl_lightning.method.statistics import SampleStatistics
from tests.interpreted import interpreted_kernels

pytestmark = [
    pytest.mark.skipif(not interpreted_kernels(), reason="Triton comes with torch's wheels for CUDA on Linux"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, about what is not finite
]
CPU = torch.device("cpu")


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 30.0, 1e4])
def test_scores_agree_also_of_sure_and_of_nearly_equal_predictions(
    classes: int, dtype: torch.dtype, scale: float
) -> None:
    weak, strong = scale * torch.randn(2, 12, classes, generator=torch.Generator().manual_seed(classes))
    weak[0], strong[0] = 0, 0
    strong[1] = weak[1] + 1e-3
    weak[2, 0] = torch.nan
    weak, strong = weak.to(dtype), strong.to(dtype)
    observed = fused_scores._score(weak, strong)
    torch.testing.assert_close(observed[:, 0], scores.pseudo_el2n(weak), rtol=2e-5, atol=1e-37, equal_nan=True)
    torch.testing.assert_close(observed[:, 1], scores.symmetric_kl(weak, strong), rtol=2e-4, atol=1e-12, equal_nan=True)
    assert fused_scores._score(weak, None)[:, 1].eq(0).all()


def visited(table: SampleStatistics, index: torch.Tensor, observed: torch.Tensor) -> None:
    """Update by the kernel, wherever the table lies."""
    table._visit_in_one_launch(index, observed)


@pytest.mark.parametrize("variance", ["post", "pre"])
@pytest.mark.parametrize("repeats", [False, True])
def test_visits_agree_in_every_bit_where_no_sample_repeats_and_in_order_where_one_does(
    variance: Any, repeats: bool
) -> None:
    mine, other = (SampleStatistics(30, alpha=0.7, variance=variance) for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        index = torch.randperm(30, generator=generator)[:20]
        index = torch.where(torch.arange(20) % 7 == 0, -1, index // 4 if repeats else index)
        observed = torch.rand(20, 2, generator=generator)
        visited(mine, index, observed)
        other.update(index, *observed.unbind(1), assume_unique=False)
    assert torch.equal(mine.visits, other.visits)
    difference = (mine._values - other._values)[:-1].abs().max()
    assert difference <= (1e-6 if repeats else 0)
    mine.check()


@pytest.mark.parametrize("skips", [False, True])
def test_the_first_invalid_observation_is_noted_and_its_row_left_out(skips: bool) -> None:
    mine, other = (SampleStatistics(5, skip_non_finite=skips) for _ in range(2))
    good, bad = torch.ones(4, 2), torch.ones(4, 2)
    bad[2, 1], bad[3, 0] = torch.inf, torch.nan
    for index, observed in (
        (torch.tensor([0, 1, -1, 2]), good),
        (torch.tensor([0, 1, 4, 3]), bad),
        (torch.tensor([9, 0, 1, 2]), good),
    ):
        visited(mine, index, observed)
        other.update(index, *observed.unbind(1))
    assert torch.equal(mine.visits, other.visits)
    assert torch.equal(mine._values[:-1], other._values[:-1])
    assert torch.equal(mine._fault.place, other._fault.place)
    assert torch.equal(mine._updates, other._updates)
    with pytest.raises((ValueError, IndexError)) as mine_raises:
        mine.check()
    with pytest.raises((ValueError, IndexError)) as other_raises:
        other.check()
    assert str(mine_raises.value) == str(other_raises.value)


def test_the_trial_on_a_device_finds_no_fault_in_them() -> None:
    assert fused_scores.fault_of.__wrapped__(CPU) is None


def test_the_trial_finds_a_fault(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(fused_scores, "_score", lambda weak, strong: torch.zeros(len(weak), 2))
    assert fused_scores.fault_of.__wrapped__(CPU) == "gives other numbers than the operators do"
    assert "scores are computed by torch's operators, in about ninety launches a step: the kernel gives" in caplog.text
