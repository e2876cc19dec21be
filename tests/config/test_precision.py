"""The precision that `trainer.precision=auto` stands for, on machines that have no GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch.accelerators.cpu import CPUAccelerator
from lightning.pytorch.accelerators.cuda import CUDAAccelerator

from assl_lightning.config.instantiate import trainer_factory
from assl_lightning.config.precision import with_precision
from assl_lightning.config.prepare import prepare
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.learning.accelerators import auto_precision
from assl_lightning.loop.run_config import RunConfig
from tests.emulated_device import emulated_cuda_gpu

Compose = Callable[..., Config]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let torch and Lightning say that there is a GPU, which computes in bfloat16 by itself, or emulates it."""

    def find(*, native: bool) -> None:
        monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: True))
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation
        )

    return find


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda", CUDAAccelerator()])
def test_a_gpu_made_for_it_trains_in_bfloat16(gpu: Callable[..., None], accelerator: object) -> None:
    gpu(native=True)
    assert auto_precision(accelerator) == "bf16-mixed"
    gpu(native=False)
    assert auto_precision(accelerator) == "32-true"


@pytest.mark.parametrize("accelerator", ["cpu", "mps", CPUAccelerator()])
def test_other_devices_beside_it_train_in_float32(gpu: Callable[..., None], accelerator: object) -> None:
    gpu(native=True)
    assert auto_precision(accelerator) == "32-true"


@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")
@pytest.mark.parametrize("accelerator", ["auto", "gpu"])
def test_a_machine_without_a_gpu_trains_in_float32(accelerator: str) -> None:
    assert auto_precision(accelerator) == "32-true"


def test_a_run_writes_down_which_it_is_and_keeps_it_on_another_device(
    compose_run: Compose, gpu: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = compose_run(f"run_dir={tmp_path / 'run'}")
    assert asked.trainer["precision"] == "auto", "the default"
    begun = prepare(replace(asked, trainer={**asked.trainer, "accelerator": "cpu"})).config
    assert begun.trainer["precision"] == "32-true"
    (tmp_path / "run").mkdir()
    RunConfig(tmp_path / "run").begin(begun.as_dict())
    gpu(native=True)
    with caplog.at_level(logging.INFO, "assl_lightning"):
        moved = with_precision(asked)
        new = with_precision(replace(asked, run_dir=str(tmp_path / "new")))
    assert (moved.trainer["precision"], new.trainer["precision"]) == ("32-true", "bf16-mixed")
    assert [record.message for record in caplog.records if record.name.endswith("config.precision")] == [
        "trainer.precision=auto: 32-true, in which the run began; a new run would train in bf16-mixed here",
        "trainer.precision=auto: bf16-mixed on this GPU; trainer.precision=32-true trains in float32",
    ]
    elsewhere = {**begun.as_dict(), "change_devices": True}
    elsewhere["trainer"] = {**moved.trainer, "accelerator": "auto"}
    RunConfig(tmp_path / "run").check(elsewhere)
    elsewhere["trainer"] = {**moved.trainer, "precision": "bf16-mixed"}
    with pytest.raises(ValueError, match=r"trainer\.precision was '32-true', now 'bf16-mixed'.*repeat its settings"):
        RunConfig(tmp_path / "run").check(elsewhere)


def test_a_run_keeps_its_precision_in_the_spelling_that_it_began_with(compose_run: Compose, tmp_path: Path) -> None:
    begun = prepare(compose_run(f"run_dir={tmp_path}", "trainer.precision=32")).config
    RunConfig(tmp_path).begin(begun.as_dict())
    moved = with_precision(compose_run(f"run_dir={tmp_path}"))
    assert moved.trainer["precision"] == begun.trainer["precision"] == 32
    RunConfig(tmp_path).check({**begun.as_dict(), "trainer": moved.trainer})


def test_what_is_asked_for_stays(compose_run: Compose, gpu: Callable[..., None]) -> None:
    gpu(native=True)
    for precision in ("32-true", "16-mixed"):
        config = compose_run(f"trainer.precision={precision}")
        assert with_precision(config) is config


def test_a_run_whose_configuration_is_damaged_is_named(compose_run: Compose, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("trainer: [")
    with pytest.raises(ConfigurationError, match=r"run_dir=.*config\.yaml cannot be read"):
        with_precision(compose_run(f"run_dir={tmp_path}"))


def test_a_trainer_that_is_made_without_a_run_has_one_too(compose_run: Compose, tmp_path: Path) -> None:
    make_trainer = trainer_factory(compose_run())
    with emulated_cuda_gpu():
        assert make_trainer(default_root_dir=str(tmp_path)).precision == "bf16-mixed"
        by_cpu = trainer_factory(compose_run("trainer.accelerator=cpu"))
        assert by_cpu(default_root_dir=str(tmp_path)).precision == "32-true"
