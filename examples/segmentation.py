"""Choose images, or regions of images, to label for segmentation, while a dense FixMatch trains.

The module below returns its loss and knows nothing of assl_lightning. The pool holds scenes of real photos and real
digits (both come with scikit-learn), which the data set crops and flips; what it does for the callback is to move a
third mask with them, which says where the pixels lie in the whole image (`RegionGrid.map`). The truth of the pool is
used at the end alone, to see whether the picks hold more error than random ones.
Run it: python examples/segmentation.py
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

from assl_lightning import ASSLScoreCallback, IndexedDataset, RegionGrid, observe

SIZE, CROP, CLASSES = 48, 40, 4  # pixels of a scene, pixels of a training view; background and the digits 0, 1, 2
GRID = RegionGrid(4, 4)  # regions of 12 × 12 pixels


class Scenes(Dataset):
    """Digits of 14 to 28 pixels, more or less transparent, on pieces of photos; the mask has each pixel's class."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        photos = [torch.tensor(photo).movedim(-1, 0) / 255 for photo in load_sample_images().images]
        digits = load_digits(n_class=CLASSES - 1)
        self.image, self.mask = torch.empty(count, 3, SIZE, SIZE), torch.zeros(count, SIZE, SIZE, dtype=torch.int64)

        def draw(low: int, high: int) -> int:
            return int(torch.randint(low, high, (), generator=generator))

        for image, mask in zip(self.image, self.mask, strict=True):
            photo = photos[draw(0, 2)]
            top, left = draw(0, photo.shape[1] - SIZE), draw(0, photo.shape[2] - SIZE)
            image[:] = photo[:, top : top + SIZE, left : left + SIZE]
            for _ in range(draw(1, 5)):
                which, size = draw(0, len(digits.target)), draw(14, 29)
                ink = F.interpolate(torch.tensor(digits.images[which])[None, None].float() / 16, size=(size, size))[0]
                top, left = draw(0, SIZE - size), draw(0, SIZE - size)
                here = (..., slice(top, top + size), slice(left, left + size))
                opacity = ink * (0.3 + 0.7 * torch.rand((), generator=generator))
                colour = (image[here].mean((1, 2), keepdim=True) < 0.5).float()  # light on dark, or dark on light
                image[here] += opacity * (colour - image[here])
                mask[here][ink[0] > 0.2] = 1 + int(digits.target[which])

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        """Return a view: all three are cropped and flipped alike."""
        parts = {"image": self.image[i], "mask": self.mask[i], "region_map": GRID.map(SIZE, SIZE)}
        top, left, is_flipped = (int(torch.randint(0, high, ())) for high in (SIZE - CROP + 1, SIZE - CROP + 1, 2))
        crops = {name: part[..., top : top + CROP, left : left + CROP] for name, part in parts.items()}
        return {name: crop.flip(-1) if is_flipped else crop for name, crop in crops.items()}


class DenseFixMatch(LightningModule):
    """Somebody's training: pseudo-labels of the weak view's pixels for the strong view."""

    def __init__(self) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

        down = [layer(3, 24, 2), layer(24, 32), layer(32, 48, 2), layer(48, 48), layer(48, 48)]
        up = [nn.Conv2d(48, CLASSES, 1), nn.Upsample(scale_factor=4, mode="bilinear")]
        self.network = nn.Sequential(*down, *up)

    def training_step(self, batch: dict[str, dict[str, Tensor]], batch_idx: int) -> Tensor:
        labelled, weak = batch["labelled"], batch["unlabelled"]["image"]
        brightness = 0.6 + 0.8 * torch.rand(len(weak), 3, 1, 1, device=self.device)
        strong = weak * brightness + 0.1 * torch.randn_like(weak)
        with torch.no_grad():
            confidence, pseudo_label = self.network(weak).softmax(1).max(1)
        weight = torch.tensor([0.4, 1.0, 1.0, 1.0], device=self.device)  # there is much background
        supervised = F.cross_entropy(self.network(labelled["image"]), labelled["mask"], weight)
        consistency = F.cross_entropy(self.network(strong), pseudo_label, reduction="none")
        return supervised + ((confidence > 0.9) * consistency).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def errors_of(module: DenseFixMatch, scenes: Scenes) -> Tensor:
    """Return for each pixel of the scenes whether the prediction is wrong, (N, H, W); it needs the truth."""
    module.eval()
    with torch.no_grad():
        predicted = torch.cat([module.network(images).argmax(1) for images in scenes.image.split(64)])
    return (predicted != scenes.mask).float()


def one_seed(seed: int, epochs: int = 7, labels: int = 100, pool_size: int = 500, k: int = 40) -> dict[str, float]:
    """Train once; return how much more error the picks of each kind hold than random ones, in points of per cent."""
    torch.manual_seed(seed)
    scenes = Scenes(pool_size, seed)
    pool = IndexedDataset(scenes)
    labelled, unlabelled = torch.arange(labels), torch.arange(labels, pool_size)
    loaders = {
        "labelled": DataLoader(Subset(pool, labelled.tolist()), batch_size=8, shuffle=True),
        "unlabelled": DataLoader(Subset(pool, unlabelled.tolist()), batch_size=8, shuffle=True),
    }
    makers = {
        "images, mean": observe.dense(observe.forward("network", weak=0, strong=2)),
        "images, per class": observe.dense(observe.forward("network", weak=0, strong=2), reducer="per_class"),
        "regions": observe.regions(
            observe.forward("network", weak=0, strong=2),
            GRID.rows,
            GRID.columns,
            region_map=lambda batch: batch["unlabelled"]["region_map"],
            least_places=36,  # a quarter of a region
        ),
    }
    callbacks = {name: ASSLScoreCallback(observe=maker, name=name) for name, maker in makers.items()}
    module = DenseFixMatch()
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        max_epochs=epochs, callbacks=[*callbacks.values()], logger=False, enable_checkpointing=False, **quiet
    )
    trainer.fit(module, loaders)

    errors = 100 * errors_of(module.cpu(), scenes)
    of_image = errors.mean((1, 2))  # (N,)
    of_region = torch.stack([errors[:, GRID.map(SIZE, SIZE) == region].mean(1) for region in range(GRID.count)], dim=1)
    random = float(of_image[unlabelled].mean())  # what random picks hold in the mean, images and regions alike
    found = {}
    for name, callback in callbacks.items():
        if name == "regions":
            image, region = callback.query(4 * k, candidates=unlabelled, per_image=2).T
            found[name] = float(of_region[image, region].mean())
        else:
            found[name] = float(of_image[callback.query(k, candidates=unlabelled)].mean())
    digits = 100 * float((scenes.mask[unlabelled] > 0).float().mean())
    picked = ", ".join(f"{name} {value:.1f} %" for name, value in found.items())
    print(f"seed {seed}: {digits:.1f} % of the pixels are digits; {random:.1f} % are wrong, of those picked: {picked}")
    return {name: value - random for name, value in found.items()}


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean of paired differences, and half of its 95 % interval (Student's t)."""
    deviation = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), float(student.ppf(0.975, len(values) - 1)) * deviation


def main(seeds: int = 5, **settings: int) -> dict[str, tuple[float, float]]:
    """Print what picks hold more than random ones, and return it by kind: mean and half interval."""
    gains = [one_seed(seed, **settings) for seed in range(seeds)]
    found = {name: interval([each[name] for each in gains]) for name in gains[0]}
    for name, (mean, half) in found.items():
        print(f"{name}: {mean:+.1f} ± {half:.1f} points of error more than random picks ({seeds} seeds, 95 %)")
    return found


if __name__ == "__main__":
    main()
