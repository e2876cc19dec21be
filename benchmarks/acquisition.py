"""Cost of a query once the network has seen the pool: `acquire` of every strategy, and `query` of a large table.

N candidates, L labelled samples, C classes, d features; K picks and, of strategies that have them, N scores. Selection
only: features and logits are on the device, indices, labels and statistics on the CPU, as a run hands them over; the
pass over the pool that made them is no part.

Each strategy is measured in a fresh process, so that its memory is its own, after it has answered a tiny query, so that
imports and threads that start do not count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass
from importlib.util import find_spec

import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from torch import Tensor, nn

from assl_lightning import ASSLScoreCallback
from assl_lightning.config.compose import compose, conf_dir
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.candidates import Acquisition, Candidates, LabelledSamples
from benchmarks.callback import make_callback, table_fits
from benchmarks.figures import Figure, Target
from benchmarks.measuring import in_fresh_process, peak_bytes, seconds


@dataclass(frozen=True)
class Size:
    """How large a query is."""

    candidates: int
    labelled: int
    classes: int
    features: int
    budget: int

    def __str__(self) -> str:
        return (
            f"N = {self.candidates:,}, L = {self.labelled:,}, C = {self.classes}, d = {self.features}, "
            f"K = {self.budget:,}"
        )


@dataclass(frozen=True)
class Cost:
    """What a query took: seconds, a number a repeat, and bytes at its peak beside those that were there before it."""

    seconds: tuple[float, ...]
    peak: int


_SECTION = "acquisition"
_SHORT, _LONG = 2.0, 20.0  # seconds: a shorter query is repeated five times, a longer one three times, or not at all
_BLOCK = 256  # rows that are made at a time, so that making them leaves no higher peak than they are themselves

_TINY = Size(200, 20, 4, 6, 5)
_FIFTY_THOUSAND = Size(50_000, 1_000, 10, 256, 100)
_FEW_LABELLED = Size(50_000, 100, 10, 256, 100)  # k-centre without most of its distances to labelled samples
_CIFAR100 = Size(49_000, 10_000, 100, 512, 1_000)
_COVERED = Size(50_000, 100, 10, 512, 100)  # three sizes for herding
_COVERED_BY_MANY = Size(50_000, 100, 10, 512, 1_000)
_MILLION = Size(10**6, 100, 10, 512, 100)

_SECONDS_AT_MOST = {
    ("coreset", _FIFTY_THOUSAND): {"cpu": 0.5, "cuda": 0.05},
    ("cdal", _FIFTY_THOUSAND): {"cpu": 0.2, "cuda": 0.05},
    ("badge", _FIFTY_THOUSAND): {"cpu": 1.0, "cuda": 0.05},
    ("badge", _CIFAR100): {"cpu": 60.0, "cuda": 1.0},
    ("herding", _COVERED): {"cpu": 3.0, "cuda": 0.5},
    ("herding", _COVERED_BY_MANY): {"cpu": 20.0},
    ("herding", _MILLION): {"cpu": 30.0},
}
_MEGABYTES_AT_MOST = {("badge", _CIFAR100): 1_000.0, ("herding", _COVERED): 1_000.0}
_TABLE_SECONDS_AT_MOST = {"cpu": 5.0}
_TABLE_MEGABYTES_AT_MOST = 64 * 2**20 / 1e6

_ACQUIRE = (
    "Selection only: features and logits are on the device already. Peak memory: what a process that holds the "
    "candidates grows by in its first query, with what its allocator does not use again; on CUDA, what torch allocates "
    "there, and nothing of what the CPU does."
)
_TYPICLUST = "scikit_activeml is TypiClust, which makes K + L clusters: 11,000 of 59,000 samples at CIFAR-100's size."
_TABLE = (
    "Query of the table: the 1,000 best of all samples, of which one in a hundred was never visited. Peak memory is "
    "beside the table itself, 20 bytes a sample."
)


def measure(device: torch.device, quick: bool) -> Iterator[Figure]:
    """Seconds and peak memory of every strategy in `conf/acquisition`, then of a query of 10⁸ samples.

    With `quick` all happens in this process, whose memory says nothing.
    """
    for name, size in [(name, _TINY) for name in strategy_names()] if quick else _queries():
        yield from _strategy(name, size, device, quick)
    yield from _table(10_000 if quick else 10**8, device, quick)


def strategy_names() -> list[str]:
    """As `acquisition=` takes them."""
    return sorted(path.stem for path in (conf_dir() / "acquisition").glob("*.yaml"))


def make_strategy(name: str) -> Acquisition:
    """The strategy with the arguments that a run gives it."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="benchmarks"):
        config = compose(GlobalHydra.instance().hydra, [f"acquisition={name}"])
    strategy: Acquisition = instantiate(config.acquisition.strategy)
    return strategy


def make_candidates(size: Size, device: torch.device) -> Candidates:
    """Candidates with every field filled, in the order of the pool, whose last samples are the labelled ones."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(size.classes, size.features, generator=generator)
    head = make_head(means).to(device)
    _, features, logits = make_samples(size.candidates, means, head, generator)
    labels, labelled_features, labelled_logits = make_samples(size.labelled, means, head, generator)
    index = torch.arange(size.candidates + size.labelled)
    return Candidates(
        index=index[: size.candidates],
        statistics=make_statistics(size.candidates, generator),
        logits=logits,
        features=features,
        labelled=LabelledSamples(index[size.candidates :], labels, labelled_logits, labelled_features),
        head=head,
        forgetting=torch.randint(10, (size.candidates,), generator=generator, dtype=torch.int32),
        view_variance=torch.rand(size.candidates, generator=generator),
        mean_probabilities=logits.softmax(1).cpu(),
        flipped_logits=logits.roll(1, dims=1),
    )


def make_statistics(count: int, generator: torch.Generator) -> CandidateStatistics:
    """Numbers in [0, 1) for each sample: what a strategy does with them takes as long whatever they are."""
    numbers = torch.rand(4, count, generator=generator)
    return CandidateStatistics(
        uncertainty_mean=numbers[0],
        uncertainty_variance=numbers[1],
        inconsistency_mean=numbers[2],
        inconsistency_variance=numbers[3],
        visits=torch.randint(1, 20, (count,), generator=generator, dtype=torch.int32),
    )


@torch.no_grad()
def make_head(means: Tensor) -> nn.Linear:
    """A linear classifier for features around the classes' `means` (C, d): the nearest class has the largest logit."""
    centres = means.relu()
    middle = centres.mean(0)
    head = nn.Linear(means.shape[1], means.shape[0])
    head.weight.copy_(0.06 * (centres - middle))
    head.bias.copy_(-(head.weight * (centres + middle)).sum(1) / 2)
    return head


@torch.no_grad()
def make_samples(
    count: int, means: Tensor, head: nn.Linear, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (n,), features (n, d) ≥ 0 around their class's mean, half of them 0 as after a ReLU, and logits (n, C).

    Each sample has noise of its own strength, so that predictions are sure and unsure: 86 % are right, half are surer
    than 0.84 (C = 10) or 0.93 (C = 100), and a twentieth less sure than 0.37 or 0.27.
    """
    device = head.weight.device
    labels = torch.randint(len(means), (count,), generator=generator)
    features = torch.empty(count, means.shape[1], device=device)
    logits = torch.empty(count, len(means), device=device)
    for start in range(0, count, _BLOCK):
        rows = slice(start, start + _BLOCK)
        centres = means[labels[rows]]
        strength = 1 + 5 * torch.rand(len(centres), 1, generator=generator)
        features[rows] = (centres + strength * torch.randn(centres.shape, generator=generator)).relu()
        logits[rows] = head(features[rows])
    return labels, features, logits


def make_visited(num_samples: int, device: torch.device) -> ASSLScoreCallback:
    """A callback that has seen each sample once, but for one in a hundred."""
    callback, generator = make_callback(num_samples, device), torch.Generator().manual_seed(0)
    for start in range(0, num_samples, 2**14):
        index = torch.arange(start, min(start + 2**14, num_samples))
        observed = torch.rand(2, len(index), generator=generator).to(device)
        index = torch.where(index % 100 == 99, -1, index).to(device)
        callback.statistics.update(index, *observed, assume_unique=True)
    return callback


def acquire_cost(name: str, size: Size, device: torch.device) -> Cost:
    """Measure `acquire`, picks and scores, of `acquisition=name`; its memory is true in a fresh process alone."""
    strategy = make_strategy(name)
    tiny = make_candidates(_TINY, device)
    strategy.acquire(tiny, _TINY.budget, torch.Generator().manual_seed(0))
    candidates = make_candidates(size, device)
    return _cost(lambda: strategy.acquire(candidates, size.budget, torch.Generator().manual_seed(0)), device)


def table_cost(num_samples: int, device: torch.device) -> Cost:
    """Of `ASSLScoreCallback.query(1000)`; its memory is true in a fresh process alone."""
    make_visited(2_000, device).query(1_000)
    callback = make_visited(num_samples, device)
    return _cost(lambda: callback.query(1_000), device)


def cost_as_json(device_name: str, name: str, *size: str) -> str:
    """What a fresh process prints: the cost of a strategy, or of "table", at the numbers of its size."""
    device, numbers = torch.device(device_name), [int(number) for number in size]
    cost = table_cost(numbers[0], device) if name == "table" else acquire_cost(name, Size(*numbers), device)
    return json.dumps(asdict(cost))


def _in_fresh_process(device: torch.device, name: str, *size: int) -> Cost:
    code = "import sys; from benchmarks.acquisition import cost_as_json; print(cost_as_json(*sys.argv[1:]))"
    cost = json.loads(in_fresh_process(code, str(device), name, *map(str, size)))
    return Cost(tuple(cost["seconds"]), cost["peak"])


def _cost(call: Callable[[], object], device: torch.device) -> Cost:
    """The peak of the first call, and the seconds of those after it; of the first itself where it takes long."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = peak_bytes(device)
    first = seconds(call, device)
    peak = peak_bytes(device) - before
    if first > _LONG:
        return Cost((first,), peak)
    return Cost(tuple(seconds(call, device) for _ in range(5 if first < _SHORT else 3)), peak)


def _queries() -> Iterator[tuple[str, Size]]:
    """Every strategy at every size that it can do."""
    for name in strategy_names():
        yield name, _FIFTY_THOUSAND
        if name in ("coreset", "cdal"):
            yield name, _FEW_LABELLED
        if name == "herding":
            yield from ((name, size) for size in (_COVERED, _COVERED_BY_MANY, _MILLION))
        yield name, _CIFAR100


def _strategy(name: str, size: Size, device: torch.device, quick: bool) -> Iterator[Figure]:
    if name == "scikit_activeml" and find_spec("skactiveml") is None:
        yield Figure(_SECTION, name, str(size), "s", (), note="Not measured: scikit-activeml is not installed.")
        return
    cost = acquire_cost(name, size, device) if quick else _in_fresh_process(device, name, *astuple(size))
    time_target = _at_most(_SECONDS_AT_MOST.get((name, size), {}).get(device.type))
    memory_target = _at_most(_MEGABYTES_AT_MOST.get((name, size)))
    note = _TYPICLUST if name == "scikit_activeml" else _ACQUIRE
    yield from _figures(name, str(size), cost, time_target, memory_target, note)


def _table(num_samples: int, device: torch.device, quick: bool) -> Iterator[Figure]:
    what, size = "query of the table", f"N = {num_samples:,}, K = 1,000"
    if not table_fits(num_samples, device):
        note = "Not measured: four times the table does not fit into the memory."
        yield Figure(_SECTION, what, size, "s", (), note=note)
        return
    cost = table_cost(num_samples, device) if quick else _in_fresh_process(device, "table", num_samples)
    time_target = _at_most(_TABLE_SECONDS_AT_MOST.get(device.type))
    yield from _figures(what, size, cost, time_target, _at_most(_TABLE_MEGABYTES_AT_MOST), _TABLE)


def _figures(
    what: str, size: str, cost: Cost, time_target: Target | None, memory_target: Target | None, note: str
) -> Iterator[Figure]:
    yield Figure(_SECTION, what, size, "s", cost.seconds, time_target, note)
    yield Figure(_SECTION, f"{what}, peak memory", size, "MB", (cost.peak / 1e6,), memory_target, note)


def _at_most(value: float | None) -> Target | None:
    return None if value is None else Target("≤", value)
