"""Running averages against the recursion that was published, and against plain means."""

from __future__ import annotations

import pytest
import torch

from assl_lightning.learning.running_averages import RunningAverages


def test_as_published_a_constant_is_approached_geometrically() -> None:
    running = RunningAverages(0.9, warm_up=False, value=torch.tensor(0.25))
    for step in range(1, 30):
        running.update(value=torch.tensor(0.8))
        assert float(running["value"]) == pytest.approx(0.9**step * 0.25 + (1 - 0.9**step) * 0.8, rel=1e-5)


def test_with_a_warm_up_it_is_the_mean_of_all_steps_until_the_momentum_is_reached() -> None:
    values = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    running = RunningAverages(0.95, warm_up=True, value=torch.full((3,), 7.0))
    for step, value in enumerate(values[:20]):
        running.update(value=value)
        assert torch.allclose(running["value"], values[: step + 1].mean(0))
    expected = values[:20].double().mean(0)  # from here 0.95 is less than k / (k + 1)
    for value in values[20:]:
        expected = 0.95 * expected + 0.05 * value
        running.update(value=value)
    assert torch.allclose(running["value"].double(), expected, atol=1e-6)


def test_an_average_may_begin_with_its_first_value_as_published() -> None:
    running = RunningAverages(0.9, warm_up=False, from_first=("a",), a=torch.tensor(0.0), b=torch.tensor(0.0))
    running.update(a=torch.tensor(1.0), b=torch.tensor(1.0))
    assert [float(running[name]) for name in "ab"] == pytest.approx([1.0, 0.1])
    running.update(a=torch.tensor(0.0), b=torch.tensor(0.0))
    assert [float(running[name]) for name in "ab"] == pytest.approx([0.9, 0.09])


@pytest.mark.parametrize("warm_up", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_left_out(warm_up: bool, bad: float) -> None:
    running = RunningAverages(0.9, warm_up=warm_up, a=torch.tensor([0.5, 0.5]), b=torch.tensor(0.5))
    running.update(a=torch.tensor([0.1, 0.2]), b=torch.tensor(0.1))
    before = running["a"].clone()
    running.update(a=torch.tensor([0.1, bad]), b=torch.tensor(0.2))
    assert torch.equal(running["a"], before)
    assert float(running["b"]) != 0.5


@pytest.mark.parametrize("warm_up", [True, False])
def test_a_first_value_that_is_not_finite_leaves_the_next_one_the_first(warm_up: bool) -> None:
    running = RunningAverages(0.9, warm_up=warm_up, from_first=("a",), a=torch.tensor(7.0))
    for value in (float("nan"), 0.4):
        running.update(a=torch.tensor(value))
    assert float(running["a"]) == pytest.approx(0.4)


def test_it_is_saved_and_loaded() -> None:
    running, other = (RunningAverages(0.9, warm_up=True, a=torch.tensor(0.5)) for _ in range(2))
    running.update(a=torch.tensor(0.1))
    other.load_state_dict(running.state_dict())
    for each in (running, other):
        each.update(a=torch.tensor(0.7))
    assert torch.equal(running["a"], other["a"])
    assert float(running["a"]) == pytest.approx(0.4)
