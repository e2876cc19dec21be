"""Count the operations of torch that a function runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls[func.overloadpacket.__name__] += 1
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.numel())
        return result


@pytest.fixture
def watch() -> Callable[[Callable[[], object]], tuple[Counter[str], int]]:
    """Return a function that runs another: how often each operation ran, and the size of the largest result."""

    def watch_run(run: Callable[[], object]) -> tuple[Counter[str], int]:
        with Watch() as watching:
            run()
        return watching.calls, watching.largest

    return watch_run
