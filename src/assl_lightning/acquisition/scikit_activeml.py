"""The pool strategies of scikit-activeml, on the network's features and with its own predictions.

Kottke et al. 2021, "scikit-activeml: A Library and Toolbox for Active Learning Algorithms". The package is looked for
when a strategy is made or asked, not when this file is imported.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from assl_lightning.base.copies import first_copies
from assl_lightning.base.extras import install_command
from assl_lightning.base.ties import float64_device, head_in_float64, to_float64
from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.top_k import check_budget, check_finite, in_index_order

_GIVEN = frozenset({"X", "y", "candidates", "batch_size", "clf", "fit_clf", "estimator", "fit_estimator"})
"""Arguments of a strategy's `query` that the adapter has."""


@final
@dataclass(frozen=True)
class ScikitActiveML:
    """Select with a pool strategy for one annotator: X are the features, the classifier is the network as it is now.

    The classifier's probabilities are softmax(head(X)), and it cannot be fitted, so what fits classifiers of its own
    (expected error reduction) or asks for several (query by committee) cannot be used. All runs on the CPU: TypiClust
    takes 20 s for 100 of 20,000 samples of 512 features, and what compares all pairs, such as ProbCover, O(M²) memory;
    `skactiveml.pool.SubSamplingWrapper` around a strategy lets it look at some of the samples.

    Which samples are picked follows from the generator alone: it gives `random_state` and, while the strategy runs,
    the seed of NumPy's global generator, from which a clustering without a `random_state` draws. X is float64, so that
    the order in which threads add numbers up changes no pick. Copies, candidates whose features are those of a labelled
    sample or of an earlier candidate, are in X but not asked about, since strategies fail on them or repeat themselves;
    where a strategy has too few others, the rest is drawn uniformly.

    Args:
        query_strategy: "package.module.Class", such as "skactiveml.pool.TypiClust".
        arguments: of its constructor, beside `random_state`.

    Raises:
        ValueError: the class is not there, or cannot be given what it needs. Where scikit-activeml is not installed,
            `acquire` says so.
    """

    query_strategy: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    requires: ClassVar[frozenset[Requirement]] = frozenset({"features", "labelled", "head"})

    def __post_init__(self) -> None:
        if find_spec("skactiveml") is not None:
            self._strategy_class()

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select in the strategy's order. Without scores: what a strategy calls utility differs from pick to pick.

        A feature vector that is not finite is an error that names the sample, and a failure inside the strategy one
        that names the strategy.
        """
        check_budget(budget, len(candidates))
        strategy_class = self._strategy_class()
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        index, given = _arguments(candidates, budget)
        strategy = strategy_class(**{"random_state": seed, **self.arguments})
        picked = self._ask(strategy, given, seed) if given["batch_size"] else []
        positions = torch.as_tensor(np.asarray(picked, dtype=np.int64))
        return Selection(_fill_up(index[positions], candidates.index.cpu(), budget, generator))

    def _ask(self, strategy: Any, given: dict[str, Any], seed: int) -> Any:
        """Return the positions in X that the strategy picks."""
        taken = inspect.signature(strategy.query).parameters
        try:
            with _numpy_seed(seed), warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct samples than clusters
                return strategy.query(**{name: value for name, value in given.items() if name in taken})
        except NotImplementedError:  # our own sentence
            raise
        except Exception as error:
            raise ValueError(
                f"{self.query_strategy} cannot choose {given['batch_size']} of {len(given['candidates'])} distinct "
                f"candidates beside {int(np.isfinite(given['y']).sum())} labelled samples; it fails with "
                f"{type(error).__name__}: {error}. Use another strategy, or other arguments of this one"
            ) from error

    def _strategy_class(self) -> Callable[..., Any]:
        """Return the class, or raise where it does not take `arguments` or needs more than the adapter has."""
        name = self.query_strategy
        try:
            strategy_class: Callable[..., Any] = resolve_name(name)
            query = strategy_class.query  # type: ignore[attr-defined]
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"query_strategy {name!r} must be a query strategy, package.module.Class, that can be imported, with "
                f"scikit-activeml installed ({install_command('activeml')}); {error}"
            ) from error
        try:
            inspect.signature(strategy_class).bind(**{"random_state": None, **self.arguments})
        except TypeError as error:
            takes = ", ".join(inspect.signature(strategy_class).parameters)
            raise ValueError(f"arguments must be those of {name}'s constructor, {takes}; {error}") from error
        needed = {
            parameter.name
            for parameter in list(inspect.signature(query).parameters.values())[1:]  # without self
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        }
        if not needed <= _GIVEN:
            raise ValueError(
                f"{name} needs {', '.join(sorted(needed - _GIVEN))} to answer a query, which a single trained network "
                f"does not give; use a strategy that needs only clf, such as skactiveml.pool.UncertaintySampling"
            )
        return strategy_class


def _arguments(candidates: Candidates, budget: int) -> tuple[Tensor, dict[str, Any]]:
    """Return the pool indices (L + M,) of the rows of X, labelled samples first, and the arguments for `query`."""
    labelled, features = candidates.require("labelled"), candidates.require("features").detach()
    index, ours = in_index_order(candidates.index.cpu(), features.cpu())
    labelled_index, labels, theirs = in_index_order(
        labelled.index.cpu(), labelled.labels.cpu(), labelled.features.detach().cpu()
    )
    everything = torch.cat([labelled_index, index])
    rows = to_float64(torch.cat([theirs, ours]))
    check_finite("length of the feature vector", torch.linalg.vector_norm(rows, dim=1), everything)
    y = np.full(len(everything), np.nan)  # their mark of a label that is missing
    y[: len(labels)] = labels.numpy()
    device = float64_device(features.device)
    head = head_in_float64(candidates.require("head"), device)
    num_classes = head(rows[:1].to(device)).shape[1]
    network = _make_classifier(head, device, rows.numpy(), y, num_classes)
    distinct = np.flatnonzero((first_copies(rows) == torch.arange(len(rows))).numpy() & np.isnan(y))
    return everything, {
        "X": rows.numpy(),
        "y": y,
        "candidates": distinct,
        "batch_size": min(budget, len(distinct)),
        "clf": network,
        "fit_clf": False,
        "estimator": network,
        "fit_estimator": False,
    }


def _make_classifier(
    head: Callable[[Tensor], Tensor], device: torch.device, rows: NDArray[Any], labels: NDArray[Any], num_classes: int
) -> Any:
    """Make a classifier for scikit-activeml that is trained already; `head` is given float64 on the `device`."""
    from skactiveml.base import SkactivemlClassifier

    class TrainedNetwork(SkactivemlClassifier):  # type: ignore[misc]
        def fit(self, X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> Any:  # noqa: N803
            raise NotImplementedError(
                "this query strategy fits its classifier anew, which the trained network cannot be; "
                "use one that takes its predictions as they are"
            )

        @torch.no_grad()
        def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float64]:  # noqa: N803
            logits = head(torch.as_tensor(X).to(device, torch.float64))
            probabilities: NDArray[np.float64] = logits.cpu().softmax(-1).numpy()
            return probabilities

    network = TrainedNetwork(classes=list(range(num_classes)), random_state=0)
    network._validate_data(rows, labels)  # takes note of the classes, as a `fit` does
    return network


def _fill_up(picked: Tensor, index: Tensor, budget: int, generator: torch.Generator) -> Tensor:
    """Return the distinct samples of `picked` in their order, then others of `index` drawn uniformly: (budget,)."""
    distinct = list(dict.fromkeys(picked.tolist()))
    rest = index[~torch.isin(index, picked)].sort().values
    drawn = rest[torch.randperm(len(rest), generator=generator)]
    return torch.cat([torch.tensor(distinct, dtype=torch.int64), drawn])[:budget]


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator for a block, and restore its state afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
