"""The paper's step on a GPU, with and without a CUDA graph, with other settings, and that of the warm-up."""

from __future__ import annotations

import gc
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from assl_lightning.learning.step_graph import StepGraph
from assl_lightning.method.callback import ASSLScoreCallback
from benchmarks.device.guarding import Part, attempt, guarded, not_measured
from benchmarks.figures import Figure, Target
from benchmarks.measuring import ratios, synchronise
from benchmarks.setups import SETUPS, TINY, Setup, configured
from benchmarks.step import Turns, train

_RUN = 56_320  # steps of the paper's run: 11 rounds of 5,120
_PAIRS = 448  # unlabelled images of a step, each seen weakly and strongly
_LOOKED = 10  # steps that are looked at one by one
_BF16, _FLOAT32, _GRAPH = "trainer.precision=bf16-mixed", "trainer.precision=32-true", "trainer.cuda_graph=true"
_ALONE = ("warm_up=none", "initial_acquisition=random")  # no other training, and no look at the pool before

VARIANTS: tuple[tuple[str, int, tuple[str, ...]], ...] = (
    ("32-true", 0, (_FLOAT32,)),
    ("bf16-mixed, contiguous", 0, (_BF16, "trainer.memory_format=contiguous")),
    ("bf16-mixed, CUDA graph and cuDNN's search", 0, (_BF16, _GRAPH, "trainer.benchmark=true")),
    ("32-true, CUDA graph", 0, (_FLOAT32, _GRAPH)),
    ("32-true, products of matrices in TF32", 0, (_FLOAT32, "trainer.matmul_precision=high")),
    ("bf16-mixed, non_finite=skip", 0, (_BF16, "non_finite=skip")),
    ("WRN-28-2, bf16-mixed", 1, (_BF16,)),
    ("WRN-28-2, bf16-mixed, CUDA graph", 1, (_BF16, _GRAPH)),
    ("ViT-small, bf16-mixed", 2, (_BF16,)),
    ("ViT-small, bf16-mixed, CUDA graph", 2, (_BF16, _GRAPH)),
    ("bf16-mixed, cuDNN's search", 0, (_BF16, "trainer.benchmark=true")),
    ("bf16-mixed, SGD(foreach)", 0, (_BF16, "+algorithm.module.optimizer.foreach=true")),
    ("16-mixed", 0, ("trainer.precision=16-mixed",)),
    ("bf16-mixed, deterministic", 0, (_BF16, "trainer.deterministic=true")),
)
"""What is tried, of which of `SETUPS`, with which overrides; the most important comes first."""


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
            events = [
                one
                for one in self._watch.events()
                if str(one.device_type).endswith("CUDA") and not one.is_user_annotation
            ]
            self.launches = sum("memcpy" not in one.name.lower() for one in events) / _LOOKED
            self.busy_ms = sum(one.device_time_total for one in events) / _LOOKED / 1e3


def step(part: Part) -> Iterator[Figure]:
    """The paper's step, looked at from all sides, and beside its floor."""
    setup = TINY[0] if part.quick else SETUPS[0]
    figure = partial(Figure, "step", size=setup.name)
    precision = (_BF16,) if part.is_cuda else (_FLOAT32,)
    looked_at = _looked_at(figure, part, setup, precision, "launches a step")
    yield from guarded(looked_at, figure("the step, looked at", unit="", values=()))
    turns = Turns(part.device, *((2, 2, 1) if part.quick else (100, 3, 1)))
    ratio = figure("whole step ÷ floor", unit="×", values=(), target=Target("≤", 1.25) if part.is_cuda else None)
    yield attempt(ratio, lambda: _ratios(part, setup, precision, turns))
    for what, values in (("whole step", turns.whole), ("floor: forward, backward, optimizer", turns.floor)):
        yield figure(what, unit="ms", values=tuple(1e3 * value for value in values))


def _ratios(part: Part, setup: Setup, overrides: Sequence[str], turns: Turns) -> tuple[float, ...]:
    config, made = configured([*setup.overrides, _accelerator(part), *_ALONE, *overrides])
    train(config, made, turns, turns.num_steps)
    return ratios(tuple(turns.whole), tuple(turns.floor))


def _accelerator(part: Part) -> str:
    return f"trainer.accelerator={'gpu' if part.is_cuda else 'cpu'}"


def _looked_at(
    figure: Callable[..., Figure], part: Part, setup: Setup, overrides: Sequence[str], kernels: str
) -> Iterator[Figure]:
    probe = _fit(part, setup.overrides, overrides, looks=True)
    yield from _rates(figure, probe, part)
    looked = {
        "host waits a step": (sum(probe.waits.values()) / _LOOKED, Target("≤", 0)),
        kernels: (probe.launches, Target("≤", 260)),
    }
    for what, (value, target) in looked.items():
        yield figure(what, unit="", values=(value,) if probe.looks else (), target=target)
    yield figure("device busy a step", unit="ms", values=(probe.busy_ms,) if probe.looks else ())
    for place, count in probe.waits.most_common(8):
        yield figure(f"host waits a step, {place}", unit="", values=(count / _LOOKED,))


def _fit(part: Part, base: Sequence[str], overrides: Sequence[str], *, looks: bool) -> Probe:
    config, made = configured([*base, _accelerator(part), *_ALONE, *overrides])
    probe = Probe(part.device, *((2, 2, 3) if part.quick else (50, 3, 100)), looks=looks)
    if part.is_cuda:
        torch.cuda.reset_peak_memory_stats(part.device)
    train(config, made, probe, probe.num_steps)
    return probe


def _rates(figure: Callable[..., Figure], probe: Probe, part: Part) -> Iterator[Figure]:
    rates = tuple(1 / value for value in probe.seconds)
    is_paper = part.is_cuda and not part.quick
    yield figure("steps a second", unit="1/s", values=rates, target=Target("≥", 188) if is_paper else None)
    if is_paper:
        yield figure("a run of 56,320 steps", unit="min", values=tuple(_RUN / rate / 60 for rate in rates))
        pairs = tuple(rate * _PAIRS for rate in rates)
        yield figure("pairs of views a second", unit="1/s", values=pairs, target=Target("≥", 1e6))
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


def graph(part: Part) -> Iterator[Figure]:
    """A step that is replayed, looked at as one without; then what is left of short rounds with a graph and without."""
    setup, steps = TINY[0] if part.quick else SETUPS[0], 8 if part.quick else 60
    figure = partial(Figure, "graph", size=setup.name)
    if not part.is_cuda:
        yield not_measured(figure("steps a second", unit="1/s", values=()), part)
        yield not_measured(figure("picks that are those without a graph", unit="", values=()), part)
        return
    looked_at = _looked_at(figure, part, setup, (_BF16, _GRAPH), "kernels a step, most of them in the graph")
    yield from guarded(looked_at, figure("the step, looked at", unit="", values=()))
    yield from guarded(_compared(figure, setup, steps), figure("rounds with a graph and without", unit="", values=()))


def _compared(figure: Callable[..., Figure], setup: Setup, steps: int) -> Iterator[Figure]:
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
    with_gpu = ("trainer.accelerator=gpu", "trainer.deterministic=warn")
    config, made = configured([*setup.overrides, *_ALONE, *with_gpu, _BF16, *overrides])
    ending = Ending()
    try:
        train(config, made, ending, steps)
    finally:
        torch.use_deterministic_algorithms(False)
    return ending


def variants(part: Part) -> Iterator[Figure]:
    """Steps a second of each."""
    for name, number, overrides in VARIANTS:
        figure = partial(Figure, "variants", size=name)
        rest = figure("steps a second", unit="1/s", values=())
        if not (part.is_cuda and part.may_begin(20)):
            yield not_measured(rest, part)
            continue
        setup = TINY[0] if part.quick else SETUPS[number]
        yield from guarded(_variant(figure, part, setup, overrides), rest)
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = False
        gc.collect()
        torch.cuda.empty_cache()


def _variant(figure: Callable[..., Figure], part: Part, setup: Setup, overrides: Sequence[str]) -> Iterator[Figure]:
    yield from _rates(figure, _fit(part, setup.overrides, overrides, looks=False), part)


# ---- warm-up ---------------------------------------------------------------------------------------------------------


def warm_up(part: Part) -> Iterator[Figure]:
    """Steps of SimCLR before the first label: two strong views of each image, 256 images a step."""
    setup, (steps, batch_size) = (TINY[0], (6, 8)) if part.quick else (SETUPS[0], (350, 256))
    figure = Figure("warm_up", "steps a second", f"{setup.name.partition(',')[0]}, 2 × {batch_size}", "1/s", ())
    yield attempt(figure, lambda: _warm_up_rates(part, setup, steps, batch_size))


def _warm_up_rates(part: Part, setup: Setup, steps: int, batch_size: int) -> tuple[float, ...]:
    precision = _BF16 if part.is_cuda else _FLOAT32
    sizes = ("warm_up=simclr", f"warm_up.steps={steps}", f"warm_up.batch_size={batch_size}")
    config, made = configured([*setup.overrides, _accelerator(part), "initial_acquisition=random", *sizes, precision])
    clock = Probe(part.device, steps // 6, 2, steps // 3, looks=False)
    train(config, made, clock, 1)
    return tuple(1 / value for value in clock.seconds)
