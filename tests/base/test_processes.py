"""What several processes of one run tell one another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from assl_lightning.base import processes
from assl_lightning.base.interruption import OtherRankError
from assl_lightning.base.processes import from_first_rank, open_host_group, wait_for_all_ranks

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


@pytest.mark.parametrize(("backend", "devices"), [("nccl", [3]), ("gloo", None)])
def test_a_barrier_names_the_device_that_nccl_would_guess_from_the_rank(
    backend: str, devices: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: backend)
    monkeypatch.setattr(torch.distributed, "barrier", lambda *, device_ids: given.append(device_ids))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    wait_for_all_ranks()
    assert given == [devices]


class Group:
    """A group of all ranks."""


@pytest.mark.parametrize(("backend", "made"), [("nccl", ["gloo"]), ("gloo", [])])
def test_hosts_agree_in_one_group_on_the_cpu_which_is_opened_once(
    backend: str, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody, opened = Group(), []

    def new_group(*, backend: str) -> Group:
        opened.append(backend)
        return Group()

    monkeypatch.setattr(torch.distributed, "group", SimpleNamespace(WORLD=everybody))
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: backend)
    monkeypatch.setattr(torch.distributed, "new_group", new_group)
    assert open_host_group() is open_host_group()
    assert (open_host_group() is everybody) is (backend == "gloo")
    assert opened == made
