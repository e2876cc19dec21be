"""The callback in `lightning` and in `pytorch_lightning`: their command lines, Hydra, and one another's checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]
from torch.utils.data import DataLoader, TensorDataset

from assl_lightning import ASSLScoreCallback

OF_LIGHTNING, OF_BOTH = "assl_lightning.ASSLScoreCallback", "assl_lightning.pytorch_lightning.ASSLScoreCallback"
PAIRS = [("lightning.pytorch", OF_LIGHTNING), ("lightning.pytorch", OF_BOTH), ("pytorch_lightning", OF_BOTH)]
QUIET = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "log_every_n_steps": 1}


def namespace(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed")


def make_module(library: Any) -> type[Any]:
    class Module(library.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(4, 3)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            images, index = batch
            weak = self.layer(images)
            strong = self.layer(-images).detach()
            return {"loss": weak.square().mean(), "index": index, "logits_weak": weak.detach(), "logits_strong": strong}

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def train_dataloader(self) -> Any:
            images = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
            return DataLoader(TensorDataset(images, torch.arange(12)), batch_size=4)

    return Module


def of_trainer(trainer: Any) -> ASSLScoreCallback:
    (found,) = [callback for callback in trainer.callbacks if isinstance(callback, ASSLScoreCallback)]
    return found


def picks(library: Any) -> list[int]:
    """What the callback picks that is made without a command line."""
    from assl_lightning import pytorch_lightning as both

    kind = both.ASSLScoreCallback if library.__name__ == "pytorch_lightning" else ASSLScoreCallback
    callback = kind(12, alpha=0.5)
    module = make_module(library)()
    library.Trainer(callbacks=[callback], enable_checkpointing=False, enable_model_summary=False, **QUIET).fit(module)
    return callback.query(5).tolist()


@pytest.mark.filterwarnings("ignore")  # of the command line's own packages
@pytest.mark.parametrize(("name", "target"), PAIRS)
def test_lightning_cli_takes_it_from_a_file_and_from_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, target: str
) -> None:
    pytest.importorskip("jsonargparse", reason="LightningCLI needs jsonargparse[signatures]")
    monkeypatch.chdir(tmp_path)
    library = namespace(name)
    cli = pytest.importorskip(f"{name}.cli").LightningCLI
    more = {"enable_checkpointing": False, "enable_model_summary": False}
    callback = {"class_path": target, "init_args": {"num_samples": 12, "alpha": 0.5}}
    Path("fit.yaml").write_text(yaml.safe_dump({"trainer": {**QUIET, **more, "callbacks": [callback]}}))
    typed = [f"--trainer.callbacks+={target}", "--trainer.callbacks.num_samples=12", "--trainer.callbacks.alpha=0.5"]
    typed += [f"--trainer.{key}={str(value).lower()}" for key, value in {**QUIET, **more}.items()]
    expected = picks(library)
    for arguments in (["--config", "fit.yaml"], typed):
        run = cli(make_module(library), args=["fit", *arguments], save_config_callback=None)
        assert of_trainer(run.trainer).query(5).tolist() == expected


@pytest.mark.parametrize(("name", "target"), PAIRS)
def test_hydra_makes_it_from_a_target(name: str, target: str) -> None:
    from hydra.utils import instantiate

    library = namespace(name)
    node = {"_target_": f"{name}.Trainer", **QUIET, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = instantiate({**node, "callbacks": [{"_target_": target, "num_samples": 12, "alpha": 0.5}]})
    trainer.fit(make_module(library)())
    assert of_trainer(trainer).query(5).tolist() == picks(library)
    assert isinstance(of_trainer(trainer), library.Callback)


def test_checkpoints_of_the_one_are_checkpoints_of_the_other(tmp_path: Path) -> None:
    namespace("pytorch_lightning")
    from assl_lightning import pytorch_lightning as both

    library = namespace("lightning.pytorch")
    theirs, ours = both.ASSLScoreCallback(12), ASSLScoreCallback(12)
    trainer = library.Trainer(callbacks=[theirs], enable_model_summary=False, default_root_dir=tmp_path, **QUIET)
    trainer.fit(make_module(library)())
    assert theirs.state_key == ours.state_key
    ours.load_state_dict(theirs.state_dict())
    assert ours.query(5).tolist() == theirs.query(5).tolist()
