"""Begin with weights that were made elsewhere: a plain PyTorch training, timm, torchvision, lightly-train, …

Any file with a state_dict of the network that `network.name` names will do, of torchvision (`network=torchvision`) or
timm (`network=timm`). lightly-train writes one by `lightly_train.export(..., part="model", format="torch_state_dict")`
for its models torchvision/NAME and timm/NAME. A head of other classes begins anew.

Here a network of torchvision first learns eight of the ten digits, from other pictures of them. Then a run begins with
its weights, and chooses the images to label first in its features. Run it: python examples/weights_from_elsewhere.py

It ends in `runs/weights_from_elsewhere`; the same command again finds the finished run and only prints it. Overrides of
the run may follow on the command line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.transforms.functional import pil_to_tensor

from assl_lightning.commands.train import main as train

NETWORK = "resnet18"
POOL = 500  # pictures of the run; the others are those that the network learns from before it


def main(run_dir: Path = Path("runs/weights_from_elsewhere"), more: tuple[str, ...] = ()) -> int:
    photos, weights = run_dir.parent / "photos_of_digits", run_dir.parent / "eight_digits.pth"
    if not weights.exists():
        digits = load_digits()
        pictures = [as_picture(pixels) for pixels in digits.images]
        write_photos(photos, pictures[:POOL], digits.target[:POOL])
        torch.save(learn_eight_digits(pictures[POOL:], digits.target[POOL:]).state_dict(), weights)
    return train(
        [
            "data=image_folder",
            f"data.root={photos}",
            "data.num_classes=10",
            "data.image_size=[24,24]",
            "data.weak.flip=false",
            "network=torchvision",
            f"network.name={NETWORK}",
            f"network.weights={weights}",
            "initial_acquisition=herding",
            "initial_features=network",
            "initial_labels=10",
            "labels_per_round=10",
            "rounds=1",
            "steps_per_round=40",
            "algorithm=fixmatch_small",
            "algorithm.batch_size=8",
            "algorithm.weight_ema=0.9",
            "algorithm.module.optimizer.lr=0.001",  # what is learned already is lost at 0.03: 12 % instead of 89 %
            f"run_dir={run_dir}",
            *more,
        ]
    )


def as_picture(pixels: NDArray[np.float64]) -> Image.Image:
    """Make a picture of 24 × 24 pixels of a digit (8, 8) in [0, 16]."""
    return Image.fromarray((pixels * 15.9).astype("uint8")).convert("RGB").resize((24, 24))


def write_photos(directory: Path, pictures: Sequence[Image.Image], labels: NDArray[np.int64]) -> None:
    """Write PNGs, a directory for each class."""
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        file = directory / str(label) / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)


def learn_eight_digits(pictures: Sequence[Image.Image], labels: NDArray[np.int64], steps: int = 60) -> nn.Module:
    """Train a network on the pictures of the digits 0 to 7, as anybody might."""
    torch.manual_seed(0)
    images = torch.stack([pil_to_tensor(picture) for picture in pictures]) / 255
    targets = torch.from_numpy(labels).long()
    images, targets = images[targets < 8], targets[targets < 8]
    network: nn.Module = torchvision.models.get_model(NETWORK, num_classes=8)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    for _ in range(steps):
        rows = torch.randint(len(images), (64,))
        loss = cross_entropy(network((images[rows] - 0.3) / 0.3), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"eight digits are learned, to a loss of {loss.item():.2f}")
    return network


if __name__ == "__main__":
    sys.exit(main(more=tuple(sys.argv[1:])))
