"""How the loops are compiled; that they give PIL's bits is in `test_ops.py`, `test_weak.py` and `test_strong.py`."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numba.core.caching
import numba.core.config
import numpy as np
import pytest
import torch

from assl_lightning.augment import compiled, dense
from assl_lightning.augment.ops import OPERATIONS
from assl_lightning.augment.plans import plan_for


def sum_of_squares(values: Any) -> Any:
    total = 0
    for value in values:
        total += value * value
    return total


def square(value: Any) -> Any:
    return value * value


def add_one(value: Any) -> Any:
    return value + 1


def one_and_a_square(value: Any) -> Any:
    return add_one(square(value))


def test_a_cpu_gets_the_compiled_plan_and_every_other_device_the_dense_one() -> None:
    assert plan_for(torch.device("cpu")) is compiled
    assert [plan_for(torch.device(kind)) for kind in ("cuda", "mps", "meta")] == [dense] * 3


def test_without_a_folder_to_keep_it_in_a_loop_is_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    loop: Any = compiled._jit_cached("int64(int64[::1])")(sum_of_squares)
    assert loop(np.arange(4)) == 14
    assert len(loop.signatures) == 1
    assert "the compiled loop sum_of_squares could not be kept (RuntimeError: cannot cache function" in caplog.text
    assert "set NUMBA_CACHE_DIR to an empty folder" in caplog.text


@pytest.mark.parametrize(
    ("fails", "error"),
    [("save", OSError(errno.ENOSPC, "No space left on device")), ("load", EOFError("Ran out of input"))],
)
def test_a_full_disk_or_a_torn_file_stops_no_loop_that_calls_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: str, error: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, fails, fail)
    for part in (square, add_one):
        monkeypatch.setitem(globals(), part.__name__, compiled._jit_inlined(part))
    loop: Any = compiled._jit_cached("int64(int64)")(one_and_a_square)
    assert loop(3) == 10


def test_an_error_of_the_loop_itself_is_not_hidden_by_the_cache() -> None:
    with pytest.raises(numba.core.errors.TypingError):
        compiled._jit_cached("int64(unicode_type)")(sum_of_squares)


def test_every_operation_has_a_kind_and_its_own_rows_in_the_tables() -> None:
    kinds, entries = compiled._KINDS, compiled._ENTRIES
    assert kinds[OPERATIONS.index("Identity")] == compiled._IDENTITY
    for kind, signed in ((compiled._GEOMETRIC, 5 * 21), (compiled._CURVE, 3 * 11)):
        assert sorted(set(entries[kinds == kind].flatten().tolist())) == list(range(signed))
    assert not entries[~np.isin(kinds, [compiled._GEOMETRIC, compiled._CURVE])].any()
