"""Picks and scores in one pass, against the two passes of before; a strategy that is its score alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from assl_lightning.acquisition.highest_score import HighestScore
from assl_lightning.method.candidates import Acquisition, Candidates
from tests.acquisition.exact_candidates import consistent, make_exact_candidates
from tests.acquisition.test_contract import ask, every_strategy, make_candidates, make_strategy, permute
from tests.acquisition.two_passes import TwoPasses, score

POOLS: dict[str, Callable[[], Candidates]] = {
    "exact": make_exact_candidates,
    "drawn": lambda: consistent(make_candidates(300)),
    "alike": lambda: make_candidates(30, alike=True),
}


@every_strategy
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("budget", [1, 7, 30])
def test_one_pass_gives_the_picks_and_the_scores_of_two(name: str, pool: str, ascending: bool, budget: int) -> None:
    strategy, candidates = make_strategy(name), POOLS[pool]()
    if score(strategy, candidates) is None:
        pytest.skip("it ranks without a score")
    if not ascending:
        order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(0))
        candidates = permute(candidates, order)
    found, expected = ask(strategy, candidates, budget), ask(TwoPasses(strategy), candidates, budget)
    assert found.index.tolist() == expected.index.tolist()
    assert found.scores is not None
    assert expected.scores is not None
    assert found.scores.dtype == expected.scores.dtype
    assert torch.equal(found.scores, expected.scores)


@dataclass(frozen=True)
class Brightest(HighestScore):
    requires = frozenset({"features"})
    asked: list[int] = field(default_factory=list)

    def scores(self, candidates: Candidates) -> Tensor:
        self.asked.append(len(candidates))
        return candidates.require("features").mean(1)


def test_a_strategy_that_is_its_score_alone_is_asked_once_and_picks_the_largest() -> None:
    strategy, candidates = Brightest(), make_candidates(20)
    assert isinstance(strategy, Acquisition)
    selection = ask(strategy, candidates, 6)
    assert strategy.asked == [20]
    assert candidates.features is not None
    brightness = candidates.features.mean(1)
    assert selection.index.tolist() == candidates.index[brightness.argsort(descending=True)[:6]].tolist()
    assert torch.equal(selection.scores, brightness)  # type: ignore[arg-type]


@pytest.mark.parametrize("budget", [0, 21])
def test_a_budget_that_cannot_be_filled_is_refused_before_anything_is_scored(budget: int) -> None:
    strategy = Brightest()
    with pytest.raises(ValueError, match=f"budget .*{budget}"):
        ask(strategy, make_candidates(20), budget)
    assert strategy.asked == []


def test_a_field_is_handed_over_by_name_or_missed_by_name() -> None:
    candidates = make_candidates(5)
    assert candidates.require("labelled") is candidates.labelled
    labelled = candidates.require("labelled")
    assert labelled.require("features") is labelled.features
    with pytest.raises(ValueError, match=r"needs labelled\.logits, which is None; name logits in `requires` beside"):
        replace(labelled, logits=None).require("logits")
    with pytest.raises(ValueError, match=r"needs candidates\.head, which is None; name it in `requires`"):
        replace(candidates, head=None).require("head")


def test_the_strategy_that_contributing_writes_out_runs_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    document = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    code = re.findall(r"```python\n(.*?)```", document[document.index("## Add a strategy") :], re.DOTALL)[0]
    module = ModuleType("my_rules")
    monkeypatch.setitem(sys.modules, "my_rules", module)  # where a dataclass looks for its annotations
    exec(code, module.__dict__)
    candidates = make_candidates(20)
    selection = ask(module.SecondBest(), candidates, 6)
    assert candidates.logits is not None
    second = [sorted(row)[-2] for row in candidates.logits.double().softmax(1).tolist()]
    best = sorted(range(20), key=lambda row: -second[row])[:6]
    assert selection.index.tolist() == candidates.index[best].tolist()
