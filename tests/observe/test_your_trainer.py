"""The three lines in trainers that nobody here wrote, whose structure is rebuilt; see docs/your_trainer.md.

Each module notes what its network predicted for which sample, and the scores are compared with a float64 reference
from the definitions.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from assl_lightning import ASSLScoreCallback, IndexedDataset, SampleStatistics, observe
from assl_lightning.method import scores
from tests.observe.fits import (
    C,
    Module,
    N,
    Network,
    Pairs,
    assert_reference,
    el2n,
    fit,
    images,
    labels,
    pool,
    symmetric_kl,
)

LABELLED, UNLABELLED = range(6), range(6, N)


def streams() -> dict[str, DataLoader[Any]]:
    labelled, unlabelled = Subset(IndexedDataset(pool()), LABELLED), Subset(IndexedDataset(Pairs()), UNLABELLED)
    return {
        "labelled": DataLoader(labelled, batch_size=4, shuffle=True, drop_last=True),
        "unlabelled": DataLoader(unlabelled, batch_size=6, shuffle=True),
    }


class FixMatchOfSeparateCalls(Module):
    """A FixMatch port to Lightning that calls its network for labelled, weak and strong images in turn."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (x, y), ((weak, strong), _) = batch["labelled"], batch["unlabelled"]
        with torch.no_grad():
            z_weak = self.model(weak)
        z = self.model(x)
        z_strong = self.model(strong)
        self.note(weak=z_weak, strong=z_strong, index=positions(weak))
        confidence, guess = z_weak.softmax(1).max(1)
        consistency = (confidence > 0.3) * F.cross_entropy(z_strong, guess, reduction="none")
        loss: Tensor = F.cross_entropy(z, y) + consistency.mean()
        return loss


def positions(x: Tensor) -> Tensor:
    """Find which samples images are of, by their numbers, without the index."""
    return (x.flatten(1)[:, None] - images().flatten(1)).abs().sum(-1).argmin(1)


def test_a_fixmatch_port_with_a_call_for_each_view() -> None:
    module = FixMatchOfSeparateCalls()
    callback = ASSLScoreCallback(N, observe=observe.forward("model", weak=0, strong=2))
    fit(module, streams(), callback)
    assert_reference(callback, module)
    assert callback.statistics.visits.tolist() == [0] * 6 + [2] * 18


def test_other_published_scores_in_a_fixmatch_port() -> None:
    """Each equals a loop over its definition, in float64, of what the module noted."""
    module = FixMatchOfSeparateCalls()
    maker = observe.forward("model", weak=0, strong=2)
    callback = ASSLScoreCallback(
        N, alpha=0.3, observe=maker, further=["forgetting", "view_variance", "mean_probabilities"]
    )
    fit(module, streams(), callback, max_epochs=4)
    visits: dict[int, list[tuple[Tensor, Tensor]]] = {i: [] for i in UNLABELLED}
    for index, weak, strong in zip(*(module.seen[name] for name in ("index", "weak", "strong")), strict=True):
        for i, z, other in zip(index.long().tolist(), weak, strong, strict=True):
            visits[i].append((z.softmax(0), other.softmax(0)))
    further = callback.statistics.further
    for i, pairs in visits.items():
        guesses = [int(p.argmax()) for p, _ in pairs]
        assert int(further["forgetting"].rows(slice(None))[i]) == sum(a != b for a, b in itertools.pairwise(guesses))
        spread = torch.stack([torch.stack(pair).var(0, correction=0).sum() for pair in pairs]).mean()
        torch.testing.assert_close(further["view_variance"].rows(slice(None))[i].double(), spread, rtol=1e-4, atol=1e-8)
        mean = torch.zeros(C, dtype=torch.float64)
        for p, _ in pairs:
            mean = 0.3 * p + 0.7 * mean
        kept = further["mean_probabilities"].rows(slice(None))[i].double()
        torch.testing.assert_close(kept, mean / mean.sum(), rtol=1e-5, atol=1e-7)
    assert {len(pairs) for pairs in visits.values()} == {4}


def interleave(x: Tensor, size: int) -> Tensor:
    return x.reshape(-1, size, *x.shape[1:]).transpose(0, 1).reshape(-1, *x.shape[1:])


def de_interleave(x: Tensor, size: int) -> Tensor:
    return x.reshape(size, -1, *x.shape[1:]).transpose(0, 1).reshape(-1, *x.shape[1:])


class FixMatchOfOneCall(Module):
    """kekmodel's step: labelled, weak and strong images in one batch, interleaved for the sake of batch norms."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (x, y), ((weak, strong), _) = batch["labelled"], batch["unlabelled"]
        groups = (len(x) + 2 * len(weak)) // len(x)  # 2 mu + 1
        z = de_interleave(self.model(interleave(torch.cat([x, weak, strong]), groups)), groups)
        z_x, (z_weak, z_strong) = z[: len(x)], z[len(x) :].chunk(2)
        self.note(weak=z_weak, strong=z_strong, index=positions(weak))
        return F.cross_entropy(z_x, y) + F.cross_entropy(z_strong, z_weak.detach().argmax(1))


def test_a_fixmatch_port_with_one_interleaved_call() -> None:
    module = FixMatchOfOneCall()
    maker = observe.split("model", ["labelled", "weak", "strong"], interleave=4, head="model.fc")
    callback = ASSLScoreCallback(N, observe=maker)
    fit(module, streams(), callback, max_epochs=3)
    assert_reference(callback, module)
    assert callback.features.seen(torch.arange(N)).all()
    assert not {*LABELLED} & {*callback.query(5, labelled=LABELLED).tolist()}


def test_a_raw_loop() -> None:
    """kekmodel's own loop, without Lightning: a table, a line in the loop, a query."""
    torch.manual_seed(0)
    module = FixMatchOfOneCall()
    loader = DataLoader(IndexedDataset(Pairs()), batch_size=6, shuffle=True)
    statistics = SampleStatistics(N)
    for _ in range(2):
        for (weak, strong), _, index in loader:
            z_weak, z_strong = module.model(torch.cat([weak, strong])).chunk(2)
            module.note(weak=z_weak, strong=z_strong, index=positions(weak))
            statistics.update(index, scores.pseudo_el2n(z_weak), scores.symmetric_kl(z_weak, z_strong))
    callback = ASSLScoreCallback(N)
    callback.load_state_dict({"statistics": statistics.state_dict()})
    assert_reference(callback, module)
    assert statistics.query(6).tolist() == callback.query(6).tolist()


class MeanTeacher(Module):
    """CuriousAI's step: labelled and unlabelled images (label −1) in one batch, student and averaged teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.ema_model = copy.deepcopy(self.model).requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (x, x_ema), y = batch
        ema_logits, logits = self.ema_model(x_ema), self.model(x)
        self.note(weak=ema_logits, strong=logits, index=positions(x))
        return F.cross_entropy(logits, y, ignore_index=-1) + F.mse_loss(logits.softmax(1), ema_logits.softmax(1))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        for averaged, weight in zip(self.ema_model.parameters(), self.model.parameters(), strict=True):
            averaged.mul_(0.9).add_(weight.detach(), alpha=0.1)


def test_a_mean_teacher() -> None:
    module = MeanTeacher()
    callback = ASSLScoreCallback(observe=observe.teacher_student("ema_model", "model", head="ema_model.fc"))
    fit(module, DataLoader(IndexedDataset(Pairs()), batch_size=8, shuffle=True), callback)
    assert_reference(callback, module)
    assert len(callback.query(4, candidates=UNLABELLED, labelled=LABELLED)) == 4


class Dictionaries(Dataset[Any]):
    """Samples as torchgeo has them."""

    def __init__(self, dense: bool = False) -> None:
        self.dense = dense

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        image = images()[i]
        if not self.dense:
            return {"image": image, "label": labels()[i]}
        mask = (image.sum(0) > 0).long()
        mask[0, : i % 4] = 255
        return {"image": image, "mask": mask}


class TorchgeoData(LightningDataModule):
    """torchgeo's data module: it augments dictionaries on the device, and knows their keys."""

    def __init__(self, dataset: Any) -> None:
        super().__init__()
        self.train_dataset = dataset

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_dataset, batch_size=8, shuffle=True)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        assert batch.keys() <= {"image", "label", "mask"}
        return {key: value + 0.0 if key == "image" else value for key, value in batch.items()}


class ClassificationTask(Module):
    """torchgeo's task: one view, a dictionary, `self(x)`, and a loss that is logged and returned."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        y_hat = self(batch["image"])
        loss = F.cross_entropy(y_hat, batch["label"])
        self.log("train_loss", loss)
        self.note(weak=y_hat, index=positions(batch["image"]))
        return loss


def test_torchgeos_classification_with_one_view() -> None:
    module = ClassificationTask()
    callback = ASSLScoreCallback(observe=observe.forward("model"))
    fit(module, TorchgeoData(IndexedDataset(Dictionaries())), callback, max_epochs=1)
    expected = torch.zeros(N, dtype=torch.float64)
    for index, z in zip(module.seen["index"], module.seen["weak"], strict=True):
        expected[index.long()] = torch.stack([0.8 * el2n(row) for row in z])
    torch.testing.assert_close(callback.statistics.uncertainty_mean.double(), expected, rtol=1e-5, atol=1e-7)
    bound = callback.statistics.uncertainty_ucb(0.5)
    assert callback.query(5).tolist() == sorted(range(N), key=lambda i: (-float(bound[i]), i))[:5]


def test_torchgeos_classification_with_a_second_view() -> None:
    module = ClassificationTask()
    callback = ASSLScoreCallback(observe=observe.second_view("model", head="model.fc"))
    fit(module, DataLoader(IndexedDataset(Dictionaries()), batch_size=N), callback, max_epochs=1)
    with torch.no_grad():  # the last step's passes were made with these weights and statistics of batch norms
        module.eval()
        weak, strong = module.model(images()), module.model(images().flip(-1))
        module.seen = {"index": [torch.arange(N)], "weak": [weak.double()], "strong": [strong.double()]}
    assert_reference(callback, module)


class SegmentationTask(Module):
    """torchgeo's task: a class for each pixel, and pixels that do not count."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.model = nn.Conv2d(3, classes, 3, padding=1)  # type: ignore[assignment]
        self.classes = classes

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        y_hat = self.model(batch["image"])
        self.note(weak=y_hat, strong=y_hat, index=positions(batch["image"]))
        if self.classes == 1:
            return F.binary_cross_entropy_with_logits(y_hat.squeeze(1), (batch["mask"] == 1).float())
        return F.cross_entropy(y_hat, batch["mask"], ignore_index=255)


@pytest.mark.parametrize("reducer", ["mean", "top", "per_class"])
@pytest.mark.parametrize("classes", [2, 1])
def test_torchgeos_segmentation(classes: int, reducer: str) -> None:
    module = SegmentationTask(classes)
    network = observe.second_view("model", undo=observe.mirror)
    inner = observe.binary(network) if classes == 1 else network
    maker = observe.dense(inner, reducer=reducer, share=0.3, ignore_index=255, target="mask")  # type: ignore[arg-type]
    callback = ASSLScoreCallback(observe=maker)
    fit(module, DataLoader(IndexedDataset(Dictionaries(dense=True)), batch_size=N), callback, max_epochs=1)
    weak, strong = (two(module.model(view()), classes) for view in (images, flipped_images))
    strong = strong.flip(-1)
    for i in range(N):
        mask = Dictionaries(dense=True)[i]["mask"]
        places = (mask != 255).nonzero().tolist()
        u = torch.stack([el2n(weak[i, :, r, c]) for r, c in places])
        v = torch.stack([symmetric_kl(weak[i, :, r, c], strong[i, :, r, c]) for r, c in places])
        if reducer == "per_class":
            of = torch.tensor([int(weak[i, :, r, c].argmax()) for r, c in places])
            u, v = (torch.stack([values[of == each].mean() for each in of.unique()]) for values in (u, v))
        most = -int(-0.3 * len(places) // 1) if reducer == "top" else len(places)
        u, v = (values.sort(descending=True).values[:most].mean() for values in (u, v))
        table = callback.statistics
        torch.testing.assert_close(table.uncertainty_mean[i].double(), 0.8 * u, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(table.inconsistency_mean[i].double(), 0.8 * v, rtol=1e-4, atol=1e-7)


def flipped_images() -> Tensor:
    return images().flip(-1)


def two(z: Tensor, classes: int) -> Tensor:
    z = z.detach().double()
    return torch.cat([torch.zeros_like(z), z], 1) if classes == 1 else z


def test_an_image_without_a_pixel_that_counts_is_left_out() -> None:
    class Masked(Dictionaries):
        def __getitem__(self, i: int) -> dict[str, Tensor]:
            sample = super().__getitem__(i)
            return sample | {"mask": torch.full_like(sample["mask"], 255)} if i == 5 else sample

    maker = observe.dense(observe.forward("model"), ignore_index=255, target="mask")
    callback = ASSLScoreCallback(observe=maker)
    fit(SegmentationTask(), DataLoader(IndexedDataset(Masked(dense=True)), batch_size=8), callback, max_epochs=1)
    assert callback.statistics.visits.tolist() == [int(i != 5) for i in range(N)]


class HydraTemplate(Module):
    """lightning-hydra-template's MNISTLitModule: `forward`, `model_step` and metrics."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits

    def model_step(self, batch: Any) -> Any:
        x, y = batch
        logits = self.forward(x)
        return F.cross_entropy(logits, y), logits.argmax(1), y

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, _, _ = self.model_step(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss  # type: ignore[no-any-return]


def test_the_hydra_template_from_yaml_alone(tmp_path: Any) -> None:
    hydra = pytest.importorskip("hydra.utils")
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(
        f"""
        callbacks:
          assl:
            _target_: assl_lightning.ASSLScoreCallback
            query_to: {tmp_path}/to_label.csv
            query_k: 7
            observe:
              _target_: assl_lightning.observe.second_view
              name: net
              every: 2
              head: net.fc
        data:
          _target_: assl_lightning.IndexedDataset
          dataset: {{_target_: tests.observe.fits.pool}}
        """
    )
    callback = hydra.instantiate(config.callbacks.assl)
    dataset = hydra.instantiate(config.data)
    torch.manual_seed(0)
    fit(HydraTemplate(Network()), DataLoader(dataset, batch_size=6), callback, max_epochs=3)
    assert callback.statistics.visits.tolist() == [3 * (i // 6 % 2 == 0) for i in range(N)], "every other batch"
    picks = [int(line.split(",")[1]) for line in (tmp_path / "to_label.csv").read_text().splitlines()[1:]]
    assert picks == callback.query(7).tolist()


class Dino(Module):
    """lightly's DINO: crops of several sizes, a teacher that sees the two large ones, and a student that sees all.

    The heads' outputs are the logits of prototypes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = Network(8), Network(8)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        views, _, _ = batch  # (views, targets, filenames), as LightlyDataset gives them
        with torch.no_grad():
            teacher_out = [self.teacher(view) for view in views[:2]]
        student_out = [self.student(view) for view in views]
        self.note(weak=teacher_out[0], strong=student_out[1], index=positions(views[0]))
        pairs = [(t, s) for i, t in enumerate(teacher_out) for j, s in enumerate(student_out) if i != j]
        losses = [-(t.softmax(1) * s.log_softmax(1)).sum(1).mean() for t, s in pairs]
        return torch.stack(losses).mean()


class Crops(Dataset[Any]):
    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        x = images()[i]
        return [x, x.roll(1, -1), x[:, :3, :3], x[:, 1:, 1:]], int(labels()[i]), f"{i}.png"


def test_lightlys_dino() -> None:
    module = Dino()
    callback = ASSLScoreCallback(
        observe=observe.teacher_student("teacher", "student", student_call=1, head="teacher.fc")
    )
    names = [f"{i}.png" for i in range(N)]
    fit(module, DataLoader(IndexedDataset(Crops(), names=names), batch_size=8, shuffle=True), callback)
    assert_reference(callback, module)
    assert callback.query(3, names=True) == [f"{i}.png" for i in callback.query(3).tolist()]


class SoloSimclr(Module):
    """solo-learn's step: the index first, crops in a list, a backbone and an online classifier beside the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(48, 10), nn.BatchNorm1d(10), nn.ReLU())
        self.classifier = nn.Linear(10, C)
        self.projector = nn.Linear(10, 5)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        index, crops, targets = batch
        feats = [self.backbone(x) for x in crops]
        logits = [self.classifier(f.detach()) for f in feats]
        self.note(weak=logits[0], strong=logits[1], index=index)
        z = F.normalize(torch.cat([self.projector(f) for f in feats]))
        similarity = (z @ z.T / 0.2).fill_diagonal_(-torch.inf)
        positive = torch.arange(len(z)).roll(len(z) // 2)
        return F.cross_entropy(similarity, positive) + F.cross_entropy(torch.cat(logits), targets.repeat(2))


class SoloDataset(Dataset[Any]):
    """solo-learn's `dataset_with_index`."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        x = images()[i]
        return i, [x, x.roll(1, -1)], labels()[i]


def test_solo_learns_simclr() -> None:
    module = SoloSimclr()
    callback = ASSLScoreCallback(observe=observe.forward("classifier", weak=0, strong=1, head="classifier"))
    fit(module, DataLoader(IndexedDataset(SoloDataset()), batch_size=8, shuffle=True), callback)
    assert_reference(callback, module)
    assert len(callback.query(4, labelled=[0, 1])) == 4


class OneLogit(Module):
    """A network with one output, and a batch that is a bare tensor beside its targets."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Network(1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        z, other = self.model(x).squeeze(1), self.model(x + 0.2).squeeze(1)
        zero = torch.zeros_like(z)
        self.note(weak=torch.stack([zero, z], 1), strong=torch.stack([zero, other], 1), index=positions(x))
        loss: Tensor = F.binary_cross_entropy_with_logits(z, y.float()) + (z - other).square().mean()
        return loss


def test_a_network_with_one_logit() -> None:
    module = OneLogit()
    callback = ASSLScoreCallback(observe=observe.binary(observe.forward("model", 0, 1)))
    data = IndexedDataset(TensorDataset(images(), labels() % 2))
    fit(module, DataLoader(data, batch_size=8, shuffle=True), callback)
    assert_reference(callback, module)


CLI_CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: 2
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: assl_lightning.ASSLScoreCallback
      init_args:
        query_to: {directory}/to_label.csv
        query_k: 5
        observe:
          class_path: assl_lightning.observe.dense
          init_args:
            reducer: top
            inner:
              class_path: assl_lightning.observe.second_view
              init_args:
                name: model.body.0
"""


class CliData(LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(IndexedDataset(pool()), batch_size=8)


class CliModule(Module):
    def __init__(self) -> None:
        super().__init__()


@pytest.mark.filterwarnings("ignore")  # of jsonargparse's own
def test_lightning_cli_from_yaml_alone(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jsonargparse")
    from lightning.pytorch.cli import LightningCLI

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["trainer"])
    (tmp_path / "config.yaml").write_text(CLI_CONFIG.format(directory=tmp_path))
    cli = LightningCLI(
        CliModule,
        CliData,
        args=["fit", "--config", "config.yaml"],
        save_config_callback=None,
        seed_everything_default=7,
    )
    trainer: Any = cli.trainer
    (callback,) = (each for each in trainer.callbacks if isinstance(each, ASSLScoreCallback))
    assert callback.statistics.visits.tolist() == [2] * N
    picks = [int(line.split(",")[1]) for line in (tmp_path / "to_label.csv").read_text().splitlines()[1:]]
    assert picks == callback.query(5).tolist()
