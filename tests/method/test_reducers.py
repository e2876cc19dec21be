"""The reducers against loops over the definitions, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from assl_lightning.method import reducers

SOME: Any = "sum"


def average(numbers: list[float]) -> float:
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def mean_of(values: list[float], share: float = 1.0) -> float:
    """The mean of the largest ⌈share · n⌉; what is a whole number but for rounding is whole."""
    product = share * len(values)
    number = round(product) if abs(product - round(product)) < 1e-9 else math.ceil(product)
    return average(sorted(values, reverse=True)[:number])


def of_groups(values: list[float], groups: list[int], count: int) -> list[float]:
    return [average([x for x, g in zip(values, groups, strict=True) if g == group]) for group in range(count)]


@given(
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.integers(1, 120),
    st.sampled_from([0.01, 0.07, 0.1, 0.3, 0.5, 0.7, 1.0]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_each_reducer_is_its_definition(
    seed: int, images: int, places: int, share: float, ignored: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(images, places, generator=generator, dtype=torch.float64).to(dtype)
    counts = torch.rand(images, places, generator=generator) >= ignored
    classes = torch.randint(-1, 6, (images, places), generator=generator)  # −1 and 5 are none of 0 … 4
    kept = [row[of_row].tolist() for row, of_row in zip(values, counts, strict=True)]
    groups = [row[of_row].tolist() for row, of_row in zip(classes, counts, strict=True)]
    by_group = [of_groups(*rows, 5) for rows in zip(kept, groups, strict=True)]

    close(reducers.mean(values, counts), [average(row) for row in kept], dtype)
    close(reducers.top_share(values, share, counts), [mean_of(row, share) for row in kept], dtype)
    present = [average([x for x in row if not math.isnan(x)]) for row in by_group]
    close(reducers.per_class(values, classes, 5, counts), present, dtype)
    means, numbers = reducers.per_region(values, classes, 5, counts)
    close(means, by_group, dtype)
    assert numbers.tolist() == [[row.count(group) for group in range(5)] for row in groups]
    if ignored == 0:
        assert torch.equal(reducers.mean(values), reducers.mean(values, counts))
        assert torch.equal(reducers.top_share(values, share), reducers.top_share(values, share, counts))


def close(found: Tensor, expected: Any, dtype: torch.dtype) -> None:
    assert found.dtype == dtype
    precision = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(
        found.double(), torch.tensor(expected, dtype=torch.float64), rtol=precision, atol=0, equal_nan=True
    )


@pytest.mark.parametrize(("reducer", "of"), [("max", max), ("mean", average)])
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 3))))
def test_detections_are_reduced_by_image(
    reducer: Any, of: Callable[[list[float]], float], detections: list[tuple[int, float]]
) -> None:
    values = torch.tensor([value for _, value in detections], dtype=torch.float64)
    image = torch.tensor([number for number, _ in detections], dtype=torch.int64)
    found = reducers.per_detection(values, image, 6, empty=-7.0, reducer=reducer)
    by_image = [[value for number, value in detections if number == i] for i in range(6)]
    torch.testing.assert_close(
        found, torch.tensor([of(row) if row else -7.0 for row in by_image], dtype=torch.float64), rtol=1e-12, atol=0
    )


def test_what_is_broken_is_not_certain() -> None:
    values = torch.tensor([[0.1, torch.nan, 0.3], [0.1, 0.2, torch.nan]])
    counts = torch.tensor([[True, True, True], [True, True, False]])
    classes = torch.tensor([[0, 1, 1], [0, 0, 1]])
    for found in (
        reducers.mean(values, counts),
        reducers.top_share(values, 0.3, counts),
        reducers.per_class(values, classes, 2, counts),
    ):
        assert found.isnan().tolist() == [True, False]
    for reducer in ("max", "mean"):
        found = reducers.per_detection(values[0], torch.tensor([0, 1, 1]), 2, empty=0.0, reducer=reducer)
        assert found.isnan().tolist() == [False, True]


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\]; got 0"):
        reducers.top_share(torch.ones(1, 2), 0)
    with pytest.raises(ValueError, match=r"one column for each place, \(B, P\).*got \(2,\) and None"):
        reducers.mean(torch.ones(2))
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(2, 4\)"):
        reducers.mean(torch.ones(2, 3), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"one entry for each detection, \(D,\).*\(2,\) and \(3,\)"):
        reducers.per_detection(torch.ones(2), torch.ones(3, dtype=torch.int64), 3, empty=0.0)
    with pytest.raises(ValueError, match="reducer must be one of max, mean; got 'sum'"):
        reducers.per_detection(torch.ones(0), torch.ones(0, dtype=torch.int64), 3, empty=0.0, reducer=SOME)
