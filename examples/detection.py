"""Choose images to label for object detection, while torchvision's FCOS learns from few boxes and from its own.

The module below returns its loss and knows nothing of assl_lightning. The detector has a small backbone and begins
without weights, so that seconds are enough for one class of objects, digits, and not for several. The pool holds scenes
of real photos and real digits (both come with scikit-learn). The truth of the pool is used at the end alone, to see
whether the picks hold more errors than random ones.
Run it: python examples/detection.py, a few minutes
"""

from __future__ import annotations

import math
import statistics
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from scipy.stats import t as student
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.ops import box_iou

from assl_lightning import ASSLScoreCallback, IndexedDataset, observe

SIZE, CLASSES = 48, 1  # pixels of a scene; a digit is found, whichever it is
THRESHOLD = 0.45  # below this score a detection does not count


class Scenes(Dataset):
    """One to three digits of 16 to 26 pixels, more or less transparent, on pieces of photos."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        photos = [torch.tensor(photo).movedim(-1, 0) / 255 for photo in load_sample_images().images]
        digits = load_digits()

        def draw(low: int, high: int) -> int:
            return int(torch.randint(low, high, (), generator=generator))

        self.scenes: list[dict[str, Tensor]] = []
        for _ in range(count):
            photo = photos[draw(0, 2)]
            top, left = draw(0, photo.shape[1] - SIZE), draw(0, photo.shape[2] - SIZE)
            image = photo[:, top : top + SIZE, left : left + SIZE].clone()
            boxes, labels = [], []
            for _ in range(draw(1, 4)):
                which, size = draw(0, len(digits.target)), draw(16, 27)
                ink = F.interpolate(torch.tensor(digits.images[which])[None, None].float() / 16, size=(size, size))[0]
                top, left = draw(0, SIZE - size), draw(0, SIZE - size)
                piece = image[:, top : top + size, left : left + size]
                opacity = ink * (0.4 + 0.6 * torch.rand((), generator=generator))
                colour = (piece.mean((1, 2), keepdim=True) < 0.5).float()  # light on dark, or dark on light
                piece += opacity * (colour - piece)
                boxes.append([left, top, left + size, top + size])
                labels.append(0)
            self.scenes.append(
                {"image": image, "boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels)}
            )

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return self.scenes[i]


def as_lists(samples: list[dict[str, Tensor]]) -> dict[str, list[Tensor]]:
    """Put samples into a batch: what each has under a key, in a list."""
    return {key: [sample[key] for sample in samples] for key in samples[0]}


class SelfTrainedDetector(LightningModule):
    """Somebody's training: boxes that the detector is sure of become targets of a distorted image."""

    def __init__(self) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.GroupNorm(8, outputs), nn.ReLU())

        backbone = nn.Sequential(layer(3, 16, 2), layer(16, 32), layer(32, 64, 2), layer(64, 64))
        backbone.out_channels = 64
        self.detector = FCOS(
            backbone,
            CLASSES,
            min_size=SIZE,
            max_size=SIZE,
            anchor_generator=AnchorGenerator(((8,),), ((1.0,),)),
            head=FCOSHead(64, 1, CLASSES, num_convs=1),
            score_thresh=0.1,
            nms_thresh=0.3,
            detections_per_img=10,
        )
        nn.init.constant_(self.detector.head.regression_head.bbox_reg.bias, 1.0)  # boxes of 16 pixels to begin with

    def training_step(self, batch: dict[str, dict[str, list[Tensor]]], batch_idx: int) -> Tensor:
        labelled, images = batch["labelled"], batch["unlabelled"]["image"]
        targets = [
            {"boxes": boxes, "labels": labels}
            for boxes, labels in zip(labelled["boxes"], labelled["labels"], strict=True)
        ]
        losses = [*self.detector(labelled["image"], targets).values()]
        self.detector.eval()
        with torch.no_grad():
            found = self.detector(images)
        self.detector.train()
        distorted, sure = [], []
        for image, each in zip(images, found, strict=True):
            is_box = (each["boxes"][:, 2:] - each["boxes"][:, :2] > 4).all(1)
            kept = is_box & (each["scores"] > 0.6)
            if kept.any():
                distorted.append(image + 0.1 * torch.randn_like(image))
                sure.append({"boxes": each["boxes"][kept], "labels": each["labels"][kept]})
        if sure:
            losses += [0.5 * loss for loss in self.detector(distorted, sure).values()]
        return torch.stack(losses).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=6e-3)


def errors_of(module: SelfTrainedDetector, scenes: list[dict[str, Tensor]]) -> Tensor:
    """Return the missed objects and false detections of each scene, (N,); it needs the truth."""
    module.eval()
    with torch.no_grad():
        predicted = module.detector([scene["image"] for scene in scenes])
    errors = []
    for found, scene in zip(predicted, scenes, strict=True):
        kept = found["scores"] >= THRESHOLD
        overlaps = box_iou(found["boxes"][kept], scene["boxes"]) >= 0.5
        fits = overlaps & (found["labels"][kept][:, None] == scene["labels"])
        errors.append(int((~fits.any(0)).sum()) + int((~fits.any(1)).sum()))
    return torch.tensor(errors, dtype=torch.float32)


def one_seed(seed: int, epochs: int = 5, labels: int = 100, pool_size: int = 300, k: int = 20) -> float:
    """Train once; return how many more errors an image of the picks has than a random one."""
    torch.manual_seed(seed)
    scenes = Scenes(pool_size, seed)
    pool = IndexedDataset(scenes)
    labelled, unlabelled = range(labels), range(labels, pool_size)
    settings: dict[str, Any] = {"batch_size": 8, "shuffle": True, "collate_fn": as_lists}
    loaders = {
        "labelled": DataLoader(Subset(pool, labelled), **settings),
        "unlabelled": DataLoader(Subset(pool, unlabelled), **settings),
    }
    scores = ASSLScoreCallback(observe=observe.detections("detector", call=1, every=2, missing=0.1))
    module = SelfTrainedDetector()
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=epochs, callbacks=[scores], logger=False, enable_checkpointing=False, **quiet)
    trainer.fit(module, loaders)

    errors = torch.cat([torch.zeros(labels), errors_of(module.cpu(), [scenes[i] for i in unlabelled])])
    random = float(errors[labels:].mean())  # what random picks have in the mean
    picked = float(errors[scores.query(k, candidates=unlabelled)].mean())
    objects = statistics.fmean(len(scenes[i]["labels"]) for i in unlabelled)
    print(f"seed {seed}: {objects:.2f} objects and {random:.2f} errors an unlabelled image; {picked:.2f} a picked one")
    return picked - random


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean of paired differences, and half of its 95 % interval (Student's t)."""
    deviation = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), float(student.ppf(0.975, len(values) - 1)) * deviation


def main(seeds: int = 20, **settings: int) -> dict[str, tuple[float, float]]:
    """Print what picks have more than random ones, and return it: mean and half interval."""
    mean, half = interval([one_seed(seed, **settings) for seed in range(seeds)])
    print(f"images: {mean:+.2f} ± {half:.2f} errors an image more than random picks ({seeds} seeds, 95 %)")
    return {"images": (mean, half)}


if __name__ == "__main__":
    main()
