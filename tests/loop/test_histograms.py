from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from assl_lightning.loop.histograms import histogram

numbers = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50)


@given(numbers, st.integers(1, 12))
def test_the_counts_are_numpys(values: list[float], bins: int) -> None:
    if min(values) == max(values):
        return
    found = histogram(torch.tensor(values, dtype=torch.float64), torch.tensor(values[:3], dtype=torch.float64), bins)
    assert found is not None
    edges = np.array(found["edges"])
    np.testing.assert_array_equal(found["pool"], np.histogram(values, edges)[0])
    np.testing.assert_array_equal(found["queried"], np.histogram(values[:3], edges)[0])


def test_what_is_not_finite_is_left_out() -> None:
    found = histogram(torch.tensor([torch.nan, 0.0, 1.0, torch.inf]), torch.tensor([torch.nan]), bins=2)
    assert found == {"edges": [0.0, 0.5, 1.0], "pool": [1.0, 1.0], "queried": [0.0, 0.0]}


def test_equal_numbers_share_one_bin() -> None:
    assert histogram(torch.full((5,), 2.0), torch.full((2,), 2.0)) == {
        "edges": [2.0, 2.0],
        "pool": [5.0],
        "queried": [2.0],
    }


def test_there_is_none_of_no_number() -> None:
    assert histogram(torch.tensor([torch.nan]), torch.tensor([])) is None
