"""Randomness as a function: a draw depends on (seed, purpose, round, step, row) and on nothing else.

`derive_key` turns a seed and a purpose into 64 bits; `Draws` turns a key and the rows of a batch into numbers. Both are
counter-based (SplitMix64; Steele, Lea and Flood 2014), so no generator has a state that could be lost, and a CPU, a
GPU and any number of ranks draw the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy
from functools import lru_cache

import torch
from torch import Tensor

Slots = int | Sequence[int]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # ⌊2⁶⁴ / golden ratio⌋, SplitMix64's increment
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_ROW = 0xD1342543DE82EF95  # odd, so that row · _ROW never repeats; keeps (row, slot) pairs apart


def derive_key(seed: int, purpose: str, *counters: int) -> int:
    """Return a key in [0, 2⁶³) that depends on all of its arguments, and on no state.

    `purpose` names the use of the draws ("weak", "permutation", …), so that two uses under one seed are independent;
    `counters` distinguish the draws of one purpose, such as the round and the step.

    >>> derive_key(0, "weak", 1, 2) == derive_key(0, "weak", 1, 2)
    True
    >>> derive_key(0, "weak", 1, 2) == derive_key(0, "strong", 1, 2)
    False
    """
    text = ":".join([purpose, str(seed), *map(str, counters)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def make_generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """Return a new CPU generator whose seed is the key of (seed, purpose, counters)."""
    return torch.Generator().manual_seed(derive_key(seed, purpose, *counters))


class Draws:
    """Independent draws for each row of a batch: a pure function of (key, row, slot).

    `row` (B,) int64 is the row's position in the *global* batch, so that ranks which share a batch draw the same as one
    process would. A *slot* numbers the draws of one row: different slots are independent, and the same slot gives the
    same number again. Nothing here waits for the device.

    Every method takes either one slot and returns (B,), or n slots and returns (B, n), at the cost of one call.
    """

    def __init__(self, key: int, row: Tensor) -> None:
        self.key = key
        self.row = row
        self._column: dict[int, int] = {}  # slot → its column in `_ahead`
        self._ahead = row  # (B, n) bits of the n slots in `_column`; unused if there is none

    def prefetch(self, slots: Sequence[int]) -> Draws:
        """Return the same draws with the bits of `slots` computed in advance; asking for neighbours is then cheap."""
        draws = copy(self)
        draws._ahead = self.bits(slots)
        draws._column = {slot: column for column, slot in enumerate(slots)}
        return draws

    def __len__(self) -> int:
        return int(self.row.shape[0])

    def take(self, positions: Tensor) -> Draws:
        """Return the draws of some rows: `positions` (b,) int64 into `row`, or a (B,) mask."""
        return Draws(self.key, self.row[positions])

    def bits(self, slot: Slots) -> Tensor:
        """Return int64, 64 random bits each."""
        if isinstance(slot, int):
            return self.bits((slot,))[:, 0]
        columns = [self._column.get(number, -1) for number in slot]
        first = columns[0] if columns else -1
        if first >= 0 and columns == list(range(first, first + len(columns))):
            return self._ahead[:, first : first + len(columns)]
        z = (self.row * _signed(_ROW))[:, None] + (_offsets(tuple(slot), self.row.device) + _signed(self.key))
        z = (z ^ _shift_right(z, 30)) * _signed(_MIX_1)
        z = (z ^ _shift_right(z, 27)) * _signed(_MIX_2)
        return z ^ _shift_right(z, 31)

    def uniform(self, slot: Slots) -> Tensor:
        """Return float32, uniform on the multiples of 2⁻²⁴ in [0, 1)."""
        return _shift_right(self.bits(slot), 40).to(torch.float32) * 2.0**-24

    def integers(self, slot: Slots, high: int) -> Tensor:
        """Return int64, uniform on 0 … high − 1 (to within high · 2⁻³²)."""
        return (_shift_right(self.bits(slot), 32) * high) >> 32

    def bernoulli(self, slot: Slots, probability: float) -> Tensor:
        """Return bool, True with the given probability."""
        return self.uniform(slot) < probability


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _offsets(slots: tuple[int, ...], device: torch.device) -> Tensor:
    """Return (n,) int64: the offset of each slot from the key. Cached per device: a copy from the host would wait."""
    offsets = [_signed((slot + 1) * _GOLDEN & _MASK) for slot in slots]
    return torch.tensor(offsets, dtype=torch.int64, device=device)


def _signed(value: int) -> int:
    """Return the int64 with the same 64 bits."""
    return value - (1 << 64) if value >> 63 else value


def _shift_right(bits: Tensor, count: int) -> Tensor:
    """Shift logically: torch's `>>` keeps the sign of an int64."""
    return (bits >> count) & ((1 << (64 - count)) - 1)
