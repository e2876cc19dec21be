# mypy: ignore-errors
"""Eq. 1 and 4 of a batch in one launch, and the visits of its samples (Eq. 3 and 5) in another.

The formulas are those of `scores` and `statistics`, in float32. Symbols: B rows, C classes, N samples in the pool.
"""

import triton
import triton.language as tl


@triton.jit
def _log1p(x):
    """Precise for small x, where log(1 + x) is not: 2·artanh(x / (2 + x)) as a series up to x = 0.4."""
    s = x / (2.0 + x)
    t = s * s
    series = 1.0 + t * (1.0 / 3 + t * (1.0 / 5 + t * (1.0 / 7 + t * (1.0 / 9 + t * (1.0 / 11)))))
    return tl.where(x < 0.4, 2.0 * s * series, tl.log(1.0 + x))


@triton.jit
def _one_less_exp(d):
    """1 − exp(−d) for d ≥ 0, precise for small d, as a series up to d = 0.4."""
    series = 1.0 - d / 7 * (1.0 - d / 8 * (1.0 - d / 9))
    series = 1.0 - d / 2 * (1.0 - d / 3 * (1.0 - d / 4 * (1.0 - d / 5 * (1.0 - d / 6 * series))))
    return tl.where(d < 0.4, d * series, 1.0 - tl.exp(-d))


@triton.jit
def score_rows(weak, strong, observed, C, HAS_STRONG: tl.constexpr, BLOCK: tl.constexpr):
    """Program i scores row i: logits (B, C) → observed (B, 2) float32, pseudo-EL2N and symmetric KL, or 0."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    is_class = at < C
    a = tl.load(weak + row * C + at, mask=is_class, other=-float("inf")).to(tl.float32)
    largest = tl.max(a, 0)
    power = tl.where(is_class, tl.exp(a - largest), 0.0)
    of_a = power / tl.sum(power, 0)
    is_rest = is_class & (at != tl.argmax(a, 0))
    rest = tl.where(is_rest, of_a, 0.0)
    scale = tl.maximum(tl.max(rest, 0), 1.1754943508222875e-38)  # float32's smallest normal number
    share = rest / scale
    total = tl.sum(share, 0)
    tl.store(observed + 2 * row, tl.sqrt(total * total + tl.sum(share * share, 0)) * scale)

    distance = 0.0
    if HAS_STRONG:
        b = tl.load(strong + row * C + at, mask=is_class, other=-float("inf")).to(tl.float32)
        largest_b = tl.max(b, 0)
        power_b = tl.where(is_class, tl.exp(b - largest_b), 0.0)
        of_b = power_b / tl.sum(power_b, 0)
        is_rest_b = is_class & (at != tl.argmax(b, 0))
        normaliser = _log1p(tl.sum(tl.where(is_rest, power, 0.0), 0))
        normaliser -= _log1p(tl.sum(tl.where(is_rest_b, power_b, 0.0), 0))
        apart = tl.abs(((a - b) - (largest - largest_b)) - normaliser)
        terms = tl.maximum(of_a, of_b) * _one_less_exp(apart) * apart
        distance = 0.5 * tl.sum(tl.where(is_class, terms, 0.0), 0)
    tl.store(observed + 2 * row + 1, distance)


@triton.jit
def _is_finite(v):
    return (v * v) < float("inf")  # False for NaN


@triton.jit(do_not_specialize=["num_rows"])
def visit_rows(
    index,  # (B,) int64
    observed,  # (B, 2) float32: uncertainty and inconsistency
    values,  # (N + 1, 4) float32: means of both, variances of both
    visits,  # (N + 1,) int32
    updates,  # () int64, those before; one more is counted
    fault, fault_values,  # (2,) int64 update and index of the first invalid observation or −1, and its (2,) values
    num_rows, num_samples,
    alpha, rest,  # α and 1 − α
    IS_POST: tl.constexpr, SKIPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Program i visits the sample of row i as often as the batch has it, in order, if i is the first of its rows."""
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    is_row = at < num_rows
    indices = tl.load(index + at, mask=is_row, other=-1)
    u = tl.load(observed + 2 * at, mask=is_row, other=0.0)
    i = tl.load(observed + 2 * at + 1, mask=is_row, other=0.0)
    is_inside = (indices >= 0) & (indices < num_samples)
    is_valid = is_row & is_inside & _is_finite(u) & _is_finite(i)
    if row == 0:
        is_fault = is_row & (indices != -1) & (is_inside == 0 if SKIPS else is_valid == 0)
        first_fault = tl.min(tl.where(is_fault, at, num_rows), 0)
        before = tl.load(updates)
        tl.store(updates, before + 1)
        if (first_fault < num_rows) & (tl.load(fault) < 0):
            tl.store(fault, before)
            tl.store(fault + 1, tl.load(index + first_fault))
            tl.store(fault_values, tl.load(observed + 2 * first_fault))
            tl.store(fault_values + 1, tl.load(observed + 2 * first_fault + 1))

    mine = tl.load(index + row)
    is_mine = is_valid & (indices == mine)
    position = tl.min(tl.where(is_mine, at, num_rows), 0)
    if position == row:
        to = values + mine * 4
        u_mean, i_mean, u_variance, i_variance = tl.load(to), tl.load(to + 1), tl.load(to + 2), tl.load(to + 3)
        times = tl.sum(is_mine.to(tl.int32), 0)
        for _ in range(times):
            new_u, new_i = tl.load(observed + 2 * position), tl.load(observed + 2 * position + 1)
            u_before, i_before = u_mean, i_mean
            u_mean, i_mean = alpha * new_u + rest * u_mean, alpha * new_i + rest * i_mean
            u_off, i_off = new_u - (u_mean if IS_POST else u_before), new_i - (i_mean if IS_POST else i_before)
            u_variance = alpha * (u_off * u_off) + rest * u_variance
            i_variance = alpha * (i_off * i_off) + rest * i_variance
            position = tl.min(tl.where(is_mine & (at > position), at, num_rows), 0)
        tl.store(to, u_mean)
        tl.store(to + 1, i_mean)
        tl.store(to + 2, u_variance)
        tl.store(to + 3, i_variance)
        tl.store(visits + mine, tl.load(visits + mine) + times)
