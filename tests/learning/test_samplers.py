from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare
from torch.utils.data import DistributedSampler

from assl_lightning.learning.samplers import BatchPlan, ChunkSampler, StepIndices, StepSampler

LABELLED, UNLABELLED = torch.tensor([3, 17, 40]), torch.tensor([i for i in range(60) if i not in (3, 17, 40)])
PLAN = BatchPlan(seed=0, round_number=0, num_steps=40, batch_size=4, mu=3)


def batches(
    plan: BatchPlan = PLAN,
    labelled: torch.Tensor = LABELLED,
    unlabelled: torch.Tensor = UNLABELLED,
    **where: int,
) -> list[StepIndices]:
    return list(StepSampler(labelled, unlabelled, plan, plan.num_steps, **where))


def test_within_a_pass_no_sample_comes_twice() -> None:
    drawn = batches()
    per_pass = len(UNLABELLED) // 12
    for start in range(0, len(drawn) - per_pass + 1, per_pass):
        seen = torch.cat([batch.unlabelled for batch in drawn[start : start + per_pass]])
        assert len(seen.unique()) == per_pass * 12
    assert all(len(batch.unlabelled) == 12 and len(batch.labelled) == 4 for batch in drawn)


def test_what_a_pass_leaves_over_is_redrawn_so_all_come_equally_often() -> None:
    drawn = batches(replace(PLAN, num_steps=2000))
    counts = Counter(torch.cat([batch.unlabelled for batch in drawn]).tolist())
    assert set(counts) == set(UNLABELLED.tolist())
    # a pass leaves 57 − 48 samples out, so counts vary less than independent draws would
    assert chisquare([counts[i] for i in UNLABELLED.tolist()]).pvalue > 1e-3
    assert max(counts.values()) - min(counts.values()) < 0.15 * 2000 * 12 / 57


def test_labelled_samples_come_in_permutations_put_end_to_end() -> None:
    stream = torch.cat([batch.labelled for batch in batches()]).tolist()
    for start in range(0, len(stream) - 2, 3):
        assert sorted(stream[start : start + 3]) == LABELLED.tolist()
    orders = {tuple(stream[start : start + 3]) for start in range(0, len(stream) - 2, 3)}
    assert len(orders) > 1


def test_fewer_unlabelled_samples_than_a_batch_repeat_in_permutations() -> None:
    few = UNLABELLED[:5]
    stream = torch.cat([batch.unlabelled for batch in batches(unlabelled=few)]).tolist()
    assert len(stream) == 40 * 12
    for start in range(0, len(stream) - 4, 5):
        assert sorted(stream[start : start + 5]) == few.tolist()


def test_without_unlabelled_samples_the_batch_has_none() -> None:
    for drawn in (batches(unlabelled=UNLABELLED[:0]), batches(replace(PLAN, mu=0))):
        assert all(len(batch.unlabelled) == 0 and len(batch.labelled) == 4 for batch in drawn)


def test_a_batch_is_a_function_of_seed_round_and_step() -> None:
    sampler = StepSampler(LABELLED, UNLABELLED, PLAN, 40)
    straight = list(sampler)
    for step in (39, 0, 17):
        assert torch.equal(sampler.step_indices(step).unlabelled, straight[step].unlabelled)
        assert torch.equal(sampler.step_indices(step).labelled, straight[step].labelled)
    for other in (replace(PLAN, seed=1), replace(PLAN, round_number=1)):
        assert not torch.equal(batches(other)[0].unlabelled, straight[0].unlabelled)
        assert not torch.equal(
            torch.cat([b.labelled for b in batches(other)]), torch.cat([b.labelled for b in straight])
        )


def test_epochs_cut_the_round_without_changing_it() -> None:
    sampler = StepSampler(LABELLED, UNLABELLED, PLAN, 16)
    drawn = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert len(sampler) == (16, 16, 8)[epoch]
        drawn += list(sampler)
    assert [batch.step for batch in drawn] == list(range(40))
    for one, other in zip(drawn, batches(), strict=True):
        assert torch.equal(one.unlabelled, other.unlabelled)


def test_a_stream_that_starts_in_the_middle_goes_on_from_there() -> None:
    sampler = StepSampler(LABELLED, UNLABELLED, PLAN, 16)
    sampler.start_at(21)
    assert len(sampler) == 16
    assert [batch.step for batch in sampler] == list(range(21, 32))
    sampler.set_epoch(2)
    assert [batch.step for batch in sampler] == list(range(32, 40))


def test_a_loader_that_asks_for_an_iterator_twice_begins_where_the_first_would_have() -> None:
    sampler = StepSampler(LABELLED, UNLABELLED, PLAN, 10)
    sampler.start_at(23)
    _, asked_again = iter(sampler), iter(sampler)
    assert [batch.step for batch in asked_again] == [*range(23, 30)]


def test_passes_are_for_one_process() -> None:
    with pytest.raises(ValueError, match="shorter batch, which 2 processes cannot share evenly; use one device"):
        batches(replace(PLAN, labelled_stream="passes"), num_replicas=2, rank=0)


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_part_each_global_batch_in_order(ranks: int) -> None:
    parts = [batches(num_replicas=ranks, rank=rank) for rank in range(ranks)]
    for whole, *shares in zip(batches(), *parts, strict=True):
        for name in ("labelled", "unlabelled", "labelled_row", "unlabelled_row"):
            assert torch.equal(torch.cat([getattr(share, name) for share in shares]), getattr(whole, name))
        assert whole.unlabelled_row.tolist() == list(range(12))
        assert all(share.ends_pass == whole.ends_pass for share in shares)


def test_passes_cut_each_permutation_and_leave_out_a_last_batch_of_one() -> None:
    for count, sizes in ((6, [4, 2]), (9, [4, 4]), (4, [4]), (3, [3]), (1, [1])):
        drawn = batches(replace(PLAN, labelled_stream="passes"), labelled=torch.arange(count))
        assert [len(batch.labelled) for batch in drawn[: 2 * len(sizes)]] == sizes * 2
        assert [batch.ends_pass for batch in drawn[: len(sizes)]] == [False] * (len(sizes) - 1) + [True]
        seen = torch.cat([batch.labelled for batch in drawn[: len(sizes)]])
        assert len(seen.unique()) == len(seen) == sum(sizes)


def test_the_end_of_a_tiled_pass_is_told() -> None:
    drawn = batches(labelled=torch.arange(10))
    assert [batch.ends_pass for batch in drawn[:5]] == [False, False, True, False, True]


def test_nothing_labelled_and_an_indivisible_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no labelled sample to train on"):
        batches(labelled=LABELLED[:0])
    with pytest.raises(ValueError, match="batch_size = 4 is the global batch and must be divisible by the 3 processes"):
        batches(num_replicas=3, rank=0)


def test_lightning_leaves_the_samplers_alone() -> None:
    assert isinstance(StepSampler(LABELLED, UNLABELLED, PLAN, 40), DistributedSampler)
    assert isinstance(ChunkSampler(10, 4), DistributedSampler)


@pytest.mark.parametrize(("count", "size", "ranks"), [(10, 4, 1), (10, 4, 3), (8, 4, 2), (3, 4, 2)])
def test_chunks_cover_each_position_once_with_as_many_batches_on_every_rank(count: int, size: int, ranks: int) -> None:
    chunks = [list(ChunkSampler(count, size, num_replicas=ranks, rank=rank)) for rank in range(ranks)]
    assert len({len(part) for part in chunks}) == 1
    positions = torch.cat([batch for part in chunks for batch in part])
    assert sorted(positions[positions >= 0].tolist()) == list(range(count))
    assert all(len(batch) == size for part in chunks for batch in part)
