"""What several processes of one run tell one another."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assl_lightning.base import processes
from assl_lightning.base.interruption import OtherRankError
from assl_lightning.base.processes import from_first_rank

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")


def test_the_others_hear_of_an_error_of_the_first_and_wait_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def broadcast(made: list[Any], src: int) -> None:
        assert src == 0
        if processes.is_first_rank():
            told[:] = made
        made[:] = told

    def fails() -> None:
        raise ValueError("nobody can be asked")

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)

    def both(make: Any) -> list[Any]:
        found = []
        for is_first in (True, False):
            monkeypatch.setattr(processes, "is_first_rank", lambda is_first=is_first: is_first)
            try:
                found.append(from_first_rank(make))
            except (ValueError, OtherRankError) as error:
                found.append(error)
        return found

    assert both(lambda: "labels") == ["labels", "labels"]
    first, second = both(fails)
    assert isinstance(first, ValueError)
    assert isinstance(second, OtherRankError)
    assert "ended with an error, which it prints (ValueError: nobody can be asked)" in str(second)
