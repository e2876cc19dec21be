# mypy: disable-error-code="arg-type"
from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from assl_lightning import ASSLScoreCallback
from assl_lightning.base.arguments import real_number, require_one_of, whole_number
from assl_lightning.data.pool import Pool
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.loop import CheckpointSettings, RoundSettings, ScoreSettings


@pytest.mark.parametrize("given", [7, np.int64(7), np.uint8(7), np.array(7), torch.tensor(7)])
def test_a_whole_number_of_any_library_becomes_pythons(given: Any) -> None:
    assert type(whole_number("k", given)) is int
    assert whole_number("k", given) == 7


@pytest.mark.parametrize(
    "given",
    [7.0, "7", True, np.bool_(True), torch.tensor(True), None, [7], np.float32(7), torch.tensor(7.0), np.array([7])],
)
def test_what_is_no_whole_number_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="k must be a whole number; got"):
        whole_number("k", given)


@pytest.mark.parametrize("given", [0.5, np.float32(0.5), np.float64(0.5), torch.tensor(0.5)])
def test_a_number_of_any_library_becomes_pythons(given: Any) -> None:
    assert type(real_number("alpha", given)) is float
    assert real_number("alpha", given) == 0.5


@pytest.mark.parametrize("given", ["0.5", True, np.bool_(True), None, [0.5], torch.ones(1), torch.tensor(0.5j), 0.5j])
def test_what_is_no_number_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="alpha must be a number; got"):
        real_number("alpha", given)


@pytest.mark.parametrize("given", [float("nan"), np.inf])
def test_a_number_that_is_not_finite_is_refused(given: float) -> None:
    with pytest.raises(ValueError, match="alpha must be a finite number; got"):
        real_number("alpha", given)


def test_a_number_below_the_least_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1; got 0"):
        whole_number("k", np.int64(0), least=1)


def test_settings_hold_pythons_numbers_whatever_they_were_made_of() -> None:
    """config.yaml holds them, and so does each checkpoint, which loads plain values only."""
    whole, real = np.int64, np.float32
    settings = RoundSettings(
        seed=whole(3),
        rounds=whole(2),
        steps_per_epoch=whole(5),
        weight_ema=real(0.5),
        score=ScoreSettings(alpha=real(0.5), c_u=real(1), c_i=whole(2)),
        checkpoint=CheckpointSettings(every_n_steps=whole(4), every_n_seconds=real(2)),
    )
    kinds = {type(value) for part in (settings, settings.score, settings.checkpoint) for value in asdict(part).values()}
    assert kinds <= {int, float, str, bool, dict, type(None)}
    assert settings == RoundSettings(
        seed=3,
        rounds=2,
        steps_per_epoch=5,
        weight_ema=0.5,
        score=ScoreSettings(0.5, 1, 2),
        checkpoint=CheckpointSettings(4, 2),
    )


@pytest.mark.parametrize(
    "make",
    [
        partial(ASSLScoreCallback, 4.0),
        partial(ASSLScoreCallback, 4, alpha="0.8"),
        partial(RoundSettings, rounds=2.5),
        partial(Pool, "4", 2),
        partial(WeightEMA, True),
    ],
)
def test_what_is_no_number_is_refused_where_it_is_given(make: Any) -> None:
    with pytest.raises(TypeError, match="must be a"):
        make()


def test_a_state_of_numbers_from_numpy_loads_as_plain_values(tmp_path: Path) -> None:
    callback = ASSLScoreCallback(np.int64(6), alpha=np.float32(0.5))
    callback.setup(SimpleNamespace(strategy=None, precision_plugin=SimpleNamespace(convert_input=None)), None, "fit")
    torch.save(callback.state_dict(), tmp_path / "state.pt")
    again = ASSLScoreCallback(6, alpha=0.5)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.statistics.num_samples == 6
    pool = Pool(np.int64(6), np.int64(2))
    torch.save(pool.state_dict(), tmp_path / "pool.pt")
    Pool(6, 2).load_state_dict(torch.load(tmp_path / "pool.pt", weights_only=True))


@pytest.mark.parametrize("given", ["Post", "", None, ["post"], 0])
def test_a_word_that_is_none_of_several_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match=r"variance must be one of post, pre; got "):
        require_one_of("variance", given, Literal["post", "pre"])
    require_one_of("variance", "pre", Literal["post", "pre"])
