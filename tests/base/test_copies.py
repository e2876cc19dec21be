"""Copies among the rows of a tensor, against a loop over them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from assl_lightning.base import copies
from assl_lightning.base.copies import first_copies, row_digests


def reference_first_copies(rows: Tensor) -> list[int]:
    listed = rows.flatten(1).tolist()
    return [listed.index(row) for row in listed]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8])
@pytest.mark.parametrize("shape", [(1,), (3,), (4, 2), (2, 3, 5)])
def test_each_row_is_given_the_first_that_equals_it(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    values = torch.randint(0, 4, (40, *shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    rows = values[torch.randint(0, 40, (90,), generator=torch.Generator().manual_seed(1))]
    assert first_copies(rows).tolist() == reference_first_copies(rows)


@pytest.mark.parametrize("start", [1, 2, 3])
def test_rows_may_begin_anywhere_in_memory_and_lie_in_any_order(start: int) -> None:
    memory = torch.randn(200, generator=torch.Generator().manual_seed(0))
    memory[start + 12 : start + 18] = memory[start : start + 6]
    rows = memory[start : start + 60].view(10, 6)
    assert first_copies(rows).tolist() == [0, 1, 0, 3, 4, 5, 6, 7, 8, 9]
    assert torch.equal(row_digests(rows), row_digests(rows.clone()))
    assert torch.equal(row_digests(rows), row_digests(rows.T.contiguous().T))


def test_one_bit_makes_another_row_and_nan_is_a_copy_of_nothing() -> None:
    rows = torch.ones(4, 5)
    rows[1, 3] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    rows[2:, 0] = torch.nan
    assert first_copies(rows).tolist() == [0, 1, 2, 3]


def test_digests_of_rows_of_few_bits_differ_and_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    # Black and white images differ in a few high bits alone.
    number = torch.arange(2**16)
    images = ((number[:, None] >> torch.arange(16)) & 1).float()
    digests = row_digests(images)
    assert len(digests.unique()) == 2**16
    monkeypatch.setattr(copies, "_BLOCK_CPU", 1)
    assert torch.equal(row_digests(images[:50]), digests[:50])


def test_equal_digests_of_unequal_rows_are_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "row_digests", lambda rows: torch.zeros(len(rows), dtype=torch.int64))
    assert first_copies(torch.tensor([[1.0], [2.0], [1.0]])).tolist() == [0, 1, 0]


def test_no_rows_have_no_copies() -> None:
    assert first_copies(torch.zeros(0, 3)).tolist() == []
