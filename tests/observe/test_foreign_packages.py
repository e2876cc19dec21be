"""The three lines with the modules and data sets of other packages, where they are installed.

torchgeo, lightly and solo-learn need much that this package does not: install them elsewhere, without what they ask
for, so that torch and lightning stay as they are, and name the place in PYTHONPATH:

    pip install --no-deps --target DIR torchgeo==0.8.1 lightly==1.6.0 solo-learn==1.0.2 affine attrs click_plugins \\
        cligj docstring_parser einops geopandas jsonargparse kornia kornia_rs pycocotools pyogrio pyparsing pyproj \\
        rasterio rtree segmentation_models_pytorch shapely typeshed_client
    PYTHONPATH=DIR pytest -m slow tests/observe/test_foreign_packages.py
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from assl_lightning import ASSLScoreCallback, IndexedDataset, observe
from tests.observe.fits import assert_same_state, el2n, fit, state_of, symmetric_kl

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

N = 12


class Scenes(Dataset[Any]):
    """Samples as torchgeo's data sets give them."""

    def __init__(self, key: str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.image = torch.rand(N, 3, 32, 32, generator=generator)
        self.target = torch.randint(0, 3, (N, 32, 32) if key == "mask" else (N,), generator=generator)
        self.key = key

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"image": self.image[i], self.key: self.target[i]}


class Recorded:
    """What parts of a module put out while it trains, in float64, by hooks of the test's own."""

    def __init__(self, module: nn.Module, *names: str) -> None:
        self.calls: dict[str, list[Tensor]] = {name: [] for name in names}
        for name in names:
            module.get_submodule(name).register_forward_hook(self.hook(name))

    def hook(self, name: str) -> Callable[..., None]:
        def note(part: nn.Module, inputs: Any, output: Tensor) -> None:
            self.calls[name].append(output.detach().double())

        return note


def same_with_and_without(
    make: Callable[[], LightningModule], data: Dataset[Any], callback: ASSLScoreCallback, collate: Any = None
) -> None:
    states = []
    for callbacks, dataset in (((), data), ((callback,), IndexedDataset(data))):
        torch.manual_seed(0)
        module = make()
        fit(
            module,
            DataLoader(dataset, batch_size=6, shuffle=True, collate_fn=collate),
            *callbacks,
            validation=DataLoader(data, batch_size=6, collate_fn=collate),
        )
        state = state_of(module)
        states.append({name: value for name, value in state.items() if "metrics" not in name})
    assert_same_state(*states)
    assert callback.statistics.visits.tolist() == [2] * N


@pytest.fixture(scope="module")
def torchgeo() -> Any:
    return pytest.importorskip("torchgeo.trainers", exc_type=ImportError)


def test_torchgeos_classification(torchgeo: Any) -> None:
    def make() -> LightningModule:
        task: LightningModule = torchgeo.ClassificationTask(model="resnet18", in_channels=3, num_classes=3)
        return task

    one, two = (
        ASSLScoreCallback(observe=observe.forward("model")),
        ASSLScoreCallback(observe=observe.second_view("model")),
    )
    for callback in (one, two):
        same_with_and_without(make, Scenes("label"), callback)
    torch.manual_seed(0)
    module, callback = make(), ASSLScoreCallback(observe=observe.forward("model", head="model.fc"))
    recorded = Recorded(module, "model")
    data = DataLoader(Scenes("label"), batch_size=N)
    fit(module, DataLoader(IndexedDataset(Scenes("label")), batch_size=N), callback, validation=data, max_epochs=1)
    z = recorded.calls["model"][1]  # the first one checks the validation
    expected = 0.8 * torch.stack([el2n(row) for row in z])
    torch.testing.assert_close(callback.statistics.uncertainty_mean.double(), expected, rtol=1e-5, atol=1e-7)
    assert len(callback.query(3, labelled=[0, 1])) == 3


def test_torchgeos_segmentation(torchgeo: Any) -> None:
    def make() -> LightningModule:
        task: LightningModule = torchgeo.SemanticSegmentationTask(backbone="resnet18", in_channels=3, num_classes=3)
        return task

    def maker() -> Any:
        views = observe.second_view("model", undo=observe.mirror)
        return observe.dense(views, ignore_index=2, target="mask")

    same_with_and_without(make, Scenes("mask"), ASSLScoreCallback(observe=maker()))
    torch.manual_seed(0)
    module, callback, data = make(), ASSLScoreCallback(observe=maker()), Scenes("mask")
    recorded = Recorded(module, "model")
    loader = DataLoader(IndexedDataset(data), batch_size=N)
    fit(module, loader, callback, validation=DataLoader(data, batch_size=N), max_epochs=1, num_sanity_val_steps=0)
    weak, strong = recorded.calls["model"][1:3]  # after the training's own, and before the validation's
    strong = strong.flip(-1)
    for i in range(3):
        places = (data.target[i] != 2).nonzero().tolist()
        u = torch.stack([el2n(weak[i, :, r, c]) for r, c in places]).mean()
        v = torch.stack([symmetric_kl(weak[i, :, r, c], strong[i, :, r, c]) for r, c in places]).mean()
        torch.testing.assert_close(callback.statistics.uncertainty_mean[i].double(), 0.8 * u, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(callback.statistics.inconsistency_mean[i].double(), 0.8 * v, rtol=1e-4, atol=1e-6)


class ScenesOfBoxes(Scenes):
    def __getitem__(self, i: int) -> dict[str, Tensor]:
        boxes = torch.tensor([[4.0, 4.0, 20.0 + i % 8, 24.0]])
        return {"image": self.image[i], "bbox_xyxy": boxes, "label": self.target[i : i + 1] + 1}


def images_and_lists(samples: list[dict[str, Tensor]]) -> dict[str, Any]:
    """Collate as torchgeo's data sets of detection do: the boxes of each image stay by themselves."""
    lists = {key: [sample[key] for sample in samples] for key in samples[0]}
    stacked = ("image", "pool_index")
    return {key: torch.stack(parts) if key in stacked else parts for key, parts in lists.items()}


def test_torchgeos_detection(torchgeo: Any) -> None:
    pytest.importorskip("pycocotools", exc_type=ImportError)

    def make() -> LightningModule:
        task: LightningModule = torchgeo.ObjectDetectionTask(
            model="fcos", backbone="resnet18", weights=None, in_channels=3, num_classes=4
        )
        return task

    callback = ASSLScoreCallback(observe=observe.detections("model", empty=0.25))
    same_with_and_without(make, ScenesOfBoxes("label"), callback, images_and_lists)
    assert callback.scores().isfinite().all()
    assert len(callback.query(3)) == 3


def test_lightlys_dino() -> None:
    lightly = pytest.importorskip("lightly", exc_type=ImportError)
    from torchvision.datasets import FakeData
    from torchvision.models import resnet18

    heads, losses = (pytest.importorskip(f"lightly.{name}") for name in ("models.modules.heads", "loss"))
    data_of, transforms = (pytest.importorskip(f"lightly.{name}") for name in ("data", "transforms.dino_transform"))

    class Dino(LightningModule):
        """As in lightly's documents."""

        def __init__(self) -> None:
            super().__init__()
            backbone = nn.Sequential(*list(resnet18().children())[:-1])
            self.student_backbone, self.teacher_backbone = backbone, copy.deepcopy(backbone)
            self.student_head = heads.DINOProjectionHead(512, 64, 32, 40, freeze_last_layer=1)
            self.teacher_head = heads.DINOProjectionHead(512, 64, 32, 40)
            self.criterion = losses.DINOLoss(output_dim=40, warmup_teacher_temp_epochs=1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            views = batch[0]
            with torch.no_grad():
                teacher_out = [self.teacher_head(self.teacher_backbone(view).flatten(1)) for view in views[:2]]
            student_out = [self.student_head(self.student_backbone(view).flatten(1)) for view in views]
            loss: Tensor = self.criterion(teacher_out, student_out, epoch=self.current_epoch)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    transform = transforms.DINOTransform(global_crop_size=32, local_crop_size=16, n_local_views=2)
    images = FakeData(N, (3, 40, 40), num_classes=2)
    data = data_of.LightlyDataset.from_torch_dataset(images, transform=transform)

    def maker() -> Any:
        return observe.teacher_student("teacher_head", "student_head", student_call=1, features="teacher_backbone")

    same_with_and_without(Dino, data, ASSLScoreCallback(observe=maker()))
    torch.manual_seed(0)
    module, callback = Dino(), ASSLScoreCallback(observe=maker())
    recorded = Recorded(module, "teacher_head", "student_head")
    fit(module, DataLoader(IndexedDataset(data), batch_size=N), callback, max_epochs=1)
    weak, strong = recorded.calls["teacher_head"][0], recorded.calls["student_head"][1]
    rows = list(zip(weak, strong, strict=True))
    u, v = torch.stack([el2n(z) for z in weak]), torch.stack([symmetric_kl(z, other) for z, other in rows])
    torch.testing.assert_close(callback.statistics.uncertainty_mean.double(), 0.8 * u, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(callback.statistics.inconsistency_mean.double(), 0.8 * v, rtol=1e-4, atol=1e-7)
    assert callback.features.rows(torch.arange(N)).shape == (N, 512)
    assert lightly.__name__ in sys.modules


@pytest.fixture
def solo_simclr(monkeypatch: pytest.MonkeyPatch) -> Any:
    """solo-learn's SimCLR, of 2021, with what Lightning 2 lets it keep: no step of its training is changed.

    It imports a scheduler of lightning-bolts, which no Lightning 2 can import, and does not use it here; and it has a
    `validation_epoch_end`, for which Lightning 2 refuses a module.
    """
    bolts: Any = ModuleType("pl_bolts.optimizers.lr_scheduler")
    bolts.LinearWarmupCosineAnnealingLR = None
    monkeypatch.setitem(sys.modules, "pl_bolts", ModuleType("pl_bolts"))
    monkeypatch.setitem(sys.modules, "pl_bolts.optimizers", ModuleType("pl_bolts.optimizers"))
    monkeypatch.setitem(sys.modules, bolts.__name__, bolts)
    simclr = pytest.importorskip("solo.methods.simclr", exc_type=ImportError).SimCLR
    base = sys.modules["solo.methods.base"].BaseMethod
    monkeypatch.delattr(base, "validation_epoch_end", raising=False)
    return simclr


def test_solo_learns_simclr(solo_simclr: Any) -> None:
    import pytorch_lightning

    from assl_lightning.pytorch_lightning import ASSLScoreCallback as OfBoth

    with_index: Any = sys.modules["solo.utils.pretrain_dataloader"].dataset_with_index

    class Crops(Dataset[Any]):
        def __len__(self) -> int:
            return N

        def __getitem__(self, i: int) -> Any:
            x = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(i))
            return [x, x.flip(-1)], i % 3

    common = {"max_epochs": 2, "batch_size": 6, "optimizer": "sgd", "lars": False, "lr": 0.01, "weight_decay": 0.0}
    rates = {"classifier_lr": 0.1, "exclude_bias_n_norm": False, "accumulate_grad_batches": 1, "scheduler": "none"}
    warm = {"extra_optimizer_args": {}, "min_lr": 0.0, "warmup_start_lr": 0.0, "warmup_epochs": 0}
    crops = {"num_large_crops": 2, "num_small_crops": 0, "proj_output_dim": 8, "proj_hidden_dim": 16}
    network = {"encoder": "resnet18", "num_classes": 3, "backbone_args": {"cifar": True}, "temperature": 0.2}

    def trained(callback: Any, data: Any) -> Any:
        torch.manual_seed(0)
        module = solo_simclr(**common, **rates, **warm, **crops, **network)
        recorded = Recorded(module, "classifier")
        trainer = pytorch_lightning.Trainer(
            accelerator="cpu", max_epochs=1, callbacks=[callback] if callback else [], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        torch.manual_seed(1)
        trainer.fit(module, DataLoader(data, batch_size=6))
        return module, recorded.calls["classifier"]

    data = with_index(Crops)()
    callback = OfBoth(observe=observe.forward("classifier", weak=0, strong=1, head="classifier"))
    module, calls = trained(callback, IndexedDataset(data))
    same, _ = trained(None, data)
    assert_same_state(state_of(same), state_of(module))
    assert callback.statistics.visits.tolist() == [1] * N
    weak, strong = torch.cat(calls[0::2]), torch.cat(calls[1::2])
    u = torch.stack([el2n(z) for z in weak])
    v = torch.stack([symmetric_kl(z, other) for z, other in zip(weak, strong, strict=True)])
    torch.testing.assert_close(callback.statistics.uncertainty_mean.double(), 0.8 * u, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(callback.statistics.inconsistency_mean.double(), 0.8 * v, rtol=1e-4, atol=1e-7)
    assert len(callback.query(3, labelled=[0, 1])) == 3
