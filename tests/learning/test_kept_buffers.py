from __future__ import annotations

import pytest
import torch

from assl_lightning.learning.kept_buffers import KeptBuffers

SPOILT = float("nan")


def buffers() -> list[torch.Tensor]:
    return [
        torch.tensor([1.5, -0.0, torch.inf]),
        torch.tensor(7),
        torch.tensor([True, False]),
        torch.tensor([[0.25]], dtype=torch.bfloat16),
        torch.arange(6.0).view(2, 3).T,
        torch.tensor([1 + 2j]),
        torch.tensor([1 + 2j], dtype=torch.complex128),
    ]


@pytest.mark.parametrize("is_put_back", [True, False])
def test_a_flag_decides_whether_buffers_get_back_their_numbers_also_from_what_is_not_finite(is_put_back: bool) -> None:
    present, kept = buffers(), KeptBuffers()
    for _ in range(2):  # the second time into the memory of the first
        kept.keep(present)
        for buffer in present:
            buffer.copy_(
                torch.full_like(buffer, SPOILT) if buffer.dtype.is_floating_point else torch.zeros_like(buffer)
            )
        spoilt = [buffer.clone() for buffer in present]
        kept.put_back_where(torch.tensor(is_put_back))
        for buffer, before, after in zip(present, buffers(), spoilt, strict=True):
            assert torch.equal(buffer.nan_to_num(9), (before if is_put_back else after).nan_to_num(9))
        kept.put_back()
        if not is_put_back:
            for buffer, before in zip(present, buffers(), strict=True):
                buffer.copy_(before)


def test_buffers_of_another_shape_are_kept_in_new_memory() -> None:
    kept = KeptBuffers()
    kept.keep([torch.zeros(2), torch.zeros(3)])
    grown = torch.tensor([1.0, 2.0, 3.0])
    kept.keep([grown])
    grown.zero_()
    kept.put_back()
    assert grown.tolist() == [1, 2, 3]
