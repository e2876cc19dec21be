from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assl_lightning.method.features import SampleFeatures

N, D = 6, 3


def one_at_a_time(index: list[int], features: torch.Tensor) -> torch.Tensor:
    """The table's definition: the last row seen of each sample, rounded to float16."""
    table = torch.zeros(N, D)
    for row, sample in enumerate(index):
        if 0 <= sample < N:
            table[sample] = features[row].half().float()
    return table


def rows_seen(index: list[int]) -> list[bool]:
    return [sample in index for sample in range(N)]


@given(st.lists(st.integers(-1, N - 1), max_size=20), st.integers(1, 20))
def test_each_sample_has_the_features_it_was_last_seen_with(index: list[int], split: int) -> None:
    features = torch.randn(len(index), D, generator=torch.Generator().manual_seed(0))
    table = SampleFeatures(N)
    table.update(torch.tensor([-1]), torch.zeros(1, D))
    for part in range(0, len(index), split):
        table.update(torch.tensor(index[part : part + split], dtype=torch.int64), features[part : part + split])
    torch.testing.assert_close(table.rows(torch.arange(N)), one_at_a_time(index, features), rtol=0, atol=0)
    assert table.seen(torch.arange(N)).tolist() == rows_seen(index)


def test_distinct_indices_need_no_sort() -> None:
    index, features = torch.tensor([4, -1, 0]), torch.randn(3, D)
    sorted_table, unsorted_table = SampleFeatures(N), SampleFeatures(N)
    sorted_table.update(index, features)
    unsorted_table.update(index, features, assume_unique=True)
    assert torch.equal(sorted_table.rows(torch.arange(N)), unsorted_table.rows(torch.arange(N)))


def test_an_index_outside_the_pool_touches_no_sample() -> None:
    table = SampleFeatures(N)
    table.update(torch.tensor([N, N + 5, -2]), torch.ones(3, D))
    assert torch.equal(table.rows(torch.arange(N)), torch.zeros(N, D))
    assert not table.seen(torch.arange(N)).any()


def test_a_sample_whose_features_are_all_0_was_seen() -> None:
    table = SampleFeatures(N)
    assert table.seen(torch.tensor([4, 2])).tolist() == [False, False], "before anything was"
    table.update(torch.tensor([2]), torch.zeros(1, D))
    assert table.seen(torch.tensor([4, 2])).tolist() == [False, True]
    table.make_room(N + 2)
    assert table.seen(torch.arange(N + 2)).tolist() == [*rows_seen([2]), False, False]


def test_what_float16_cannot_hold_is_kept_as_its_largest_number_and_nan_as_nan() -> None:
    table = SampleFeatures(N)
    table.update(torch.tensor([0, 1]), torch.tensor([[1e9, -1e9, 1.0], [torch.nan, 0.0, torch.inf]]))
    assert table.rows(torch.tensor([0])).tolist() == [[65504.0, -65504.0, 1.0]]
    assert table.rows(torch.tensor([1])).isnan().tolist() == [[True, False, False]]
    assert table.rows(torch.tensor([1]))[0, 2] == 65504.0


def test_an_update_reads_nothing_from_the_device() -> None:
    table = SampleFeatures(N)
    for _ in range(2):  # the meta device has no numbers that could be read
        table.update(torch.empty(4, dtype=torch.int64, device="meta"), torch.empty(4, D, device="meta"))
    assert table.rows(torch.arange(2)).shape == (2, D)


def test_the_state_comes_back() -> None:
    table, other = SampleFeatures(N), SampleFeatures(N)
    table.update(torch.tensor([1, 3]), torch.randn(2, D))
    other.load_state_dict(table.state_dict())
    assert torch.equal(other.rows(torch.arange(N)), table.rows(torch.arange(N)))
    table.update(torch.tensor([1, 5]), torch.ones(2, D))
    assert not torch.equal(other.rows(torch.tensor([1])), table.rows(torch.tensor([1])))
    assert other.seen(torch.arange(N)).tolist() == rows_seen([1, 3])


def test_the_state_of_an_older_checkpoint_has_seen_what_is_not_0() -> None:
    table, other, untouched = SampleFeatures(N), SampleFeatures(N), SampleFeatures(N)
    table.update(torch.tensor([1, 3]), torch.tensor([[0.0, 1.0, 0.0], [torch.nan, 0.0, 0.0]]))
    other.load_state_dict({"num_samples": N, "values": table.state_dict()["values"]})
    assert other.seen(torch.arange(N)).tolist() == rows_seen([1, 3])
    untouched.load_state_dict({"num_samples": N, "values": None})
    assert untouched.seen(torch.arange(N)).tolist() == rows_seen([])
    untouched.update(torch.tensor([4]), torch.ones(1, D))
    assert untouched.seen(torch.arange(N)).tolist() == rows_seen([4])


def test_another_pool_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="kept for a pool of 6 samples, but this table has 7"):
        SampleFeatures(7).load_state_dict(SampleFeatures(N).state_dict())


def test_features_of_another_shape_are_errors() -> None:
    table = SampleFeatures(N)
    with pytest.raises(ValueError, match=r"one row for each of the 2 indices, shape \(B, d\); got shape \(3, 4\)"):
        table.update(torch.tensor([0, 1]), torch.zeros(3, 4))
    table.update(torch.tensor([0]), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="had 4 numbers a sample and now have 5"):
        table.update(torch.tensor([0]), torch.zeros(1, 5))


def test_rows_before_anything_was_seen_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="no features yet"):
        SampleFeatures(N).rows(torch.tensor([0]))
