"""What only a GPU can show, in one table and under nine minutes: `python -m benchmarks.device_check --output DIR`.

Made for a machine that is borrowed for minutes: the most important comes first, nothing begins that would hardly end
by `--seconds`, a part that fails is a row of the table, and the files are written after each figure. On a machine
without a CUDA device what needs one is "not measured"; `--device cpu --quick` shows that the rest runs.

    agreement   does the GPU compute what the CPU does: draws, views, statistics, scores, picks
    kernels     do the fused kernels run here, and how long do they take beside torch's operators
    step        waits of the host, launches, busy time, steps a second, peak memory
    graph       the same of a step that a CUDA graph replays; weights, table and picks beside those without it
    variants    the same of other precisions, cuDNN's search, fused and other optimizers
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from assl_lightning.augment import Normalise, StrongAugment, WeakAugment, dense
from assl_lightning.augment.fused import FusedViews, Rows, fused_views
from assl_lightning.base import kernels
from assl_lightning.base.seeding import Draws, derive_key
from assl_lightning.commands.messages import set_up_messages
from assl_lightning.learning.step_graph import StepGraph
from assl_lightning.method import fused_scores, scores
from assl_lightning.method.callback import ASSLScoreCallback
from assl_lightning.method.candidates import Candidates
from assl_lightning.method.statistics import SampleStatistics
from benchmarks import acquisition
from benchmarks.figures import Figure, Target, as_markdown, this_machine, write
from benchmarks.measuring import in_turns, synchronise
from benchmarks.setups import SETUPS, TINY, Setup, configured
from benchmarks.step import train

_RUN = 56_320  # steps of the paper's run: 11 rounds of 5,120
_LOOKED = 10  # steps that are looked at one by one
_BF16, _GRAPH = "trainer.precision=bf16-mixed", "trainer.cuda_graph=true"
VARIANTS: tuple[tuple[str, int, tuple[str, ...]], ...] = (
    ("bf16-mixed", 0, (_BF16,)),
    ("32-true", 0, ()),
    ("bf16-mixed, cuDNN's search", 0, (_BF16, "trainer.benchmark=true")),
    ("bf16-mixed, SGD(foreach)", 0, (_BF16, "+algorithm.module.optimizer.foreach=true")),
    ("32-true, products of matrices in TF32", 0, ("trainer.matmul_precision=high",)),
    ("bf16-mixed, CUDA graph and cuDNN's search", 0, (_BF16, _GRAPH, "trainer.benchmark=true")),
    ("bf16-mixed, non_finite=skip", 0, (_BF16, "non_finite=skip")),
    ("16-mixed", 0, ("trainer.precision=16-mixed",)),
    ("bf16-mixed, deterministic", 0, (_BF16, "trainer.deterministic=true")),
    ("WRN-28-2, bf16-mixed", 1, (_BF16,)),
    ("ViT-small, bf16-mixed", 2, (_BF16,)),
    ("ViT-small, bf16-mixed, CUDA graph", 2, (_BF16, _GRAPH)),
)
"""What is tried, of which of `SETUPS`, with which overrides."""


# ---- agreement ------------------------------------------------------------------------------------------------------


def agreement(device: torch.device, quick: bool) -> Iterator[Figure]:
    """Shares of what is equal, 1 where all is; largest differences where the last bits may differ."""
    yield _equal("draws", "20 keys, 448 rows, 16 slots", _draws_agree(device))
    for shape in [(3, 8, 8)] if quick else [(3, 32, 32), (1, 28, 28), (3, 84, 84), (3, 17, 23)]:
        yield _equal("views of the dense plan, bit for bit", " × ".join(map(str, shape)), _views_agree(device, shape))
    difference = _statistics_differ(device, 1_000 if quick else 50_000)
    yield Figure(
        "agreement", "statistics after 50 updates, largest difference", "", "", (difference,), Target("≤", 1e-5)
    )
    for name, value in _scores_differ(device).items():
        yield Figure("agreement", f"{name}, largest relative difference", "448 × 100", "", (value,), Target("≤", 1e-3))
    size = acquisition.Size(200, 20, 4, 6, 5) if quick else acquisition.Size(5_000, 200, 10, 64, 50)
    for name in acquisition.strategy_names():
        yield _attempt(
            f"picks of {name}, share that are the CPU's", str(size), partial(_picks_agree, device, name, size)
        )


def _equal(what: str, size: str, equal: Sequence[bool]) -> Figure:
    return Figure("agreement", what, size, "", (sum(equal) / len(equal),), Target("≥", 1))


def _draws_agree(device: torch.device) -> list[bool]:
    slots, equal = tuple(range(16)), []
    for number in range(20):
        key = derive_key(number, "device_check")
        here, there = (Draws(key, torch.arange(448, device=where)) for where in ("cpu", device))
        equal.append(torch.equal(there.bits(slots).cpu(), here.bits(slots)))
        equal.append(torch.equal(there.uniform(slots).cpu(), here.uniform(slots)))
        equal.append(torch.equal(there.integers(slots, 14).cpu(), here.integers(slots, 14)))
    return equal


def _random_images(shape: Sequence[int], count: int) -> Tensor:
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[::7] //= 9  # levels that many operations treat apart
    return images


def _views_agree(device: torch.device, shape: Sequence[int]) -> list[bool]:
    images, row, equal = _random_images(shape, 448), torch.arange(448), []
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


def _scores_differ(device: torch.device) -> dict[str, float]:
    weak, strong = 5 * torch.randn(2, 448, 100, generator=torch.Generator().manual_seed(0))
    there = weak.to(device), strong.to(device)
    pairs = {
        "pseudo-EL2N": (scores.pseudo_el2n(there[0]), scores.pseudo_el2n(weak)),
        "symmetric KL": (scores.symmetric_kl(*there), scores.symmetric_kl(weak, strong)),
    }
    return {name: float(((mine.cpu() - other).abs() / other).max()) for name, (mine, other) in pairs.items()}


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
    )


# ---- kernels --------------------------------------------------------------------------------------------------------


def fused(device: torch.device, quick: bool) -> Iterator[Figure]:
    """Largest difference from torch's operators, and microseconds of both, in turns."""
    if not kernels.can_run(device):
        note = "Not measured: kernels run on a CUDA device with Triton."
        yield Figure("kernels", "views of a step, fused", "", "µs", (), note=note)
        yield Figure("kernels", "scores and visits, fused", "", "µs", (), note=note)
        return
    for shape in ((3, 32, 32), (1, 28, 28), (3, 64, 64)):
        yield from _fused_views(device, shape, 3 if quick else 7)
    yield from _fused_scores(device, 3 if quick else 7)


def _fused_views(device: torch.device, shape: tuple[int, int, int], repeats: int) -> Iterator[Figure]:
    figure = partial(Figure, "kernels", size=f"64 + 448 + 448, {' × '.join(map(str, shape))}")
    pool, row = _random_images(shape, 5_000).to(device), torch.arange(448, device=device)
    normalise = Normalise((0.4914,) * shape[0], (0.2471,) * shape[0])
    views = fused_views(pool, WeakAugment(), StrongAugment(), normalise, True)
    if views is None:
        yield figure("views of a step, fused", unit="µs", values=(), note="Refused here: see the warning in the log.")
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


# ---- step -----------------------------------------------------------------------------------------------------------


class Probe(Callback):
    """Seconds of blocks of steps; then steps of their own, between two loggings: waits of the host, and a profile."""

    def __init__(self, device: torch.device, warm_up: int, blocks: int, steps: int, *, looks: bool) -> None:
        self.device, self.warm_up, self.blocks, self.steps = device, warm_up, blocks, steps
        self.timed = warm_up + blocks * steps
        self.looks = looks and device.type == "cuda"
        self.num_steps = self.timed + 1 + (200 if self.looks else 0)
        self.seconds: list[float] = []
        self.waits: Counter[str] = Counter()
        self.launches = self.busy_ms = 0.0
        self.peak_bytes = 0
        self._since = 0.0
        self._watch: Any = None
        self._caught: list[warnings.WarningMessage] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Take the time at the borders of blocks, and begin and end what looks at single steps."""
        done = trainer.global_step
        if self.warm_up <= done <= self.timed and (done - self.warm_up) % self.steps == 0:
            synchronise(self.device)
            now = time.perf_counter()
            if done > self.warm_up:
                self.seconds.append((now - self._since) / self.steps)
            self._since = now
        if done == self.timed and self.device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated(self.device)
        if not self.looks or done < self.timed:
            return
        interval = max(trainer.log_every_n_steps, 2 * _LOOKED + 5)  # type: ignore[attr-defined]
        self._look(done - (self.timed // interval + 1) * interval - 2)

    def _look(self, place: int) -> None:
        if place == 0:
            self._watch = warnings.catch_warnings(record=True)
            self._caught = self._watch.__enter__()
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
        elif place == _LOOKED:
            torch.cuda.set_sync_debug_mode("default")
            self._watch.__exit__(None, None, None)
            caught = [one for one in self._caught if "synchronizing" in str(one.message)]
            self.waits = Counter(f"{Path(one.filename).name}:{one.lineno}" for one in caught)
            kinds = (torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA)
            self._watch = torch.profiler.profile(activities=kinds)
            self._watch.__enter__()
        elif place == 2 * _LOOKED:
            synchronise(self.device)
            self._watch.__exit__(None, None, None)
            events = [one for one in self._watch.events() if str(one.device_type).endswith("CUDA")]
            self.launches = sum("memcpy" not in one.name.lower() for one in events) / _LOOKED
            self.busy_ms = sum(one.device_time_total for one in events) / _LOOKED / 1e3


def step(device: torch.device, quick: bool) -> Iterator[Figure]:
    """The paper's step, looked at from all sides."""
    setup = TINY[0] if quick else SETUPS[0]
    probe = _fit(device, quick, setup.overrides, (_BF16,) if device.type == "cuda" else (), looks=True)
    yield from _looked_at(partial(Figure, "step", size=setup.name), probe, quick)


def _looked_at(
    figure: Callable[..., Figure], probe: Probe, quick: bool, kernels: str = "launches a step"
) -> Iterator[Figure]:
    yield from _rates(figure, probe, quick)
    looked = {
        "host waits a step": (sum(probe.waits.values()) / _LOOKED, Target("≤", 0)),
        kernels: (probe.launches, Target("≤", 260)),
    }
    for what, (value, target) in looked.items():
        yield figure(what, unit="", values=(value,) if probe.looks else (), target=target)
    yield figure("device busy a step", unit="ms", values=(probe.busy_ms,) if probe.looks else ())
    for place, count in probe.waits.most_common(8):
        yield figure(f"host waits a step, {place}", unit="", values=(count / _LOOKED,))


def _fit(device: torch.device, quick: bool, base: Sequence[str], overrides: Sequence[str], *, looks: bool) -> Probe:
    accelerator = f"trainer.accelerator={'gpu' if device.type == 'cuda' else 'cpu'}"
    alone = ("warm_up=none", "initial_acquisition=random")  # no other training, and no look at the pool before
    config, made = configured([*base, accelerator, *alone, *overrides])
    probe = Probe(device, *((2, 2, 3) if quick else (50, 3, 100)), looks=looks)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    train(config, made, probe, probe.num_steps)
    return probe


def _rates(figure: Callable[..., Figure], probe: Probe, quick: bool) -> Iterator[Figure]:
    rates = tuple(1 / value for value in probe.seconds)
    is_paper = probe.device.type == "cuda" and not quick
    yield figure("steps a second", unit="1/s", values=rates, target=Target("≥", 188) if is_paper else None)
    if is_paper:
        yield figure("a run of 56,320 steps", unit="min", values=tuple(_RUN / rate / 60 for rate in rates))
    peak = (probe.peak_bytes / 1e9,) if probe.peak_bytes else ()
    yield figure("peak memory", unit="GB", values=peak)


# ---- graph ----------------------------------------------------------------------------------------------------------


class Ending(Callback):
    """What a round leaves: weights, the table of statistics, and what would be picked."""

    def __init__(self) -> None:
        self.left: dict[str, Tensor] = {}
        self.replayed_steps = 0
        self.reason: str | None = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy all to the CPU."""
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        score = next(one for one in callbacks if isinstance(one, ASSLScoreCallback))
        visited = int(score.statistics.visits.count_nonzero())
        self.left = {
            "weights": torch.cat([parameter.detach().flatten().cpu() for parameter in pl_module.parameters()]),
            "numbers of the table": score.statistics._values[:-1].flatten().cpu(),
            "picks": score.query(min(100, visited)).cpu(),
        }
        for one in callbacks:
            if isinstance(one, StepGraph):
                self.replayed_steps, self.reason = one.replayed_steps, one.reason


def graph(device: torch.device, quick: bool) -> Iterator[Figure]:
    """A step that is replayed, looked at as one without; then what is left of short rounds with a graph and without."""
    setup, steps = TINY[0] if quick else SETUPS[0], 8 if quick else 60
    figure = partial(Figure, "graph", size=setup.name)
    if device.type != "cuda":
        yield figure("steps a second", unit="1/s", values=(), note="Not measured: no CUDA device.")
        yield figure("picks that are those without a graph", unit="", values=(), note="Not measured: no CUDA device.")
        return
    probe = _fit(device, quick, setup.overrides, (_BF16, _GRAPH), looks=True)
    yield from _looked_at(figure, probe, quick, kernels="kernels a step, most of them in the graph")
    endings = [_ending(setup, steps, more) for more in ((), (), (_GRAPH,))]
    replayed = (float(endings[2].replayed_steps),)
    yield figure(f"replayed of {steps} steps", unit="", values=replayed, note=endings[2].reason or "")
    for what, value in endings[0].left.items():
        for which, other in (("of a second round without a graph", endings[1]), ("with a graph", endings[2])):
            share = float((other.left[what] == value).double().mean())
            target = Target("≥", 1) if other is endings[2] else None
            yield figure(f"{what} {which} that equal those without", unit="", values=(share,), target=target)


def _ending(setup: Setup, steps: int, overrides: Sequence[str]) -> Ending:
    """Train a short round on the GPU, with deterministic kernels where there are such."""
    alone = ("warm_up=none", "initial_acquisition=random", "trainer.accelerator=gpu", "trainer.deterministic=warn")
    config, made = configured([*setup.overrides, *alone, _BF16, *overrides])
    ending = Ending()
    try:
        train(config, made, ending, steps)
    finally:
        torch.use_deterministic_algorithms(False)
    return ending


def variants(device: torch.device, quick: bool, may_begin: Callable[[float], bool]) -> Iterator[Figure]:
    """Steps a second of each."""
    for name, number, overrides in VARIANTS:
        figure = partial(Figure, "variants", size=name)
        if device.type != "cuda" or not may_begin(25):
            note = "Not measured: " + ("no CUDA device." if device.type != "cuda" else "no time was left.")
            yield figure("steps a second", unit="1/s", values=(), note=note)
            continue
        try:
            setup = TINY[0] if quick else SETUPS[number]
            yield from _rates(figure, _fit(device, quick, setup.overrides, overrides, looks=False), quick)
        except Exception as error:
            yield _failed(figure("steps a second", unit="1/s", values=()), error)
        finally:
            torch.use_deterministic_algorithms(False)
            torch.backends.cudnn.benchmark = False
            gc.collect()
            torch.cuda.empty_cache()


# ---- the whole ------------------------------------------------------------------------------------------------------


def _attempt(what: str, size: str, measure: Callable[[], float]) -> Figure:
    figure = Figure("agreement", what, size, "", (), Target("≥", 1))
    try:
        return replace(figure, values=(measure(),))
    except Exception as error:
        return _failed(figure, error)


def _failed(figure: Figure, error: Exception) -> Figure:
    traceback.print_exc()
    return replace(figure, values=(), note=f"Failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")


def main(arguments: list[str] | None = None) -> None:
    """Measure what there is time for, write the table and its numbers, and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device_check", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="directory of the table and its numbers")
    parser.add_argument("--seconds", type=float, default=420, help="nothing begins that would hardly end by then")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, and nothing of speed")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here; --device cpu --quick shows that the check runs")
    if given.device == "cpu" and not given.quick:
        parser.error("a CPU takes hours for the paper's step: add --quick, or use a machine with a CUDA device")
    given.output.mkdir(parents=True, exist_ok=True)
    set_up_messages()
    device, started = torch.device(given.device), time.perf_counter()
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    machine, figures = replace(this_machine(device), name="device_check"), []

    def may_begin(needs: float) -> bool:
        return time.perf_counter() - started + needs < float(given.seconds)

    sections: dict[str, Callable[[], Iterator[Figure]]] = {
        "agreement": partial(agreement, device, given.quick),
        "kernels": partial(fused, device, given.quick),
        "step": partial(step, device, given.quick),
        "graph": partial(graph, device, given.quick),
        "variants": partial(variants, device, given.quick, may_begin),
    }
    for name, measure in sections.items():
        try:
            for figure in measure():
                figures.append(figure)
                write(given.output, machine, figures)  # whatever ends it
                value = f"{figure.median:.4g} {figure.unit}" if figure.values else figure.note or "not measured"
                print(f"{name}: {figure.what}, {figure.size}: {value}", file=sys.stderr, flush=True)
        except Exception as error:
            figures.append(_failed(Figure(name, "the rest of this section", "", "", ()), error))
    write(given.output, machine, figures)
    print(as_markdown(machine, figures))


if __name__ == "__main__":
    main()
