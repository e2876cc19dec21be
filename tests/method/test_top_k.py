"""Top-k against a slow reference written from its definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assl_lightning.method import top_k as top_k_module
from assl_lightning.method.top_k import RunningTopK, check_finite, chunks, in_index_order, top_k


def reference_top_k(score: list[float], index: list[int], budget: int) -> list[int]:
    """Repeatedly take the largest score; among equals the lower pool index."""
    left, picks = list(zip(score, index, strict=True)), []
    for _ in range(budget):
        best = max(left, key=lambda pair: (pair[0], -pair[1]))
        left.remove(best)
        picks.append(best[1])
    return picks


SCORES = [-math.inf, -1.0, -0.0, 0.0, 0.5, 0.5000001, 2.0, math.inf]


@st.composite
def scored_candidates(draw: st.DrawFn) -> tuple[list[float], list[int], int]:
    """Scores, many of them equal, pool indices in any order, and a budget."""
    score = draw(st.lists(st.sampled_from(SCORES), min_size=1, max_size=16))
    index = draw(st.lists(st.integers(0, 99), min_size=len(score), max_size=len(score), unique=True))
    return score, index, draw(st.integers(1, len(score)))


@given(scored_candidates(), st.sampled_from([torch.float16, torch.float32, torch.float64]))
def test_top_k_takes_the_largest_scores_best_first_and_of_equal_ones_the_lower_index(
    case: tuple[list[float], list[int], int], dtype: torch.dtype
) -> None:
    score, index, budget = case
    values = torch.tensor(score, dtype=dtype)
    picks = top_k(values, torch.tensor(index), budget)
    assert picks.dtype == torch.int64
    assert picks.tolist() == reference_top_k(values.tolist(), index, budget)


@given(scored_candidates(), st.lists(st.integers(0, 16)))
def test_scores_that_come_in_chunks_give_the_picks_that_they_give_at_once(
    case: tuple[list[float], list[int], int], cuts: list[int]
) -> None:
    score, index, budget = case
    best = RunningTopK(budget)
    edges = [0, *sorted(cuts), len(score)]
    for rows in map(slice, edges[:-1], edges[1:]):
        best.update(torch.tensor(score)[rows], torch.tensor(index)[rows])
    assert best.seen == len(score)
    assert best.picks().tolist() == reference_top_k(score, index, budget)


@pytest.mark.parametrize("order", ["ascending", "descending", "mixed"])
@pytest.mark.parametrize("levels", [1, 7, 1000])
@pytest.mark.parametrize("budget", [1, 40, 400, 1000])
def test_many_chunks_give_the_picks_of_a_full_sort(budget: int, levels: int, order: str) -> None:
    generator = torch.Generator().manual_seed(budget)
    score = torch.randint(levels, (1000,), generator=generator).float()
    if order != "mixed":
        score = score.sort(descending=order == "descending").values
    index = torch.randperm(5000, generator=generator)[:1000]
    best = RunningTopK(budget)
    for rows in torch.arange(1000).split(10):
        best.update(score[rows], index[rows])
    by_index = index.argsort()
    by_score = score[by_index].argsort(descending=True, stable=True)
    assert torch.equal(best.picks(), index[by_index[by_score[:budget]]])


def test_a_chunk_may_be_written_to_after_it_was_counted_in() -> None:
    best, score, index = RunningTopK(budget=2), torch.tensor([0.5, 0.7]), torch.tensor([4, 9])
    best.update(score, index)
    score.zero_()
    index.zero_()
    assert best.picks().tolist() == [9, 4]


def test_picks_can_be_asked_for_between_chunks() -> None:
    best = RunningTopK(budget=1)
    best.update(torch.tensor([0.5]), torch.tensor([7]))
    assert best.picks().tolist() == [7]
    best.update(torch.tensor([0.5, 0.1]), torch.tensor([3, 1]))
    assert best.picks().tolist() == [3]
    best.update(torch.tensor([]), torch.tensor([], dtype=torch.int64))
    assert best.picks().tolist() == [3]


def test_fewer_candidates_than_the_budget_are_an_error_when_the_picks_are_asked_for() -> None:
    best = RunningTopK(budget=3)
    best.update(torch.zeros(2), torch.arange(2))
    with pytest.raises(ValueError, match="budget of 3 samples exceeds the 2 candidates"):
        best.picks()
    with pytest.raises(ValueError, match="budget of 1 samples exceeds the 0 candidates"):
        RunningTopK(budget=1).picks()


def test_chunks_are_consecutive_and_hold_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_k_module, "_CHUNK", 3)
    assert [list(range(7))[rows] for rows in chunks(7)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [list(range(6))[rows] for rows in chunks(6)] == [[0, 1, 2], [3, 4, 5]]
    assert list(chunks(0)) == []


def test_top_k_works_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_k_module, "_CHUNK", 4)
    score = torch.tensor([0.5, 0.1, 0.9, 0.9, 0.5, 0.9, 0.0, 0.5, 0.7])
    index = torch.tensor([11, 4, 30, 8, 2, 9, 1, 40, 3])
    assert top_k(score, index, 6).tolist() == [8, 9, 30, 3, 2, 11]


def test_a_score_that_is_no_number_is_named_however_late_it_comes_and_however_full_the_budget_is() -> None:
    best = RunningTopK(budget=1)
    best.update(torch.tensor([5.0, 4.0, 3.0]), torch.tensor([9, 8, 5]))
    best.update(torch.tensor([1.0, math.nan]), torch.tensor([6, 7]))
    best.update(torch.tensor([math.nan, math.nan]), torch.tensor([12, 2]))
    best.update(torch.tensor([9.0, math.nan]), torch.tensor([0, 4]))
    with pytest.raises(ValueError, match=r"score of sample 2 is nan, not a number \(nor is that of 3 others\)"):
        best.picks()


@pytest.mark.gpu
@pytest.mark.parametrize("device_of_index", ["cpu", "cuda"])
@pytest.mark.parametrize("levels", [3, 10**6])
def test_scores_on_a_gpu_give_the_picks_of_the_cpu(levels: int, device_of_index: str) -> None:
    generator = torch.Generator().manual_seed(0)
    score = torch.randint(levels, (10**6,), generator=generator).float()
    index = torch.randperm(10**6, generator=generator)
    picks = top_k(score.cuda(), index.to(device_of_index), 1000)
    assert picks.device.type == "cpu"
    assert torch.equal(picks, top_k(score, index, 1000))


def test_a_score_that_is_no_number_is_an_error_that_names_the_lowest_index() -> None:
    score = torch.tensor([0.0, torch.nan, torch.nan, torch.inf])
    with pytest.raises(ValueError, match=r"score of sample 3 is nan, not a number \(nor is that of 1 others\)"):
        top_k(score, torch.tensor([1, 8, 3, 5]), budget=1)


def test_a_value_that_is_not_finite_is_an_error_that_names_the_lowest_index() -> None:
    with pytest.raises(ValueError, match="weight of sample 5 is inf, not a finite number"):
        check_finite("weight", torch.tensor([0.0, torch.nan, torch.inf]), torch.tensor([1, 8, 5]))
    check_finite("weight", torch.tensor([0.0, 1.0]), torch.tensor([1, 8]))


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_below_one_is_an_error(budget: int) -> None:
    with pytest.raises(ValueError, match=f"budget must be at least 1 sample; got {budget}"):
        top_k(torch.zeros(3), torch.arange(3), budget)
    with pytest.raises(ValueError, match=f"budget must be at least 1 sample; got {budget}"):
        RunningTopK(budget)


def test_a_budget_above_the_candidates_is_an_error_that_names_both() -> None:
    with pytest.raises(ValueError, match="budget of 4 samples exceeds the 3 candidates"):
        top_k(torch.zeros(3), torch.arange(3), 4)


@pytest.mark.parametrize("shape", [(2,), (3, 1), ()])
def test_scores_of_another_shape_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"score must be one number for each candidate, shape \(3,\); got"):
        top_k(torch.zeros(shape), torch.arange(3), 1)
    with pytest.raises(ValueError, match=r"score must be one number for each candidate, shape \(3,\); got"):
        RunningTopK(1).update(torch.zeros(shape), torch.arange(3))


def test_rows_follow_the_index_into_ascending_order_and_are_not_copied_when_they_are_in_it() -> None:
    index, row = torch.tensor([5, 1, 3]), torch.tensor([50.0, 10.0, 30.0])
    ascending, moved = in_index_order(index, row)
    assert ascending.tolist() == [1, 3, 5]
    assert moved.tolist() == [10.0, 30.0, 50.0]
    assert in_index_order(ascending, moved)[1] is moved
