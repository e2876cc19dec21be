"""Every block of docs/your_trainer.md runs as it stands, around somebody's module; `...` in one is the training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

import assl_lightning as assl
from assl_lightning import ASSLScoreCallback, IndexedDataset, RegionGrid, observe
from tests.observe.fits import Module, el2n, fit, symmetric_kl

PAGE = (Path(__file__).parents[2] / "docs" / "your_trainer.md").read_text()
N = 260
LABELLED, UNLABELLED = range(40), range(40, N)


def block(words: str, language: str = "python") -> str:
    """Find the one block that has these words."""
    (found,) = (text for text in re.findall(rf"```{language}\n(.+?)```", PAGE, re.DOTALL) if words in text)
    return found  # type: ignore[no-any-return]


def run(words: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a block, with a training of `module` on `loader` in the place of `...`."""
    before, *after = block(words).split("\n...\n")
    exec(before, names)  # our own document
    for rest in after:
        loader = names["loader"](names["pool"]) if callable(names["loader"]) else names["loader"]
        fit(names["module"], loader, names["scores"], max_epochs=1)
        exec(rest, names)
    return names


class FixMatch(Module):
    """Calls its network for the weak, the labelled and the strong images."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (x, y), (u, _) = batch["labelled"], batch["unlabelled"]
        guess = self.model(u).detach().argmax(1)
        loss: Tensor = F.cross_entropy(self.model(x), y) + F.cross_entropy(self.model(u + 0.3), guess)
        return loss


class TwoViews(Module):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x = batch["image"] if isinstance(batch, dict) else batch[0]
        loss: Tensor = (self.model(x) - self.model(x + 0.3)).square().mean()
        return loss


def pool_of(count: int = N) -> TensorDataset:
    images = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return TensorDataset(images, torch.arange(count) % 4)


def make_loaders(pool: Any) -> dict[str, DataLoader[Any]]:
    parts = {"labelled": LABELLED, "unlabelled": UNLABELLED}
    return {name: DataLoader(Subset(pool, part), batch_size=20) for name, part in parts.items()}


class QuietTrainer:
    """Lightning's Trainer, for one epoch and without its output."""

    def __init__(self, callbacks: list[Any]) -> None:
        self.callbacks = callbacks

    def fit(self, module: Module, loader: Any) -> None:
        fit(module, loader, *self.callbacks, max_epochs=1)


def names_of(module: Module, **more: Any) -> dict[str, Any]:
    return {
        "assl": assl, "torch": torch, "ASSLScoreCallback": ASSLScoreCallback, "IndexedDataset": IndexedDataset,
        "observe": observe, "pool": IndexedDataset(pool_of()), "module": module, "loader": make_loaders,
        "make_loaders": make_loaders, "labelled": LABELLED, "unlabelled": UNLABELLED, "Trainer": QuietTrainer,
        "DataLoader": DataLoader, "Dataset": Dataset,
    } | more  # fmt: skip


def assert_unlabelled(picks: Tensor) -> None:
    assert len({*picks.tolist()}) == 100
    assert {*picks.tolist()} <= {*UNLABELLED}


def test_every_block_of_python_is_here() -> None:
    here = ("pool = IndexedDataset(pool)", "observe_labels", "model.eval()", "labelled=1", "forgetting")
    there = ("class Scenes", "ImageFolder", "your_loop")
    assert {block(words) for words in (*here, *there)} == {*re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)}


def test_the_three_lines() -> None:
    assert_unlabelled(run("pool = IndexedDataset(pool)", names_of(FixMatch(), pool=pool_of()))["to_label"])


def test_picks_that_cover_the_pool() -> None:
    names = run("labelled=1", names_of(FixMatch()))
    assert_unlabelled(names["to_label"])
    assert names["scores"].features.seen(torch.arange(N)).all()


def test_other_published_scores() -> None:
    names = run("forgetting", names_of(FixMatch()))
    assert_unlabelled(names["to_label"])
    mean = names["scores"].statistics.further["mean_probabilities"].rows(torch.tensor([*UNLABELLED]))
    torch.testing.assert_close(mean.sum(1), torch.ones(len(UNLABELLED)))


def test_several_labels_for_one_sample() -> None:
    names: dict[str, Any] = names_of(TwoViews())
    exec(block("observe_labels"), names)
    names["scores"] = ASSLScoreCallback(observe=names["observe_labels"])
    fit(names["module"], DataLoader(names["pool"], N), names["scores"], max_epochs=1)
    network, x = names["module"].model.eval(), pool_of().tensors[0]
    two = [torch.stack([torch.zeros_like(z), z], -1) for z in (network(x), network(x.flip(-1)))]
    for i in (0, 7):
        u = torch.stack([el2n(z) for z in two[0][i]]).mean()
        v = torch.stack([symmetric_kl(z, other) for z, other in zip(two[0][i], two[1][i], strict=True)]).mean()
        table = names["scores"].statistics
        torch.testing.assert_close(table.uncertainty_mean[i].double(), 0.8 * u, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(table.inconsistency_mean[i].double(), 0.8 * v, rtol=1e-4, atol=1e-7)


def test_one_pass_over_what_no_training_saw() -> None:
    """Its picks are those of Eq. 1 times Eq. 4, since one visit scales both bounds alike."""
    model = TwoViews().model
    names = run("model.eval()", names_of(TwoViews(), model=model))
    x = pool_of().tensors[0][40:]
    with torch.no_grad():
        z, other = model(x).double(), model(x.flip(-1)).double()
    score = torch.stack([el2n(a) * symmetric_kl(a, b) for a, b in zip(z, other, strict=True)])
    assert names["to_label"].tolist()[:20] == (score.argsort(descending=True) + 40).tolist()[:20]
    assert_unlabelled(names["to_label"])


def test_a_training_of_the_labelled_samples_alone_is_told_that_it_saw_no_others() -> None:
    callback = ASSLScoreCallback(observe=observe.forward("model"))
    fit(Module(), DataLoader(Subset(IndexedDataset(pool_of()), LABELLED), batch_size=20), callback, max_epochs=1)
    with pytest.raises(ValueError, match="only 0 of the 220 candidates, and a sample that was in no training batch"):
        callback.query(100, candidates=UNLABELLED)


def test_regions_of_scenes() -> None:
    images, height, width = pool_of(80).tensors[0].repeat_interleave(2, -1).repeat_interleave(2, -2), 8, 8

    def load(i: int) -> tuple[Tensor, Tensor]:
        return images[i], torch.zeros(height, width, dtype=torch.int64)

    def crop_and_flip(parts: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: part.flip(-1)[..., 2:, 2:] for key, part in parts.items()}

    module = TwoViews()
    module.model = nn.Conv2d(3, 4, 1)  # type: ignore[assignment]
    helpers = {"RegionGrid": RegionGrid, "load": load, "crop_and_flip": crop_and_flip, "height": height, "width": width}
    names = names_of(module, labelled_regions=[(0, 5)], **helpers)

    def loader(_: Any) -> DataLoader[Any]:
        scenes: Any = type("OfLength", (names["Scenes"],), {"__len__": lambda self: 80})
        return DataLoader(IndexedDataset(scenes()), batch_size=20)

    names.update(loader=loader)
    run("class Scenes", names)
    assert len(names["image"]) == 200
    assert names["image"].bincount().max() <= 3
    assert (names["right"] - names["left"], names["bottom"] - names["top"]) == (2, 2)


def test_names_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(400):
        folder = tmp_path / "photos" / str(i % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i % 256, i // 2, 7 * i % 256)).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)

    def folder_of(root: str) -> ImageFolder:
        return ImageFolder(root, transform=ToTensor())

    callback = ASSLScoreCallback(observe=observe.second_view("model"))
    files = {"ImageFolder": folder_of, "root": "photos", "scores": callback}
    names: dict[str, Any] = names_of(Module(), loader=lambda pool: DataLoader(pool, batch_size=50), **files)
    text = block("ImageFolder")
    assert text.count("ASSLScoreCallback.from_checkpoint") == 1
    before, after = text.split("\n...\n")
    exec(before, names)
    trainer = fit(names["module"], names["loader"](names["pool"]), callback, max_epochs=1)
    trainer.save_checkpoint("last.ckpt")
    exec(after, names)
    assert callback.query(3, names=True) == [names["pool"].names[i] for i in callback.query(3).tolist()]


def test_a_loop_of_ones_own() -> None:
    z = torch.randn(2, N, 4, generator=torch.Generator().manual_seed(0))
    names = run("your_loop", names_of(Module(), your_loop=lambda: [(torch.arange(N), *z)]))
    assert_unlabelled(names["to_label"])


def test_the_yaml() -> None:
    hydra, omegaconf = pytest.importorskip("hydra.utils"), pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(block("query_to", "yaml"))
    callback = hydra.instantiate(config.callbacks.assl)
    assert isinstance(callback, ASSLScoreCallback)
    assert (str(callback.query_to), callback.query_k) == ("to_label.csv", 100)
    assert isinstance(hydra.instantiate(config.data.train), IndexedDataset)
