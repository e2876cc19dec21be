"""Several ranks as threads of one process, whose gather fails in seconds where ranks would wait for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


class Ranks:
    """Run a function in each of W ranks; `module.all_gather` asks equal shapes and types, as a process group does."""

    def __init__(self, world_size: int = 2, patience: float = 10.0) -> None:
        self.world_size = world_size
        self.calls = [0] * world_size
        self._barrier = threading.Barrier(world_size, timeout=patience)
        self._sent: list[Tensor | None] = [None] * world_size

    def module(self, rank: int) -> Any:
        def all_gather(rows: Tensor) -> Tensor:
            self.calls[rank] += 1
            self._sent[rank] = rows.clone()
            self._barrier.wait()
            sent = [each for each in self._sent if each is not None]
            assert len({(each.shape, each.dtype) for each in sent}) == 1, "ranks sent unlike tensors"
            gathered = torch.stack(sent)
            self._barrier.wait()
            return gathered

        return SimpleNamespace(device=torch.device("cpu"), all_gather=all_gather, global_rank=rank)

    def trainer(self, rank: int) -> Any:
        return SimpleNamespace(world_size=self.world_size, global_rank=rank, log_every_n_steps=50)

    def run(self, of_rank: Callable[[Any, Any], Any]) -> list[Any]:
        """Return what `of_rank(trainer, module)` returned on each rank, or the error that it raised."""

        def caught(rank: int) -> Any:
            try:
                return of_rank(self.trainer(rank), self.module(rank))
            except Exception as error:
                return error

        with ThreadPoolExecutor(self.world_size) as pool:
            return list(pool.map(caught, range(self.world_size)))
