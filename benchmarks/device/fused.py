"""Do the fused kernels run on a GPU, are they right, and how long do they take beside torch's operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from assl_lightning.augment import Normalise, StrongAugment, WeakAugment
from assl_lightning.augment.fused import FusedViews, Rows
from assl_lightning.augment.fused import _fault_of as fault_of_views
from assl_lightning.base import kernels
from assl_lightning.base.seeding import Draws
from assl_lightning.method import fused_scores, scores
from assl_lightning.method.statistics import SampleStatistics
from benchmarks.device.agreement import random_images
from benchmarks.device.guarding import Part, guarded
from benchmarks.figures import Figure, Target
from benchmarks.measuring import in_turns


def fused(part: Part) -> Iterator[Figure]:
    """Largest difference from torch's operators, and microseconds of both, in turns."""
    device, repeats = part.device, 3 if part.quick else 7
    if not kernels.can_run(device):
        note = "Not measured: kernels run on a CUDA device with Triton."
        yield Figure("kernels", "views of a step, fused", "", "µs", (), note=note)
        yield Figure("kernels", "scores and visits, fused", "", "µs", (), note=note)
        return
    for shape, channels_last in (((3, 32, 32), True), ((3, 32, 32), False), ((1, 28, 28), False), ((3, 64, 64), True)):
        rest = Figure("kernels", "views of a step, fused", " × ".join(map(str, shape)), "µs", ())
        yield from guarded(_fused_views(device, shape, repeats, channels_last=channels_last), rest)
    yield from guarded(_fused_scores(device, repeats), Figure("kernels", "scores and visits, fused", "", "µs", ()))


def _fused_views(
    device: torch.device, shape: tuple[int, int, int], repeats: int, *, channels_last: bool
) -> Iterator[Figure]:
    lying = ", channels last" if channels_last else ""
    figure = partial(Figure, "kernels", size=f"64 + 448 + 448, {' × '.join(map(str, shape))}{lying}")
    pool, row = random_images(shape, 5_000).to(device), torch.arange(448, device=device)
    normalise = Normalise((0.4914,) * shape[0], (0.2471,) * shape[0])
    views = FusedViews(WeakAugment(), StrongAugment(), normalise, True, channels_last)
    fault = fault_of_views(views, shape, device)
    if fault is not None:
        yield figure("views of a step, fused", unit="µs", values=(), note=f"Refused here: the kernel {fault}.")
        return
    labelled = Rows(row[:64] * 3, Draws(1, row[:64]))
    unlabelled, strong = Rows(row * 7, Draws(2, row)), Draws(3, row)
    pairs = zip(
        views(pool, labelled, unlabelled, strong), views.with_dense(pool, labelled, unlabelled, strong), strict=True
    )
    apart = max(float((mine - other).abs().max()) for mine, other in pairs)
    yield figure(
        "views of a step, largest difference from the dense plan", unit="", values=(apart,), target=Target("≤", 1e-6)
    )
    calls: dict[str, Callable[[], object]] = {
        "fused": partial(FusedViews.__call__, views, pool, labelled, unlabelled, strong),
        "by operators": partial(views.with_dense, pool, labelled, unlabelled, strong),
    }
    yield from _timed(figure, "views of a step", calls, device, repeats)


def _fused_scores(device: torch.device, repeats: int) -> Iterator[Figure]:
    figure = partial(Figure, "kernels", size="448 rows, 100 classes")
    fault = fused_scores.fault_of(device)
    if fault is not None:
        yield figure("scores and visits, fused", unit="µs", values=(), note=f"Refused here: the kernel {fault}.")
        return
    weak, strong = 5 * torch.randn(2, 448, 100, device=device)
    index, table = torch.arange(448, device=device), SampleStatistics(50_000, device=device)
    observed = fused_scores._score(weak, strong)

    def by_operators() -> None:
        values = torch.stack([scores.pseudo_el2n(weak), scores.symmetric_kl(weak, strong)], dim=1)
        table._visit(index, values, None, assume_unique=True)

    def by_kernels() -> None:
        table._visit_in_one_launch(index, fused_scores._score(weak, strong))

    difference = float((observed[:, 0] - scores.pseudo_el2n(weak)).abs().max())
    yield figure(
        "pseudo-EL2N, largest difference from the operators", unit="", values=(difference,), target=Target("≤", 1e-5)
    )
    yield from _timed(figure, "scores and visits", {"fused": by_kernels, "by operators": by_operators}, device, repeats)


def _timed(
    figure: Callable[..., Figure], what: str, calls: dict[str, Callable[[], object]], device: torch.device, repeats: int
) -> Iterator[Figure]:
    for name, values in in_turns(calls, device, repeats=repeats, calls_each=20).items():
        yield figure(f"{what}, {name}", unit="µs", values=tuple(1e6 * value for value in values))
