"""What the score callback adds to a training step: `ASSLScoreCallback.on_train_batch_end`, called as the trainer does.

N samples in the pool, C classes, 448 unlabelled rows a step (a batch of 64, μ = 7), no index twice in a batch.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from assl_lightning import ASSLScoreCallback, SampleStatistics
from assl_lightning.method.contracts import StepOutput
from benchmarks.figures import Figure, Target
from benchmarks.measuring import in_turns, synchronise

_SECTION = "callback"
_ROWS = 448
_BATCHES = 512  # that are drawn beforehand: more than are timed, so that no indices come twice
_LOGGED = 50  # `log_every_n_steps` of a run: the steps between two checks for values that are not finite
_NEVER = 2**62

_STEP = (
    "Milliseconds a step: the mean of 50 steps, of which one checks for values that are not finite and so waits for "
    "the device, as in a run. The table's pages were all written before, as they are after one pass over the pool."
)
_TOO_LARGE = "Not measured: four times the table does not fit into the memory."
_CUDA_ALONE = "Not measured: only CUDA has a host that runs ahead of the device, and can say that it waited."
_WAITED = "1 where torch.cuda.set_sync_debug_mode found an operation of the hook that makes the host wait, else 0."
_APART = (
    "Host and device apart: the mean of 5 steps without the check, given to a device that was busy with something "
    "else, so that neither waits for the other."
)


def measure(device: torch.device, quick: bool) -> Iterator[Figure]:
    """Milliseconds of a step for each N and C, bytes of a sample, and on CUDA how host and device share the time."""
    pool_sizes, classes = ((1_000,), (10,)) if quick else ((50_000, 10**6, 10**8), (10, 100, 1_000))
    repeats, calls = (2, 2) if quick else (7, _LOGGED)
    for num_samples in pool_sizes:
        if table_fits(num_samples, device):
            callback = make_callback(num_samples, device)
            yield from _steps(callback, classes, device, repeats, calls)
            yield _bytes_per_sample(callback.statistics)
        else:
            yield Figure(_SECTION, "a step of the callback", f"N = {num_samples:,}", "ms", (), note=_TOO_LARGE)
    smallest = pool_sizes[0]
    yield from _steps(make_callback(smallest, device, assume_unique=False), classes[:1], device, repeats, calls)
    yield from _waiting(make_callback(smallest, device), classes[0], device, repeats)


def table_fits(num_samples: int, device: torch.device) -> bool:
    """Whether four times the statistics of a pool, 20 bytes a sample, fit into all the memory that the device has."""
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4 * 20 * num_samples <= memory


def make_callback(num_samples: int, device: torch.device, *, assume_unique: bool = True) -> ASSLScoreCallback:
    """A callback whose fit has started, its table in memory: the system gives a page of zeros at its first write."""
    callback = ASSLScoreCallback(num_samples, assume_unique=assume_unique)
    callback.setup(_trainer(_LOGGED), _module(device), "fit")
    callback.on_fit_start(_trainer(_LOGGED), _module(device))
    for tensor in held_tensors(callback.statistics):
        tensor.mul_(1)
    return callback


def held_tensors(statistics: SampleStatistics) -> list[Tensor]:
    """All that the table consists of."""
    return [value for value in vars(statistics).values() if isinstance(value, Tensor)]


def make_hook(
    callback: ASSLScoreCallback, classes: int, device: torch.device, log_every_n_steps: int = _LOGGED
) -> Callable[[], None]:
    """`callback.on_train_batch_end` as the trainer calls it, each time with other indices."""
    trainer, module = _trainer(log_every_n_steps), _module(device)
    outputs = cycle(draw_outputs(callback.statistics.num_samples, classes, device))

    def hook() -> None:
        callback.on_train_batch_end(trainer, module, next(outputs), None, 0)

    return hook


def draw_outputs(num_samples: int, classes: int, device: torch.device) -> list[StepOutput]:
    """What `training_step` returns in `_BATCHES` steps: other indices in each, one of four pairs of logits."""
    draws, generator = random.Random(classes), torch.Generator().manual_seed(classes)
    index = torch.tensor([draws.sample(range(num_samples), _ROWS) for _ in range(_BATCHES)]).to(device)
    logits = (3 * torch.randn(4, 2, _ROWS, classes, generator=generator)).to(device)
    return [
        StepOutput(index=rows, logits_weak=logits[number % 4, 0], logits_strong=logits[number % 4, 1])
        for number, rows in enumerate(index)
    ]


def _trainer(log_every_n_steps: int) -> Any:
    """All of a trainer that the callback looks at."""
    return SimpleNamespace(world_size=1, log_every_n_steps=log_every_n_steps)


def _module(device: torch.device) -> Any:
    """All of a LightningModule that the callback looks at."""
    return SimpleNamespace(device=device)


def _steps(
    callback: ASSLScoreCallback, classes: tuple[int, ...], device: torch.device, repeats: int, calls: int
) -> Iterator[Figure]:
    hooks = {str(number): make_hook(callback, number, device) for number in classes}
    turns = in_turns(hooks, device, repeats=repeats, calls_each=calls)
    for number, seconds in turns.items():
        size = f"{_pool(callback)}, C = {number}, {_ROWS} rows"
        what = "a step of the callback" if callback.assume_unique else "a step of the callback, assume_unique=False"
        yield Figure(_SECTION, what, size, "ms", _milliseconds(seconds), note=_STEP)


def _bytes_per_sample(statistics: SampleStatistics) -> Figure:
    """What the tensors of the table take, by the samples of the pool."""
    total = sum(tensor.nbytes for tensor in held_tensors(statistics))
    size = f"N = {statistics.num_samples:,}"
    return Figure(_SECTION, "the table, a sample", size, "B", (total / statistics.num_samples,))


def _waiting(callback: ASSLScoreCallback, classes: int, device: torch.device, repeats: int) -> Iterator[Figure]:
    """Whether a step makes the host wait, and how long host and device are busy with it; on CUDA alone."""
    size = f"{_pool(callback)}, C = {classes}, {_ROWS} rows"
    waited: tuple[float, ...] = ()
    apart: list[tuple[float, float]] = []
    if device.type == "cuda":
        hook = make_hook(callback, classes, device, log_every_n_steps=_NEVER)
        hook()  # the first step checks its batch, and may wait
        waited = (_host_waits(hook),)
        apart = [_host_and_device(hook, device) for _ in range(repeats)]
    note = "" if device.type == "cuda" else _CUDA_ALONE
    yield Figure(_SECTION, "host synchronisations", size, "", waited, Target("≤", 0), note or _WAITED)
    for what, seconds in (
        ("host, until the call returns", tuple(host for host, _ in apart)),
        ("device", tuple(busy for _, busy in apart)),
    ):
        yield Figure(_SECTION, what, size, "ms", _milliseconds(seconds), note=note or _APART)


def _host_waits(call: Callable[[], object]) -> float:
    """1 where `call` makes the host wait for the device, 0 where it does not."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        return 1.0
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return 0.0


def _host_and_device(call: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds of one of five calls: until it has returned, and those that the device works for it."""
    started, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    matrix = torch.ones(8192, 8192, device=device)
    synchronise(device)
    for _ in range(4):
        torch.mm(matrix, matrix)  # keeps the device busy while the host queues the calls
    started.record()
    before = time.perf_counter()
    for _ in range(5):
        call()
    host = time.perf_counter() - before
    ended.record()
    synchronise(device)
    return host / 5, started.elapsed_time(ended) / 1000 / 5


def _pool(callback: ASSLScoreCallback) -> str:
    return f"N = {callback.statistics.num_samples:,}"


def _milliseconds(seconds: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(1000 * value for value in seconds)
