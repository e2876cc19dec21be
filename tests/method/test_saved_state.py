"""The callback's table from a checkpoint, whatever else the checkpoint holds."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from assl_lightning import ASSLScoreCallback, IndexedDataset, observe

N = 12


class Plain(LightningModule):
    """As in lightning-hydra-template: hyperparameters are a network, a class and a partial optimizer."""

    def __init__(self, net: nn.Module, optimizer: Any, place: Any) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = net

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (x,) = batch
        loss: Tensor = self.net(x).square().mean() + self.net(x + 1).square().mean()
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit_and_save(path: Path, *callbacks: ASSLScoreCallback) -> None:
    module = Plain(nn.Linear(3, 4), partial(torch.optim.Adam, lr=0.1), PurePosixPath("a"))
    pool = IndexedDataset(TensorDataset(torch.randn(N, 3)))
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=1, callbacks=list(callbacks), **quiet)  # type: ignore[arg-type]
    trainer.fit(module, DataLoader(pool, batch_size=5))
    trainer.save_checkpoint(path)


SAVES_NETWORK = pytest.mark.filterwarnings("ignore:Attribute 'net' is an instance of `nn.Module`")


@SAVES_NETWORK
def test_a_checkpoint_gives_the_picks_of_its_fit_whatever_classes_it_names(tmp_path: Path) -> None:
    callback = ASSLScoreCallback(observe=observe.forward("net", 0, 1, head="net"), c_u=1.0, c_i=3.0)
    fit_and_save(tmp_path / "last.ckpt", callback)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "last.ckpt", weights_only=True)
    again = ASSLScoreCallback.from_checkpoint(tmp_path / "last.ckpt", c_u=1.0, c_i=3.0, names=[*"abcdefghijkl"])
    assert torch.equal(again.scores(), callback.scores())
    assert again.query(4, candidates=range(8)).tolist() == callback.query(4, candidates=range(8)).tolist()
    assert again.query(4, [5, 6, 7, 8], labelled=[0, 1]).tolist() == callback.query(4, [5, 6, 7, 8], [0, 1]).tolist()
    assert again.query(3, names=True) == ["abcdefghijkl"[i] for i in callback.query(3).tolist()]
    assert again.query(2, candidates=["d", "b"], names=True) == ["abcdefghijkl"[i] for i in again.query(2, [3, 1])]
    with pytest.raises(ValueError, match=r"names must be as many as the samples of .*last.ckpt, 12; got 2"):
        ASSLScoreCallback.from_checkpoint(tmp_path / "last.ckpt", names=["a", "b"])


@SAVES_NETWORK
def test_of_several_callbacks_one_must_be_named(tmp_path: Path) -> None:
    makers = {"one": observe.forward("net", 0, 1), "two": observe.forward("net", 1)}
    callbacks = [ASSLScoreCallback(observe=maker, name=name) for name, maker in makers.items()]
    fit_and_save(tmp_path / "last.ckpt", *callbacks)
    with pytest.raises(
        ValueError, match=r"has several ASSLScoreCallbacks; say which with name=…; .*\[one\], .*\[two\]"
    ):
        ASSLScoreCallback.from_checkpoint(tmp_path / "last.ckpt")
    two = ASSLScoreCallback.from_checkpoint(tmp_path / "last.ckpt", name="two")
    assert two.query(3).tolist() == callbacks[1].query(3).tolist()
    with pytest.raises(ValueError, match="there is no inconsistency; got 'both'"):
        two.query(3, factors="both")


class Evil:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


@SAVES_NETWORK
def test_no_code_of_a_checkpoint_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    callback = ASSLScoreCallback(3)
    callback.setup(
        Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"), Plain(nn.Linear(1, 1), 0, 0), "fit"
    )
    torch.save({"callbacks": {callback.state_key: callback.state_dict()}, "hyper_parameters": Evil()}, "evil.ckpt")
    assert ASSLScoreCallback.from_checkpoint("evil.ckpt").statistics.num_samples == 3
    assert not Path("ran").exists()


@pytest.mark.parametrize("legacy", [True, False])
def test_no_code_of_a_file_of_the_oldest_form_runs(
    legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if legacy:  # as torch saved before version 1.6
        torch.save({"hyper_parameters": Evil()}, "evil.ckpt", _use_new_zipfile_serialization=False)
    else:
        Path("evil.ckpt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ValueError, match=r"evil\.ckpt"):
        ASSLScoreCallback.from_checkpoint("evil.ckpt")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no zip", "cannot be read as a checkpoint of Lightning"),
        (b"train me", "cannot be read as a checkpoint of Lightning"),  # pickle takes its first letter for an opcode
        (
            {"callbacks": {"EarlyStopping": {}}},
            r"has no state of an ASSLScoreCallback; the callbacks in it: EarlyStopping",
        ),
        ({"state_dict": {}}, "has no state of an ASSLScoreCallback; the callbacks in it: none"),
        ([1, 2], "has no state of an ASSLScoreCallback"),
    ],
)
def test_a_file_without_the_callback_is_told(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        ASSLScoreCallback.from_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        ASSLScoreCallback.from_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_checkpoint_that_was_cut_off_is_told(share: float, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"callbacks": {}, "state_dict": {"weight": torch.ones(4000)}}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"a\.ckpt cannot be read as a checkpoint of Lightning"):
        ASSLScoreCallback.from_checkpoint(path)
