"""`observe.detections` in a training of torchvision's FCOS, and its numbers against loops over the definitions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead

from assl_lightning import ASSLScoreCallback, IndexedDataset, observe
from assl_lightning.method import detections
from assl_lightning.method.detections import Detections
from tests.observe.fits import assert_same_state, el2n, fit, state_of, symmetric_kl

N, SIZE = 6, 24
SOME: Any = "some"


def logits(p: float) -> Tensor:
    return torch.tensor([p, 1 - p], dtype=torch.float64).log()


def iou(box: list[float], other: list[float]) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    both = max(width, 0) * max(height, 0)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (box, other)]
    return both / (sum(areas) - both) if sum(areas) > both else 0.0


def reference(view: Detections, other: Detections, least_iou: float, missing: float) -> list[float]:
    """The symmetric KL divergence of each detection, and of those that the other view alone has."""
    found: list[float] = []
    seen: set[int] = set()
    rows, others = (
        list(zip(each["boxes"].tolist(), each["labels"].tolist(), each["scores"].tolist(), strict=True))
        for each in (view, other)
    )
    for box, label, p in rows:
        overlap = {j: iou(box, b) for j, (b, of, _) in enumerate(others) if of == label}
        fits = {j: value for j, value in overlap.items() if value >= least_iou}
        seen |= fits.keys()
        q = others[max(fits, key=lambda j: fits[j])][2] if fits else missing
        found.append(float(symmetric_kl(logits(p), logits(q))))
    return found + [
        float(symmetric_kl(logits(p), logits(missing))) for j, (_, _, p) in enumerate(others) if j not in seen
    ]


def some_detections(generator: torch.Generator, count: int) -> Detections:
    corner = 10 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    size = 4 + 4 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return {
        "boxes": torch.cat([corner, corner + size], 1),
        "labels": torch.randint(0, 2, (count,), generator=generator),
        "scores": 0.05 + 0.9 * torch.rand(count, generator=generator, dtype=torch.float64),
    }


@given(st.integers(0, 2**31), st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.1, 0.3, 0.5]))
def test_two_views_detections_are_compared_by_overlap(seed: int, count: int, others: int, least: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    view, other = some_detections(generator, count), some_detections(generator, others)
    found = detections.inconsistency(view, other, least_iou=least, missing=0.05)
    expected = torch.tensor(reference(view, other, least, 0.05), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    expected = torch.tensor([float(el2n(logits(p))) for p in view["scores"].tolist()], dtype=torch.float64)
    torch.testing.assert_close(detections.uncertainty(view["scores"]), expected, rtol=1e-9, atol=1e-12)


def images() -> Tensor:
    return torch.rand(N, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


class Boxes(Dataset[Any]):
    def __init__(self) -> None:
        self.image = images()

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"image": self.image[i], "boxes": torch.tensor([[2.0, 3, 14, 15]]), "labels": torch.tensor([i % 2])}


class Detector(LightningModule):
    """torchvision's FCOS with a small backbone, which has a batch norm that a careless pass would move."""

    def __init__(self, lr: float, threshold: float = 0.05) -> None:
        super().__init__()
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Conv2d(3, 32, 3, 4, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        backbone.out_channels = 32  # type: ignore[assignment]
        anchors = AnchorGenerator(((8,),), ((1.0,),))
        head = FCOSHead(32, 1, 2, num_convs=1)
        nn.init.constant_(head.regression_head.bbox_reg.bias, 1.0)  # boxes of some pixels from the start
        more = {"score_thresh": threshold, "detections_per_img": 40}
        self.detector = FCOS(backbone, 2, SIZE, SIZE, anchor_generator=anchors, head=head, **more)
        self.lr = lr

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        targets = [{"boxes": b, "labels": y} for b, y in zip(batch["boxes"], batch["labels"], strict=True)]
        losses: dict[str, Tensor] = self.detector(batch["image"], targets)
        return torch.stack([*losses.values()]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def loader(*, is_indexed: bool = True, batch_size: int = 4) -> DataLoader[Any]:
    def as_lists(samples: list[dict[str, Tensor]]) -> dict[str, list[Tensor]]:
        return {key: [sample[key] for sample in samples] for key in samples[0]}

    data: Any = IndexedDataset(Boxes()) if is_indexed else Boxes()
    return DataLoader(data, batch_size=batch_size, shuffle=True, collate_fn=as_lists)


@pytest.mark.parametrize("reducer", ["max", "mean"])
def test_fcos_is_scored_by_its_detections(reducer: Any) -> None:
    maker = observe.detections("detector", reducer=reducer, missing=0.06, least_iou=0.3, empty=0.25)
    callback = ASSLScoreCallback(observe=maker)
    module = Detector(lr=0.0, threshold=0.0707)
    fit(module, loader(batch_size=N), callback, max_epochs=1)
    module.eval()  # the passes were made with these weights and statistics of batch norms
    numbers = []
    with torch.no_grad():
        found, other = module.detector([*images()]), module.detector([*images().flip(-1)])
    for view, mirrored in zip(found, other, strict=True):
        x0, y0, x1, y1 = mirrored["boxes"].T
        mirrored["boxes"] = torch.stack([SIZE - x1, y0, SIZE - x0, y1], 1)
        u = [float(el2n(logits(p))) for p in view["scores"].tolist()]
        v = reference(view, mirrored, 0.3, 0.06)
        numbers.append([max(of) if reducer == "max" else sum(of) / len(of) if of else 0.25 for of in (u, v)])
    table, expected = callback.statistics, 0.8 * torch.tensor(numbers, dtype=torch.float64)
    assert len({len(view["scores"]) for view in found}) > 1
    torch.testing.assert_close(table.uncertainty_mean.double(), expected[:, 0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(table.inconsistency_mean.double(), expected[:, 1], rtol=1e-4, atol=1e-6)
    assert callback.query(3).tolist() == sorted(range(N), key=lambda i: -float(callback.scores()[i]))[:3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_score_that_rounds_to_one_weighs_as_the_largest_below_it(dtype: torch.dtype) -> None:
    def found(score: float) -> Detections:
        boxes, labels = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([1])
        return {"boxes": boxes, "labels": labels, "scores": torch.tensor([score], dtype=dtype)}

    least = torch.finfo(dtype).eps
    both = [detections.inconsistency(found(score), found(0.5)) for score in (1.0, 1 - least)]
    torch.testing.assert_close(*both)
    assert float(both[0]) < 10


def test_an_image_without_a_detection_has_the_number_that_was_given() -> None:
    callback = ASSLScoreCallback(observe=observe.detections("detector", every=2, empty=0.25))
    fit(Detector(lr=0.0, threshold=0.99), loader(batch_size=3), callback)
    visits = callback.statistics.visits
    assert int(visits.sum()) == N, "three images in each of two steps of four"
    torch.testing.assert_close(callback.statistics.uncertainty_mean, 0.25 * (1 - 0.2**visits))


def test_a_training_is_the_same_to_the_last_bit() -> None:
    states = []
    for is_indexed in (False, True):
        module = Detector(lr=0.01)
        callbacks = [ASSLScoreCallback(observe=observe.detections("detector"))] if is_indexed else []
        fit(module, loader(is_indexed=is_indexed), *callbacks)
        states.append(state_of(module))
    assert_same_state(*states)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: observe.detections("detector", call=1), r"call 1 of 'detector' was asked for, .* called it 1 times"),
        (
            lambda: observe.detections("detector.transform"),
            r"'detector\.transform' must give in evaluation",
        ),
        (lambda: observe.dense(observe.detections("detector")), r"observe\.detections has no logits: give it alone"),
        (lambda: observe.detections("detector", reducer=SOME), "reducer must be one of max, mean; got 'some'"),
        (lambda: observe.detections("detector", missing=0), r"missing must be in \(0, 1\]; got 0"),
        (lambda: observe.detections("detector", least_iou=2), r"least_iou must be in \(0, 1\]; got 2"),
    ],
)
def test_mistakes_are_told(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        fit(Detector(lr=0.0), loader(batch_size=N), ASSLScoreCallback(observe=make()))
