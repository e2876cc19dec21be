from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare, kstest

from assl_lightning.base.seeding import Draws, derive_key, make_generator

MASK = (1 << 64) - 1


def splitmix64_of_definition(key: int, row: int, slot: int) -> int:
    """Steele, Lea and Flood 2014, in Python's unbounded integers; the counter is key + (slot + 1)·γ + row·odd."""
    z = (key + (slot + 1) * 0x9E3779B97F4A7C15 + row * 0xD1342543DE82EF95) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@pytest.mark.parametrize("key", [0, 1, derive_key(3, "weak", 2, 99), (1 << 63) - 1])
@pytest.mark.parametrize("slot", [0, 1, 40])
def test_the_bits_are_those_of_splitmix64(key: int, slot: int) -> None:
    rows = [0, 1, 2, 447, 10**12]
    bits = Draws(key, torch.tensor(rows)).bits(slot)
    assert [value & MASK for value in bits.tolist()] == [splitmix64_of_definition(key, row, slot) for row in rows]


@pytest.mark.parametrize("key", [0, derive_key(3, "weak", 2, 99), (1 << 63) - 1])
def test_several_slots_at_once_are_those_slots_one_by_one(key: int) -> None:
    draws, slots = Draws(key, torch.arange(50)), (3, 0, 40)
    for several, single in (
        (draws.bits(slots), draws.bits),
        (draws.uniform(slots), draws.uniform),
        (draws.integers(slots, 14), lambda slot: draws.integers(slot, 14)),
        (draws.bernoulli(slots, 0.3), lambda slot: draws.bernoulli(slot, 0.3)),
    ):
        assert torch.equal(several, torch.stack([single(slot) for slot in slots], dim=1))


def test_bits_computed_ahead_are_the_same_bits() -> None:
    draws = Draws(derive_key(3, "weak"), torch.arange(50))
    ahead = draws.prefetch((7, 2, 3))
    for slots in (7, 3, (7, 2), (2, 3), (3, 2), (7, 3), (2, 9), 9, ()):
        assert torch.equal(ahead.bits(slots), draws.bits(slots)), slots
    assert torch.equal(ahead.take(torch.tensor([4, 1])).bits(2), draws.bits(2)[[4, 1]])


def test_every_argument_of_a_key_matters() -> None:
    keys = {
        derive_key(0, "weak"),
        derive_key(1, "weak"),
        derive_key(0, "strong"),
        derive_key(0, "weak", 0),
        derive_key(0, "weak", 0, 1),
        derive_key(0, "weak", 1, 0),
        derive_key(0, "weak", 10),
    }
    assert len(keys) == 7
    assert all(0 <= key < 1 << 63 for key in keys)


def test_uniform_numbers_are_uniform_and_slots_rows_and_keys_are_uncorrelated() -> None:
    rows = torch.arange(20_000)
    first = Draws(derive_key(0, "a"), rows)
    columns = torch.stack([first.uniform(0), first.uniform(1), Draws(derive_key(0, "b"), rows).uniform(0)])
    assert columns.dtype == torch.float32
    assert columns.min() >= 0
    assert columns.max() < 1
    for column in columns:
        assert kstest(column.numpy(), "uniform").pvalue > 1e-3
    correlation = torch.corrcoef(torch.cat([columns, columns[:1].roll(1, 1)]))
    assert correlation.triu(1).abs().max() < 4 / 20_000**0.5


def test_integers_are_uniform_below_their_bound() -> None:
    values = Draws(derive_key(0, "a"), torch.arange(14_000)).integers(3, 14)
    counts = values.bincount()
    assert len(counts) == 14
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_a_bernoulli_draw_has_its_probability() -> None:
    draws = Draws(derive_key(5, "a"), torch.arange(10_000))
    assert abs(draws.bernoulli(0, 0.3).float().mean().item() - 0.3) < 0.02
    assert not draws.bernoulli(0, 0.0).any()
    assert draws.bernoulli(0, 1.0).all()


def test_a_row_draws_the_same_whatever_rows_stand_beside_it() -> None:
    whole = Draws(7, torch.arange(8))
    half = Draws(7, torch.arange(4, 8))
    assert torch.equal(whole.uniform(2)[4:], half.uniform(2))
    assert torch.equal(whole.take(torch.tensor([6, 1])).bits(0), whole.bits(0)[[6, 1]])
    assert len(half) == 4


def test_a_generator_starts_where_its_key_says() -> None:
    first, again, other = (make_generator(0, "x", number) for number in (1, 1, 2))
    drawn = torch.rand(3, generator=first)
    assert torch.equal(drawn, torch.rand(3, generator=again))
    assert not torch.equal(drawn, torch.rand(3, generator=other))
