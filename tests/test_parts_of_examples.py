"""The formulas of the examples of other published scores, against their definitions, and what the examples keep."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import torch
from torch import Tensor

from assl_lightning.acquisition import Candidates
from assl_lightning.base.seeding import make_generator

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def learning_loss() -> dict[str, Any]:
    return run_path(str(EXAMPLES / "learning_loss.py"))


@pytest.fixture(scope="module")
def ensemble() -> dict[str, Any]:
    return run_path(str(EXAMPLES / "ensemble_of_rounds.py"))


# ---- learning loss


@pytest.mark.parametrize(("rows", "margin"), [(2, 1.0), (7, 1.0), (32, 0.25)])
def test_the_ranking_loss_is_that_of_the_paper(learning_loss: dict[str, Any], rows: int, margin: float) -> None:
    """A loop over pairs in float64; some true losses are equal, which count as not larger."""
    generator = torch.Generator().manual_seed(rows)
    predicted = torch.randn(rows, generator=generator).double().requires_grad_()
    true = torch.randint(0, 3, (rows,), generator=generator).double()
    half, total, numbers = rows // 2, 0.0, predicted.tolist()
    gradient = [0.0] * rows
    for i, j in zip(range(half), range(half, 2 * half), strict=True):
        sign = 1 if true[i] > true[j] else -1
        excess = margin - sign * (numbers[i] - numbers[j])
        total += max(0.0, excess) / half
        if excess > 0:
            gradient[i], gradient[j] = -sign / half, sign / half
    loss = learning_loss["ranking_loss"](predicted, true, margin)
    loss.backward()
    assert loss.item() == pytest.approx(total, abs=1e-12)
    assert predicted.grad is not None
    assert predicted.grad.tolist() == pytest.approx(gradient)


@pytest.mark.parametrize("is_late", [False, True])
def test_late_in_training_the_predicted_loss_changes_the_second_head_alone(
    learning_loss: dict[str, Any], is_late: bool
) -> None:
    module = learning_loss["LearningLoss"]()
    logits, predicted = module(torch.rand(4, 1, 8, 8), is_late)
    assert (logits.shape, predicted.shape) == ((4, 10), (4,))
    predicted.sum().backward()
    changed = {name.partition(".")[0] for name, weights in module.named_parameters() if weights.grad is not None}
    assert changed == {"of_layers", "predicted_loss"} | (set() if is_late else {"layers"})


def test_the_uncertainty_is_the_predicted_loss_in_its_order_and_not_negative(learning_loss: dict[str, Any]) -> None:
    index, predicted = torch.tensor([5, 2, 9]), torch.tensor([-1.5, 0.5, -30.0])
    found = learning_loss["observe"]({"predicted_loss": predicted}, None, None, index)
    assert found.uncertainty.tolist() == pytest.approx([math.log1p(math.exp(x)) for x in predicted.tolist()])
    assert (found.index.tolist(), found.inconsistency) == ([5, 2, 9], None)


# ---- ensembles of the rounds' networks


def by_definition(predictions: list[list[float]], measure: str) -> float:
    """The score of one sample by the predictions of the networks that have seen it."""

    def entropy(p: list[float]) -> float:
        return -sum(x * math.log(x) for x in p if x > 0)

    number = len(predictions)
    if measure == "variation_ratio":
        votes = Counter(max(range(len(p)), key=p.__getitem__) for p in predictions)
        return 1 - votes.most_common(1)[0][1] / number
    mean = [sum(column) / number for column in zip(*predictions, strict=True)]
    return entropy(mean) - sum(map(entropy, predictions)) / number


@pytest.mark.parametrize("measure", ["mutual_information", "variation_ratio"])
def test_the_disagreement_is_that_of_the_definition(ensemble: dict[str, Any], measure: str) -> None:
    """Four networks, of which the first two have not seen all samples; certain predictions, and equal ones."""
    generator = torch.Generator().manual_seed(3)
    p = (3 * torch.randn(4, 40, 5, generator=generator)).double().softmax(-1)
    p[:, 0] = torch.eye(5)[0]
    p[:, 1] = torch.eye(5)[[0, 1, 2, 2]].double()
    p[0, 5:15], p[1, 10:15] = torch.nan, torch.nan
    expected = [by_definition([row.tolist() for row in p[:, s] if not row.isnan().any()], measure) for s in range(40)]
    found = ensemble["MEASURES"][measure](p)
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert float(found.min()) >= 0
    assert expected[1] > expected[0] == 0


CLASSES = 3


def logits_of(round_number: int, index: Tensor) -> Tensor:
    """What the network of a round predicts, (M, C)."""
    of_pool = torch.randn(30, CLASSES, generator=torch.Generator().manual_seed(round_number))
    return 3 * of_pool[index]


def asked(strategy: Any, round_number: int, index: Tensor, classes: int = CLASSES) -> Any:
    """Query as the loop does after a round."""
    logits = torch.cat([logits_of(round_number, index), torch.zeros(len(index), classes - CLASSES)], dim=1)
    return strategy.acquire(Candidates(index, logits=logits), 4, make_generator(0, "acquisition", round_number))


def expected_scores(rounds: list[int], index: Tensor) -> list[float]:
    """The mutual information of the rounds' networks, all of which have seen the candidates."""
    all_of_them = torch.stack([logits_of(number, index).double().softmax(1) for number in rounds])
    return [by_definition(all_of_them[:, row].tolist(), "mutual_information") for row in range(len(index))]


def test_the_last_networks_count_and_a_round_that_is_queried_again_counts_once(
    ensemble: dict[str, Any], tmp_path: Path
) -> None:
    """Each query is that of another process, in which nothing but the file is known of the earlier ones."""

    def strategy() -> Any:
        return ensemble["EnsembleOfRounds"](str(tmp_path / "kept"), networks=3, measure="mutual_information")

    pool = torch.arange(30).flip(0)
    first = asked(strategy(), 0, pool)
    entropy = torch.distributions.Categorical(logits=logits_of(0, pool).double()).entropy()
    assert first.scores.tolist() == pytest.approx(entropy.tolist(), rel=1e-6)
    assert first.index.tolist() == pool[entropy.argsort(descending=True)[:4]].tolist()

    left = pool[pool % 5 != 0]
    again: list[Any] = []
    for number, count in [(1, [0, 1]), (2, [0, 1, 2]), (2, [0, 1, 2]), (3, [1, 2, 3]), (3, [1, 2, 3])]:
        found = asked(strategy(), number, left)
        assert found.scores.tolist() == pytest.approx(expected_scores(count, left), rel=1e-5, abs=1e-7)
        again.append(found.index.tolist())
    assert again[1] == again[2]
    assert again[3] == again[4]
    assert len(torch.load(tmp_path / "kept" / "ensemble.pt", weights_only=True)["rounds"]) == 3

    asked(strategy(), 1, left)  # a run that begins anew in the same directory
    begun_anew = asked(strategy(), 2, left)
    assert begun_anew.scores.tolist() == pytest.approx(expected_scores([1, 2], left), rel=1e-5, abs=1e-7)


def test_a_sample_that_came_later_is_judged_by_the_networks_that_have_seen_it(
    ensemble: dict[str, Any], tmp_path: Path
) -> None:
    strategy = ensemble["EnsembleOfRounds"](str(tmp_path), measure="mutual_information")
    asked(strategy, 0, torch.arange(10))
    asked(strategy, 1, torch.arange(20))
    found = asked(strategy, 2, torch.arange(30))
    expected = [
        *expected_scores([0, 1, 2], torch.arange(10)),
        *expected_scores([1, 2], torch.arange(10, 20)),
        *[0.0] * 10,
    ]
    assert found.scores.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_other_classes_are_refused_in_one_line_and_what_is_kept_stays(ensemble: dict[str, Any], tmp_path: Path) -> None:
    strategy = ensemble["EnsembleOfRounds"](str(tmp_path))
    asked(strategy, 0, torch.arange(30))
    kept = (tmp_path / "ensemble.pt").read_bytes()
    with pytest.raises(ValueError, match="has predictions of 3 classes, and the newest network predicts 4;") as told:
        asked(strategy, 1, torch.arange(30), classes=4)
    assert str(tmp_path / "ensemble.pt") in str(told.value)
    assert "\n" not in str(told.value)
    assert (tmp_path / "ensemble.pt").read_bytes() == kept
    (tmp_path / "ensemble.pt").unlink()  # what the line says
    asked(strategy, 1, torch.arange(30), classes=4)


@pytest.mark.parametrize("wrong", [{"networks": 1}, {"measure": "entropy"}])
def test_arguments_that_cannot_be_are_refused(ensemble: dict[str, Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="networks must be at least 2, and measure one of variation_ratio, mutual_inf"):
        ensemble["EnsembleOfRounds"]("kept", **wrong)
