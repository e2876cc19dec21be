"""A device without float64, such as Apple's: it computes what the CPU does, or the CPU is taken in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from assl_lightning import ASSLScoreCallback
from assl_lightning.augment import Normalise, StrongAugment, WeakAugment
from assl_lightning.base.seeding import Draws
from assl_lightning.commands.train import main
from assl_lightning.learning import accelerators
from assl_lightning.method.settings import FURTHER
from tests import emulated_device
from tests.acquisition.test_contract import acquire, every_strategy, make_candidates, make_strategy
from tests.emulated_device import EmulatedTensor, emulated_apple_gpu, emulated_cuda_gpu
from tests.learning.contract import make_of_configuration
from tests.learning.test_waiting import LEARNERS, step_of

pytestmark = pytest.mark.filterwarnings("ignore:GPU available but not used")  # what the CPU does is compared

TINY = (
    "rounds=1",
    "warm_up=none",
    "steps_per_round=3",
    "algorithm.batch_size=8",
    "trainer.log_every_n_steps=1",
    "init=continue",
)


@pytest.fixture
def apple_gpu() -> Iterator[torch.device]:
    accelerators.auto_accelerator.cache_clear()
    with emulated_apple_gpu() as device:
        yield device
    accelerators.auto_accelerator.cache_clear()


def test_the_emulated_device_refuses_float64_and_tensors_of_the_cpu(apple_gpu: torch.device) -> None:
    there = torch.ones(3).to(apple_gpu)
    assert isinstance(there, EmulatedTensor)
    assert str(there.device) == "mps:0"
    with pytest.raises(TypeError, match="doesn't support float64"):
        there.double()
    with pytest.raises(RuntimeError, match="found mps:0 and cpu"):
        there + torch.ones(3)
    with pytest.raises(RuntimeError, match="indices should be either on cpu or"):
        torch.ones(3)[there.long()]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 17, 23)])
def test_views_have_the_cpus_bits(apple_gpu: torch.device, shape: tuple[int, int, int]) -> None:
    images = torch.randint(0, 256, (96, *shape), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images[:5] = 7  # of one level, which nothing can be stretched from
    row = torch.arange(96)
    normalise = Normalise(mean=(0.5,) * shape[0], std=(0.25,) * shape[0])
    for augment in (WeakAugment(), StrongAugment(max_magnitude=10, op_probability=1.0)):
        expected = augment(images, Draws(3, row))
        found = augment(images.to(apple_gpu), Draws(3, row.to(apple_gpu)))
        assert torch.equal(found.cpu(), expected)
        torch.testing.assert_close(normalise(found).cpu(), normalise(expected))


class FixMatchOfSomebody(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = nn.Linear(3, 4)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        index, x = batch
        weak, strong = self.layer(x), self.layer(x + 0.3)
        return {
            "loss": weak.square().mean(),
            "index": index,
            "logits_weak": weak.detach(),
            "logits_strong": strong.detach(),
            "features_weak": x,
            "labelled_index": index[:4],
            "features_labelled": x[:4] + 1,
        }

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(accelerator: str) -> ASSLScoreCallback:
    callback = ASSLScoreCallback(24, keep_features=True, further=FURTHER)
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(1))
    trainer = Trainer(
        accelerator=accelerator,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=2,
        log_every_n_steps=2,
    )
    trainer.fit(FixMatchOfSomebody(), DataLoader(TensorDataset(torch.arange(30) % 24, x), batch_size=10))
    return callback


def test_the_callback_keeps_the_cpus_statistics_in_anybodys_trainer(apple_gpu: torch.device) -> None:
    there, here = fit("mps"), fit("cpu")
    assert there.statistics.visits.device.type == "mps"
    torch.testing.assert_close(there.scores().cpu(), here.scores())
    assert torch.equal(there.query(9), here.query(9))
    for name in FURTHER:
        assert torch.equal(there.query(9, by=name), here.query(9, by=name))
        rows = [callback.statistics.further[name].rows(slice(None)) for callback in (there, here)]
        torch.testing.assert_close(rows[0].cpu(), rows[1])
    kept = [callback.features.rows(torch.arange(24)) for callback in (there, here)]
    assert torch.equal(kept[0].cpu(), kept[1])
    outside = (value.to(apple_gpu) for value in (torch.tensor([24]), torch.ones(1), torch.ones(1)))
    there.statistics.update(*outside, further=torch.zeros(1, 6).to(apple_gpu))
    with pytest.raises(IndexError, match=r"observed index 24, outside the pool's 0 … 23"):
        there.query(9)


@every_strategy
def test_a_strategy_picks_as_on_the_cpu(apple_gpu: torch.device, name: str) -> None:
    candidates = make_candidates(40)
    expected = acquire(make_strategy(name), candidates, 6)
    assert acquire(make_strategy(name), moved(candidates, apple_gpu), 6) == expected


def moved(value: Any, device: torch.device) -> Any:
    """`value` with every tensor and network in it on `device`, but for pool indices, which stay on the CPU."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, nn.Module):
        with torch.no_grad():
            copy = nn.Linear(value.in_features, value.out_features).requires_grad_(False)  # type: ignore[arg-type]
            copy.load_state_dict(value.state_dict())
        return copy.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        others = [field.name for field in fields(value) if field.name != "index"]
        return replace(value, **{name: moved(getattr(value, name), device) for name in others})
    return value


def devices_and_picks(
    tmp_path: Path, accelerator: str, monkeypatch: pytest.MonkeyPatch, *overrides: str
) -> tuple[str, list[int]]:
    """Of a whole run: the devices that it says it used, and the picks of its query."""
    run_dir = tmp_path / accelerator
    words = [*TINY, f"trainer.accelerator={accelerator}", f"run_dir={run_dir}", *overrides]
    monkeypatch.setattr("sys.argv", ["assl_lightning", *words])
    assert main() == 0
    records = [json.loads(line) for line in (run_dir / "rounds.jsonl").read_text().splitlines()]
    return OmegaConf.load(run_dir / "config.yaml").history.devices, records[0]["queried"]


@pytest.mark.parametrize("name", LEARNERS)
def test_steps_of_every_algorithm_are_those_of_the_cpu(apple_gpu: torch.device, name: str) -> None:
    make = make_of_configuration(name)
    here, there = (step_of(make(), device) for device in (torch.device("cpu"), apple_gpu))
    for _ in range(2):
        torch.testing.assert_close(there().cpu(), here())


@pytest.mark.e2e
@pytest.mark.any_device
def test_the_main_job_runs_there_unasked_and_picks_as_on_the_cpu(
    apple_gpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, picks_there = devices_and_picks(tmp_path, "auto", monkeypatch)
    here, picks_here = devices_and_picks(tmp_path, "cpu", monkeypatch)
    assert (there, here) == ("1 × mps", "1 × cpu")
    assert len(picks_here) == 10
    assert picks_there == picks_here


@pytest.mark.e2e
@pytest.mark.any_device
def test_the_main_job_runs_on_a_cuda_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accelerators.auto_accelerator.cache_clear()
    with emulated_cuda_gpu():
        devices, picks = devices_and_picks(tmp_path, "auto", monkeypatch, "non_finite=skip")
    accelerators.auto_accelerator.cache_clear()
    assert devices == "1 × cuda"
    assert len(set(picks)) == 10


def lacks_scatter(real: Any, operator: Any, *rest: Any) -> Any:
    if operator.overloadpacket.__name__ == "scatter_add_":
        raise NotImplementedError("The operator 'aten::scatter_add_' is not implemented for the MPS device.\nSee …")
    return real(operator, *rest)


def multiplies_in_float32(real: Any, operator: Any, *rest: Any) -> Any:
    result = real(operator, *rest)
    if operator.overloadpacket.__name__ != "mul" or not isinstance(result, EmulatedTensor):
        return result
    return EmulatedTensor(result.held.float().to(result.dtype))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            lacks_scatter,
            "cannot compute a training step (NotImplementedError: The operator 'aten::scatter_add_' is not",
        ),
        (multiplies_in_float32, "draws other random numbers than the CPU"),
    ],
)
def test_a_device_that_cannot_compute_a_step_leaves_it_to_the_cpu_and_says_why(
    apple_gpu: torch.device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Any, said: str
) -> None:
    monkeypatch.setattr("tests.emulated_device.dispatch", partial(fault, emulated_device.dispatch))
    assert [accelerators.auto_accelerator() for _ in range(2)] == ["cpu"] * 2
    assert f"training on the CPU, since this machine's GPU {said}" in caplog.text
    assert caplog.text.count("training on the CPU") == 1


def test_without_an_apple_gpu_lightning_chooses() -> None:
    accelerators.auto_accelerator.cache_clear()
    assert accelerators.auto_accelerator() == "auto"
