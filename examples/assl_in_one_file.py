"""Active semi-supervised learning on one page, top to bottom as the paper has it: python examples/assl_in_one_file.py

Lim, Na and Kwak 2023, "Active Semi-Supervised Learning by Exploring Per-Sample Uncertainty and Consistency". Digits,
FixMatch, Eq. 1 to 6 and the rounds, with torch and scikit-learn alone: nothing is imported from assl_lightning, whose
tests hand in the draws of `run_rounds` (see `Draws`) and ask that both label the same images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

ALPHA, C_U, C_I = 0.8, 0.5, 2.0  # weight of the new observation; weights of the two standard deviations (section 4)
THRESHOLD, MU, BATCH_SIZE = 0.95, 7, 16  # τ; unlabelled images for each labelled one; labelled images in a step
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.03, 0.9, 5e-4

Images = tuple[Tensor, Tensor]  # (N, 1, 16, 16) uint8, and their labels (N,)


class Draws:
    """Every random number, as a function of what it is for: the same seed gives the same run, whatever else changes."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generator(self, *purpose: str | int) -> torch.Generator:
        digest = hashlib.blake2b(repr((self.seed, *purpose)).encode(), digest_size=7).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big"))

    def integers(self, rows: int, columns: int, high: int, *purpose: str | int) -> Tensor:
        """(rows, columns) integers in 0 … high − 1."""
        return torch.randint(high, (rows, columns), generator=self.generator(*purpose))


# --- the images, and their two views ---------------------------------------------------------------------------------


def load_images() -> Images:
    """scikit-learn's 1,797 handwritten digits, each pixel four times."""
    digits = load_digits()
    images = torch.from_numpy(digits.images * 255 / 16).round().to(torch.uint8)
    return images[:, None].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), torch.from_numpy(digits.target)


def weak_view(images: Tensor, draws: Tensor) -> Tensor:
    """Crop each image, (B, 1, H, W), at an offset (B, 2) in 0 … 4 out of the image with two black pixels around it."""
    padded = F.pad(images, (2, 2, 2, 2))
    rows, columns = (draws[:, axis, None] + torch.arange(images.shape[2 + axis]) for axis in (0, 1))  # (B, H), (B, W)
    return padded[torch.arange(len(images))[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def strong_view(images: Tensor, draws: Tensor) -> Tensor:
    """A weak view with less contrast and a grey square (Cutout), in place of RandAugment; `draws` (B, 5) in 0 … 4."""
    darker = weak_view(images, draws[:, :2]).int() * (6 + draws[:, 2, None, None, None]) // 10
    row, column = torch.arange(images.shape[2])[:, None], torch.arange(images.shape[3])
    top, left = (3 * draws[:, 3:] - 2).T[:, :, None, None]  # (B, 1, 1) each
    inside = (row >= top) & (row < top + 8) & (column >= left) & (column < left + 8)
    return torch.where(inside[:, None], 127, darker).to(torch.uint8)


def normalise(images: Tensor) -> Tensor:
    """uint8 to numbers in −1 … 1."""
    return (images.float() / 255 - 0.5) / 0.5


# --- FixMatch (Sohn et al. 2020) --------------------------------------------------------------------------------------


class Network(nn.Module):
    """Three convolutions and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width in ((1, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(width_in, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images))  # type: ignore[no-any-return]


def fixmatch_loss(labelled: Tensor, labels: Tensor, weak: Tensor, strong: Tensor) -> Tensor:
    """Cross-entropy of the labelled images, and of strong views with the pseudo-label of a confident weak view."""
    confidence, pseudo_label = weak.detach().softmax(-1).max(-1)
    mask = (confidence >= THRESHOLD).float()  # 1(max q ≥ τ)
    unsupervised = (mask * F.cross_entropy(strong, pseudo_label, reduction="none")).mean()
    return F.cross_entropy(labelled, labels) + unsupervised


# --- section 3: per-sample uncertainty and consistency ---------------------------------------------------------------


def uncertainty(logits: Tensor) -> Tensor:
    """Eq. 1, pseudo-EL2N: u = ‖p − onehot(argmax p)‖₂."""
    probability = logits.softmax(-1)
    return (probability - F.one_hot(probability.argmax(-1), probability.shape[-1])).norm(dim=-1)


# Eq. 2, the number of times that a prediction changed, motivates the moving averages; the method does not compute it.


def inconsistency(weak: Tensor, strong: Tensor) -> Tensor:
    """Eq. 4: i = (KL(p_w ‖ p_s) + KL(p_s ‖ p_w)) / 2."""
    log_weak, log_strong = weak.log_softmax(-1), strong.log_softmax(-1)
    return ((log_weak.exp() - log_strong.exp()) * (log_weak - log_strong)).sum(-1) / 2


class Average:
    """Eq. 3 and 5: the moving mean and variance of one number for each of N samples, both 0 at first."""

    def __init__(self, num_samples: int) -> None:
        self.mean, self.variance = torch.zeros(num_samples), torch.zeros(num_samples)

    def update(self, index: Tensor, observed: Tensor) -> None:
        mean = ALPHA * observed + (1 - ALPHA) * self.mean[index]
        self.variance[index] = ALPHA * (observed - mean).square() + (1 - ALPHA) * self.variance[index]
        self.mean[index] = mean

    def upper_bound(self, c: float) -> Tensor:
        return self.mean + c * self.variance.sqrt()


# --- the rounds ------------------------------------------------------------------------------------------------------


def batches(index: Tensor, size: int, keep_rest: bool, draws: Draws, *purpose: str | int) -> Iterator[Tensor]:
    """Batches of permutations of `index`; the rest of one that fills no batch begins the next batch, or is left out."""
    rest, number = index[:0], 0
    while True:
        while len(rest) < size:
            permutation = index[torch.randperm(len(index), generator=draws.generator(*purpose, number))]
            rest, number = torch.cat([rest, permutation]) if keep_rest else permutation, number + 1
        yield rest[:size]
        rest = rest[size:]


def train(
    images: Tensor, labels: Tensor, is_labelled: Tensor, steps: int, draws: Draws, number: int
) -> tuple[Network, Tensor]:
    """Train round `number`: the network, and the score of every image (Eq. 6), 0 where training never saw it."""
    with torch.random.fork_rng():  # every round begins with the same weights
        torch.manual_seed(draws.generator("initial_weights").initial_seed())
        network = Network()
    of_u, of_i = Average(len(images)), Average(len(images))
    decays, exempt = [], []  # biases and the scales of batch norm are exempt from weight decay
    for parameter in network.parameters():
        (decays if parameter.ndim > 1 else exempt).append(parameter)
    groups = [{"params": decays, "weight_decay": WEIGHT_DECAY}, {"params": exempt, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=MOMENTUM, nesterov=True)
    known, unknown = is_labelled.nonzero()[:, 0], (~is_labelled).nonzero()[:, 0]
    of_known = batches(known, BATCH_SIZE, True, draws, "labelled_permutation", number)
    keep_rest = len(unknown) < MU * BATCH_SIZE
    of_unknown = batches(unknown, MU * BATCH_SIZE, keep_rest, draws, "unlabelled_permutation", number)
    for step, labelled, index in zip(range(steps), of_known, of_unknown, strict=False):
        views = [
            weak_view(images[labelled], draws.integers(len(labelled), 2, 5, "labelled_view", number, step)),
            weak_view(images[index], draws.integers(len(index), 2, 5, "weak_view", number, step)),
            strong_view(images[index], draws.integers(len(index), 5, 5, "strong_view", number, step)),
        ]
        logits_labelled, weak, strong = network(normalise(torch.cat(views))).split([len(view) for view in views])
        optimizer.zero_grad()
        fixmatch_loss(logits_labelled, labels[labelled], weak, strong).backward()
        optimizer.step()
        of_u.update(index, uncertainty(weak.detach()))
        of_i.update(index, inconsistency(weak.detach(), strong.detach()))
    return network.eval(), of_u.upper_bound(C_U) * of_i.upper_bound(C_I)  # Eq. 6


def run(
    pool: Images, test: Images, draws: Draws, rounds: int = 3, initial: int = 10, budget: int = 10, steps: int = 300
) -> tuple[list[list[int]], list[float]]:
    """The indices that each round asked for, best first, and the test accuracy of each training."""
    is_labelled = torch.zeros(len(pool[0]), dtype=torch.bool)
    is_labelled[torch.randperm(len(is_labelled), generator=draws.generator("initial_labels"))[:initial]] = True
    queried, accuracies = [], []
    for number in range(rounds + 1):
        network, score = train(*pool, is_labelled, steps, draws, number)
        with torch.no_grad():
            right = network(normalise(test[0])).argmax(-1) == test[1]
        accuracies.append(right.float().mean().item())
        print(f"round {number}: {int(is_labelled.sum())} labels, test accuracy {accuracies[-1]:.3f}")
        if number < rounds:
            score[is_labelled] = -1  # all others are at least 0
            queried.append(score.argsort(descending=True, stable=True)[:budget].tolist())
            is_labelled[queried[-1]] = True
    return queried, accuracies


if __name__ == "__main__":
    all_images, all_labels = load_images()
    run((all_images[:1297], all_labels[:1297]), (all_images[1297:], all_labels[1297:]), Draws(seed=0))
