"""Does a GPU compute what a CPU does: draws, views, statistics, scores, picks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from assl_lightning.augment import StrongAugment, WeakAugment, dense
from assl_lightning.base.seeding import Draws, derive_key
from assl_lightning.method import scores
from assl_lightning.method.candidates import Candidates
from assl_lightning.method.statistics import SampleStatistics
from benchmarks import acquisition
from benchmarks.device.guarding import Part, attempt, not_measured
from benchmarks.figures import Figure, Target

FIRST = ("assl", "assl_div", "herding", "badge", "coreset", "cdal")
"""Strategies whose picks are compared before those of the others."""


def agreement(part: Part) -> Iterator[Figure]:
    """Shares of what is equal, 1 where all is; largest differences where the last bits may differ."""
    device, quick = part.device, part.quick
    yield _equal("draws", "20 keys, 448 rows, 16 slots", partial(_draws_agree, device))
    for shape in [(3, 8, 8)] if quick else [(3, 32, 32), (1, 28, 28), (3, 84, 84), (3, 17, 23)]:
        size = " × ".join(map(str, shape))
        yield _equal("views of the dense plan, bit for bit", size, partial(_views_agree, device, shape))
    differing = Figure("agreement", "statistics after 50 updates, largest difference", "", "", (), Target("≤", 1e-5))
    yield attempt(differing, partial(_statistics_differ, device, 1_000 if quick else 50_000))
    for name, score in _SCORES.items():
        figure = Figure("agreement", f"{name}, largest relative difference", "448 × 100", "", (), Target("≤", 1e-3))
        yield attempt(figure, partial(_score_differs, device, score))
    query = acquisition.Size(200, 20, 4, 6, 5) if quick else acquisition.Size(5_000, 200, 10, 64, 50)
    names = acquisition.strategy_names()
    for name in [*FIRST, *(name for name in names if name not in FIRST)]:
        figure = Figure("agreement", f"picks of {name}, share that are the CPU's", str(query), "", (), Target("≥", 1))
        may_begin = part.may_begin(8) or not part.is_cuda
        yield attempt(figure, partial(_picks_agree, device, name, query)) if may_begin else not_measured(figure, part)


def _equal(what: str, size: str, measure: Callable[[], Sequence[bool]]) -> Figure:
    def share() -> float:
        equal = measure()
        return sum(equal) / len(equal)

    return attempt(Figure("agreement", what, size, "", (), Target("≥", 1)), share)


def _draws_agree(device: torch.device) -> list[bool]:
    slots, equal = tuple(range(16)), []
    for number in range(20):
        key = derive_key(number, "device_check")
        here, there = (Draws(key, torch.arange(448, device=where)) for where in ("cpu", device))
        equal.append(torch.equal(there.bits(slots).cpu(), here.bits(slots)))
        equal.append(torch.equal(there.uniform(slots).cpu(), here.uniform(slots)))
        equal.append(torch.equal(there.integers(slots, 14).cpu(), here.integers(slots, 14)))
    return equal


def random_images(shape: Sequence[int], count: int) -> Tensor:
    """Bytes (count, *shape), some of them dark, as operations that look at an image's levels need."""
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[::7] //= 9  # levels that many operations treat apart
    return images


def _views_agree(device: torch.device, shape: Sequence[int]) -> list[bool]:
    images, row, equal = random_images(shape, 448), torch.arange(448), []
    augments: tuple[WeakAugment | StrongAugment, ...] = (WeakAugment(), StrongAugment())
    for number, augment in enumerate(augments * 2):
        key = derive_key(number, "views")
        there = augment._view(images.to(device), Draws(key, row.to(device)), dense)
        equal.append(torch.equal(there.cpu(), augment(images, Draws(key, row))))
    return equal


def _statistics_differ(device: torch.device, num_samples: int) -> float:
    generator = torch.Generator().manual_seed(0)
    here, there = SampleStatistics(num_samples), SampleStatistics(num_samples, device=device)
    for _ in range(50):
        index = torch.randint(0, num_samples // 3, (448,), generator=generator)  # some samples twice
        observed = torch.rand(2, 448, generator=generator)
        here.update(index, *observed)
        there.update(index.to(device), *observed.to(device))
    if not torch.equal(there.visits.cpu(), here.visits):
        return float("inf")
    return float((there.score(0.5, 2.0).cpu() - here.score(0.5, 2.0)).nan_to_num(0).abs().max())


_SCORES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "pseudo-EL2N": lambda weak, _: scores.pseudo_el2n(weak),
    "symmetric KL": scores.symmetric_kl,
}


def _score_differs(device: torch.device, score: Callable[[Tensor, Tensor], Tensor]) -> float:
    weak, strong = 5 * torch.randn(2, 448, 100, generator=torch.Generator().manual_seed(0))
    here, there = score(weak, strong), score(weak.to(device), strong.to(device)).cpu()
    return float(((there - here).abs() / here).max())


def _picks_agree(device: torch.device, name: str, size: acquisition.Size) -> float:
    strategy, here = acquisition.make_strategy(name), acquisition.make_candidates(size, torch.device("cpu"))
    picks = [
        strategy.acquire(candidates, size.budget, torch.Generator().manual_seed(0)).index
        for candidates in (here, _moved(here, device))
    ]
    return float(torch.isin(picks[1].cpu(), picks[0].cpu()).double().mean())


def _moved(candidates: Candidates, device: torch.device) -> Candidates:
    """As a run hands them over: features, logits and head on the device, indices and statistics on the CPU."""
    assert candidates.features is not None
    assert candidates.logits is not None
    assert candidates.flipped_logits is not None
    assert candidates.labelled is not None
    assert isinstance(candidates.head, nn.Linear)
    head = nn.Linear(candidates.head.in_features, candidates.head.out_features)
    head.load_state_dict(candidates.head.state_dict())
    labelled = candidates.labelled
    return replace(
        candidates,
        features=candidates.features.to(device),
        logits=candidates.logits.to(device),
        labelled=replace(labelled, features=labelled.features.to(device), logits=labelled.require("logits").to(device)),
        head=head.to(device),
        flipped_logits=candidates.flipped_logits.to(device),
    )
