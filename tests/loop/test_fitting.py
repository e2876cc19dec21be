"""What the trainings of a run share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from assl_lightning.base.interruption import Interruption
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.fitting import Fitting
from assl_lightning.loop.settings import RoundSettings


def make_fitting(path: Path, seed: int = 0) -> Fitting:
    return Fitting(pytest.fail, RoundSettings(seed=seed), RunDirectory(path), lambda: 0.0, Interruption())


def test_initial_weights_are_those_of_the_seed_and_leave_the_generator_as_it_was(tmp_path: Path) -> None:
    drawn = []
    for seed in (0, 0, 1):
        before = torch.get_rng_state()
        with make_fitting(tmp_path, seed).initial_weights():
            drawn.append(torch.rand(3))
        assert torch.equal(torch.get_rng_state(), before)

    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_initial_weights_open_no_context_on_any_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_context(*_: Any) -> torch.Tensor:
        pytest.fail("the state of a GPU's generator was asked for")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", open_context)
    monkeypatch.setattr(torch.cuda, "set_rng_state", open_context)

    with make_fitting(tmp_path).initial_weights():
        torch.rand(3)
