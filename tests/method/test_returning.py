"""The table of a fit in processes that Lightning starts and ends: ddp_spawn, ddp_fork and ddp_notebook."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from assl_lightning.method.returning import StateCarrier
from tests.shell import run_python

SCRIPT = """
import json, sys
sys.path.insert(0, {tests!r})
import torch
from torch.utils.data import DataLoader, TensorDataset
from lightning.pytorch import LightningModule, Trainer
from assl_lightning import ASSLScoreCallback, IndexedDataset, observe

class Plain(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = torch.nn.Linear(3, 4)
    def training_step(self, batch, batch_idx):
        (x,) = batch
        return (self.model(x) - self.model(x + 0.3)).square().mean() + self.model(x).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)  # the ranks draw another order

if __name__ == "__main__":
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
    pool = IndexedDataset(TensorDataset(x), names=[f"{{i}}.png" for i in range(24)])
    callback = ASSLScoreCallback(observe=observe.forward("model", 0, 1, head="model"), reset=False,
                                 further=["mean_probabilities", "view_variance", "forgetting"])
    for fit in range(2):
        trainer = Trainer(accelerator="cpu", devices={devices}, strategy={strategy!r}, max_epochs=1, logger=False,
                          callbacks=[callback], enable_checkpointing=False, enable_progress_bar=False)
        trainer.fit(Plain(), DataLoader(pool, batch_size=12 // {devices}, shuffle=False))
    print(json.dumps({{"visits": callback.statistics.visits.tolist(), "scores": callback.scores().tolist(),
                      "picks": callback.query(3, names=True),
                      "further": [each.rows(slice(None)).tolist() for each in callback.statistics.further.values()],
                      "seen": int(callback.features.seen(torch.arange(24)).sum())}}))
"""


@pytest.mark.e2e
@pytest.mark.parametrize("strategy", ["ddp_fork", pytest.param("ddp_spawn", marks=pytest.mark.slow)])
def test_the_table_of_started_processes_comes_back(strategy: str, tmp_path: Path) -> None:
    found = []
    for number, (devices, name) in enumerate(((1, "auto"), (2, strategy))):
        script = tmp_path / f"fit_{number}.py"
        script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), devices=devices, strategy=name))
        environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TMPDIR": str(tmp_path)}
        result = run_python(str(script), env=environment, timeout=200)
        found.append(json.loads(result.stdout.strip().splitlines()[-1]))
    alone, together = found
    assert together["visits"] == alone["visits"] == [2] * 24
    assert together["seen"] == alone["seen"] == 24
    assert together["picks"] == alone["picks"]
    torch.testing.assert_close(torch.tensor(together["scores"]), torch.tensor(alone["scores"]), rtol=1e-4, atol=1e-6)
    for rows, expected in zip(together["further"], alone["further"], strict=True):
        torch.testing.assert_close(torch.tensor(rows), torch.tensor(expected), rtol=1e-4, atol=1e-6)
    assert not list(tmp_path.glob("assl_lightning_*")), "nothing is left behind"


def trainer_that_starts(start_method: str | None, local_rank: int = 0) -> Any:
    launcher = SimpleNamespace(_start_method=start_method)
    return SimpleNamespace(strategy=SimpleNamespace(launcher=launcher), local_rank=local_rank)


def test_a_state_is_left_by_started_processes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    carrier = StateCarrier()
    carrier.leave(trainer_that_starts("fork"), {"a": 1})
    assert carrier.take() is None, "the process that calls fit keeps its table itself"
    carrier._process += 1
    carrier.leave(trainer_that_starts(None), {"a": 1})
    carrier.leave(trainer_that_starts("spawn", local_rank=1), {"a": 1})
    assert carrier.take() is None
    carrier.leave(trainer_that_starts("spawn"), {"a": torch.ones(2)})
    (directory,) = tmp_path.iterdir()
    assert directory.stat().st_mode & 0o77 == 0, "for this user alone"
    carrier._process -= 1
    left = carrier.take()
    assert left is not None
    assert left["a"].tolist() == [1, 1]
    assert carrier.take() is None
    assert not list(tmp_path.iterdir())

    for copied in (copy.deepcopy(carrier), pickle.loads(pickle.dumps(carrier))):
        assert copied._path != carrier._path, "a callback's copy takes nothing of the other's"
    monkeypatch.setattr(os, "getppid", os.getpid)
    started = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: started)
    assert pickle.loads(pickle.dumps(carrier))._path == carrier._path, "in a process that it has started"
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    carrier._process += 1
    carrier.leave(trainer_that_starts("spawn"), {"a": torch.ones(2)})
    assert list(tmp_path.iterdir())
    del carrier
    gc.collect()
    assert not list(tmp_path.iterdir()), "what nobody takes is removed with the callback"
