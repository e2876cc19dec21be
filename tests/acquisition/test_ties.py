"""The same picks in whatever order, in whatever blocks, on however many threads, and on every processor."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor, nn

from assl_lightning.acquisition import alfa_mix_flips, bald, ball_cover, dcom, points, typiclust
from assl_lightning.base import copies
from assl_lightning.base.ties import comparable, head_in_float64
from assl_lightning.config.compose import conf_dir
from assl_lightning.method import coverage, greedy, mean_probabilities, scores, top_k
from tests.acquisition.exact_candidates import make_exact_candidates, pick, select
from tests.acquisition.test_contract import OWN_DRAWS, every_strategy, make_strategy, permute

ROOT = conf_dir().parent


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@every_strategy
def test_copies_and_ties_are_picked_alike_in_whatever_order_the_candidates_come(name: str) -> None:
    strategy, candidates = make_strategy(name), make_exact_candidates()
    expected = pick(strategy, candidates)
    for seed in range(3):
        order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))
        assert pick(strategy, permute(candidates, order)) == expected


@every_strategy
@pytest.mark.parametrize("size", [1, 70])
def test_blocks_of_any_size_give_the_same_picks(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, candidates = make_strategy(name), make_exact_candidates()
    expected = pick(strategy, candidates)
    for module, constant, value in (
        (top_k, "_CHUNK", size),
        (greedy, "_CONTENDERS", size),
        (points, "_BLOCK", size),
        (coverage, "_BLOCK", size),
        (coverage, "_CENTRES", size),
        (ball_cover, "_BYTES", size),
        (dcom, "_BLOCK", size),
        (typiclust, "_BLOCK", size),
        (bald, "_BLOCK_CPU", 80 * size),
        (alfa_mix_flips, "_BLOCK_CPU", 16 * size),
        (copies, "_BLOCK_CPU", 8 * size),
        (mean_probabilities, "_BLOCK", size),
    ):
        monkeypatch.setattr(module, constant, value)
    assert pick(strategy, candidates) == expected


@every_strategy
def test_any_number_of_threads_gives_the_same_picks(name: str, threads: None) -> None:
    strategy, candidates, found = make_strategy(name), make_exact_candidates(600, distinct=350), []
    for count in (1, 2):
        torch.set_num_threads(count)
        with threadpool_limits(count):
            found.append(pick(strategy, candidates))
    assert found[0] == found[1]


@every_strategy
def test_copies_score_the_same_to_the_last_bit(name: str) -> None:
    if name in OWN_DRAWS:
        pytest.skip("equal samples have draws of their own")
    candidates = make_exact_candidates()
    order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(0))
    values = select(make_strategy(name), permute(candidates, order)).scores
    if values is None:
        pytest.skip("it ranks without a score")
    of_sample = torch.empty_like(values).index_copy(0, order, values).view(3, -1)
    assert torch.equal(of_sample, of_sample[:1].expand_as(of_sample))


@pytest.mark.slow
def test_every_capability_of_the_processor_gives_the_same_picks() -> None:
    """On a processor that lacks one, torch takes the next below, so that fewer are compared."""
    found = {}
    for capability in ("default", "avx2", "avx512"):
        for count in ("1", "2"):
            environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": count}
            command = [sys.executable, "-m", "tests.acquisition.exact_candidates", count]
            answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            assert answer.returncode == 0, answer.stderr
            found[capability, count] = json.loads(answer.stdout)
    assert found["default", "1"]["capability"] == "DEFAULT"
    expected = found["default", "1"]["picks"]
    assert {key: value["picks"] for key, value in found.items() if value["picks"] != expected} == {}


def test_equal_predictions_with_their_classes_swapped_are_equal_when_compared() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(20_000, 10, generator=generator, dtype=torch.float64)
    swapped = logits.gather(1, torch.rand(20_000, 10, generator=generator).argsort(1))
    for score in (scores.entropy, scores.margin, scores.least_confidence, scores.pseudo_el2n):
        assert not torch.equal(score(logits), score(swapped)), "nothing was rounded differently"
        assert torch.equal(comparable(score(logits)), comparable(score(swapped)))


def test_what_is_compared_has_the_24_bits_of_a_float32_and_the_range_of_a_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(10_000, generator=generator, dtype=torch.float64)
    nearest = values.float().double()
    rounded = comparable(values)
    torch.testing.assert_close(rounded, nearest, rtol=2.0**-23, atol=0)
    assert int((rounded != nearest).sum()) < 3  # but ties, which go to the even neighbour there
    assert float(comparable(torch.tensor(1e-300, dtype=torch.float64))) == pytest.approx(1e-300, rel=6e-8)
    special = torch.tensor([0.0, -0.0, math.inf, -math.inf], dtype=torch.float64)
    assert torch.equal(comparable(special), special)
    assert bool(comparable(torch.tensor([math.nan], dtype=torch.float64)).isnan().all())
    assert torch.equal(comparable(nearest), nearest)


class Stubborn(nn.Module):
    """A head that computes in float32 whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))
        self.constant = [torch.ones(2)]

    def forward(self, features: Tensor) -> Tensor:
        return features.float() @ self.weight.T + self.constant[0]


def test_a_head_computes_in_float64_where_it_can_and_keeps_its_parameters() -> None:
    linear = nn.Linear(3, 2)
    features = torch.randn(5, 3, dtype=torch.float64)
    head = head_in_float64(linear, features.device)
    exact = features @ linear.weight.detach().double().T + linear.bias.detach().double()
    torch.testing.assert_close(head(features), exact, rtol=1e-14, atol=1e-15)
    assert linear.weight.dtype == torch.float32
    assert not head(features).requires_grad


@pytest.mark.parametrize("head", [Stubborn(), lambda features: features[:, :2]])
def test_a_head_that_refuses_float64_is_given_float32(head: nn.Module) -> None:
    features = torch.randn(5, 3, dtype=torch.float64)
    found = head_in_float64(head, features.device)(features)
    torch.testing.assert_close(found, head(features.float()).double(), rtol=0, atol=0)
    assert found.dtype == torch.float64


class Enormous(nn.Module):
    """Has no room for its product in float64."""

    def forward(self, features: Tensor) -> Tensor:
        if features.dtype == torch.float64:
            raise torch.OutOfMemoryError
        return features


def test_a_head_that_has_no_room_in_float64_is_not_given_float32_in_silence() -> None:
    features = torch.randn(5, 3, dtype=torch.float64)
    with pytest.raises(torch.OutOfMemoryError):
        head_in_float64(Enormous(), features.device)(features)
