"""Distribution alignment: its laws, and what is no target."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assl_lightning.learning.alignment import DistributionAlignment, Target
from tests.learning.judging import column_means, moved, probabilities, steps


def alignment(target: Target, prior: list[float] | None = None, warm_up: bool = True) -> DistributionAlignment:
    return DistributionAlignment(4, target, prior, momentum=0.9, warm_up=warm_up)


def mean(rows: torch.Tensor) -> torch.Tensor:
    return rows.mean(0)


def test_without_a_target_nothing_changes() -> None:
    rows = torch.rand(5, 4).softmax(1)
    assert torch.equal(alignment("none").align(rows, rows, mean), rows)


def test_a_pool_that_has_the_frequencies_already_is_left_as_it_is() -> None:
    rows = torch.eye(4) * 0.6 + 0.1
    assert torch.allclose(alignment("uniform").align(rows, rows, mean), rows, atol=1e-5)
    skewed = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.5, 0.3, 0.1, 0.1]])
    prior = skewed.mean(0).tolist()
    assert torch.allclose(alignment("prior", prior).align(skewed, rows, mean), skewed, atol=1e-5)


@pytest.mark.parametrize("target", ["uniform", "labelled", "prior"])
@pytest.mark.parametrize("warm_up", [True, False])
def test_it_is_the_definition_step_by_step(target: Target, warm_up: bool) -> None:
    prior = [0.4, 0.3, 0.2, 0.1]
    aligner = alignment(target, prior if target == "prior" else None, warm_up)
    of_pool, of_labelled = [0.25] * 4, [0.25] * 4
    for step, (weak, labelled) in enumerate(steps(30)):
        plain, others = probabilities(weak), probabilities(labelled)
        momentum = min(0.9, step / (step + 1)) if warm_up else 0.9
        first = momentum if step or warm_up else 0.0
        of_pool = moved(of_pool, column_means(plain), first)
        of_labelled = moved(of_labelled, column_means(others), momentum)
        wanted = {"uniform": [0.25] * 4, "labelled": of_labelled, "prior": prior}[target]
        expected = []
        for row in plain:
            scaled = [p * (q + 1e-6) / (o + 1e-6) for p, q, o in zip(row, wanted, of_pool, strict=True)]
            expected.append([value / sum(scaled) for value in scaled])
        found = aligner.align(weak.softmax(1), labelled.softmax(1), mean)
        assert torch.allclose(found.double(), torch.tensor(expected, dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize(
    ("target", "prior", "message"),
    [
        ("unifrom", None, "target must be one of uniform, labelled, prior, none; got 'unifrom'"),
        ("prior", None, "prior must be given with target=prior, and only then; got target=prior, prior=None"),
        ("uniform", [0.25] * 4, "prior must be given with target=prior, and only then; got target=uniform"),
        ("prior", [0.5, 0.5], "prior must be 4 frequencies of at least 0 that sum to 1.*got 2 that sum to 1"),
        ("prior", [1.2, -0.2, 0, 0], "prior must be 4 frequencies"),
        ("prior", [1, 1, 1, 1], "got 4 that sum to 4"),
        ("prior", [0.5, "rest", 0.1, 0.1], r"prior\[1\] must be a number; got 'rest'"),
        ("prior", 0.3, "prior must be a list of the frequencies of the 4 classes; got 0.3"),
    ],
)
def test_what_is_no_target_is_refused(target: Any, prior: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        alignment(target, prior)
