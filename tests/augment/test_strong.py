from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image, ImageDraw
from scipy.stats import chi2_contingency, chisquare
from torch.utils._python_dispatch import TorchDispatchMode

from assl_lightning.augment import FIXMATCH_OPS, StrongAugment, WeakAugment, compiled, dense
from assl_lightning.augment.ops import OPERATIONS
from assl_lightning.augment.plans import Plan
from assl_lightning.augment.strong import SLOTS_PER_OPERATION, StrongSlot
from assl_lightning.augment.weak import WeakSlot
from assl_lightning.base.seeding import Draws, Slots, derive_key

PLANS = pytest.mark.parametrize("plan", [compiled, dense], ids=["compiled", "dense"])
SHAPES = [(3, 32, 32), (1, 28, 28), (3, 17, 23), (3, 84, 84), (1, 1, 1)]
STILL = WeakAugment(flip=False, pad_fraction=0.0)  # a weak view that changes nothing


def batch(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def draws(count: int, key: int = 0, device: str = "cpu") -> Draws:
    return Draws(derive_key(key, "strong"), torch.arange(count, device=device))


def cutout_by_pil(image: torch.Tensor, u: float, v: float, fraction: float) -> torch.Tensor:
    """A PIL rectangle, both corners included; the second corner follows from the clipped first one."""
    channels, height, width = image.shape
    side_x, side_y = int(width * fraction), int(height * fraction)
    x0, y0 = int(max(0, u * width - side_x / 2.0)), int(max(0, v * height - side_y / 2.0))
    x1, y1 = int(min(width, x0 + side_x)), int(min(height, y0 + side_y))
    canvas = Image.fromarray(image[0].numpy() if channels == 1 else image.permute(1, 2, 0).contiguous().numpy())
    ImageDraw.Draw(canvas).rectangle((x0, y0, x1, y1), fill=127 if channels == 1 else (127, 127, 127))
    pixels = torch.from_numpy(np.array(canvas))
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1)


def strong_by_definition(augment: StrongAugment, images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Sample by sample, in the order of the paper; `test_ops.py` holds the operations themselves against PIL."""
    views = augment.weak(images, draws)
    for position in range(augment.num_ops):
        offset = position * SLOTS_PER_OPERATION
        drawn = draws.integers(StrongSlot.OPERATION + offset, len(augment.ops))
        applied = draws.bernoulli(StrongSlot.APPLIED + offset, augment.op_probability)
        magnitude = 1 + draws.integers(StrongSlot.MAGNITUDE + offset, augment.max_magnitude)
        negative = draws.integers(StrongSlot.SIGN + offset, 2)
        for i in range(len(views)):
            if applied[i]:
                code = torch.tensor([OPERATIONS.index(augment.ops[int(drawn[i])])])
                sign = 1 - 2 * negative[i : i + 1]
                views[i] = dense.change(views[i : i + 1], code, magnitude[i : i + 1], sign)[0]
    u, v = draws.uniform(StrongSlot.CUTOUT_X).tolist(), draws.uniform(StrongSlot.CUTOUT_Y).tolist()
    return torch.stack([cutout_by_pil(views[i], u[i], v[i], augment.cutout_fraction) for i in range(len(views))])


@PLANS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("num_ops", [2, 0, 3])
def test_the_strong_view_equals_its_definition(num_ops: int, shape: tuple[int, int, int], plan: Plan) -> None:
    augment, images = StrongAugment(num_ops=num_ops), batch(96, *shape)
    expected = strong_by_definition(augment, images, draws(96))
    torch.testing.assert_close(augment._view(images, draws(96), plan), expected, rtol=0, atol=0)


@PLANS
@pytest.mark.parametrize("fraction", [0.5, 0.3, 1.0])
@pytest.mark.parametrize("shape", [*SHAPES, (3, 8, 8), (3, 40, 11)], ids=str)
def test_cutout_equals_pils_rectangle(shape: tuple[int, int, int], fraction: float, plan: Plan) -> None:
    augment = StrongAugment(weak=STILL, num_ops=0, cutout_fraction=fraction)
    images, draw = batch(400, *shape), draws(400)
    u, v = draw.uniform(StrongSlot.CUTOUT_X).tolist(), draw.uniform(StrongSlot.CUTOUT_Y).tolist()
    expected = torch.stack([cutout_by_pil(images[i], u[i], v[i], fraction) for i in range(400)])
    torch.testing.assert_close(augment._view(images, draw, plan), expected, rtol=0, atol=0)


def test_a_box_inside_is_17_pixels_wide_and_keeps_its_size_at_the_left_edge_alone() -> None:
    white = torch.full((4000, 1, 32, 32), 255, dtype=torch.uint8)
    grey = StrongAugment(weak=STILL, num_ops=0)(white, draws(4000))[:, 0] == 127
    columns = grey.any(dim=1)  # (B, 32)
    width, starts_left, ends_right = columns.sum(1), columns[:, 0], columns[:, -1]
    assert width[~ends_right].unique().tolist() == [17]
    assert width[starts_left].unique().tolist() == [17]
    assert int(width.min()) == 9  # a centre just inside the right edge
    # the box starts at 0 for every centre below 9
    assert starts_left.float().mean().item() == pytest.approx(9 / 32, abs=0.03)


class _OneCentre(Draws):
    """Draws whose every uniform number is the same."""

    def __init__(self, value: float) -> None:
        super().__init__(0, torch.arange(1))
        self.value = value

    def uniform(self, slot: Slots) -> torch.Tensor:
        return torch.full_like(self.bits(slot), self.value, dtype=torch.float32)


def test_a_centre_just_below_a_pixels_edge_is_not_rounded_onto_it() -> None:
    u = (70 * 2**24 // 84) / 2**24  # 84 · u is 70 in float32, and 28 · 2⁻²⁴ less in truth
    image = batch(3, 84, 84)
    view = StrongAugment(weak=STILL, num_ops=0)(image[None], _OneCentre(u))[0]
    torch.testing.assert_close(view, cutout_by_pil(image, u, u, 0.5), rtol=0, atol=0)


def test_no_cutout_at_fraction_zero() -> None:
    images = batch(20, 3, 16, 16)
    augment = StrongAugment(weak=STILL, num_ops=0, cutout_fraction=0)
    torch.testing.assert_close(augment(images, draws(20)), images, rtol=0, atol=0)


def test_operations_magnitudes_signs_and_applications_have_the_stated_frequencies() -> None:
    augment, draw = StrongAugment(), draws(40_000)
    codes = []
    for code, magnitude, sign in zip(*(drawn.unbind(1) for drawn in augment._draw_operations(draw)), strict=True):
        counts = torch.bincount(code, minlength=14).numpy()
        expected = np.full(14, 0.5 / 14)
        expected[OPERATIONS.index("Identity")] += 0.5  # drawn, or nothing applied
        assert chisquare(counts, expected * len(draw)).pvalue > 1e-3
        assert magnitude.unique().tolist() == list(range(1, 10))
        assert chisquare(torch.bincount(magnitude)[1:].numpy()).pvalue > 1e-3
        assert sign.unique().tolist() == [-1, 1]
        assert chisquare(torch.bincount(sign + 1).numpy()[::2]).pvalue > 1e-3
        for other, values in ((magnitude, 10), (sign + 1, 3)):
            table = torch.bincount(code * values + other, minlength=14 * values).view(14, values).numpy()
            assert chi2_contingency(table[:, table.sum(0) > 0]).pvalue > 1e-3
        codes.append(code)
    for first, second in ((codes[0], codes[1]), (codes[0][:-1], codes[0][1:])):  # positions; neighbouring samples
        table = torch.bincount(first * 14 + second, minlength=14 * 14).view(14, 14).numpy()
        assert chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_an_operation_is_applied_with_its_probability(probability: float) -> None:
    augment = StrongAugment(op_probability=probability, ops=("Rotate",))
    applied = augment._draw_operations(draws(20_000))[0] != 0
    assert applied.float().mean().item() == pytest.approx(probability, abs=0.01)


def test_magnitude_ten_occurs_only_on_request() -> None:
    magnitude = StrongAugment(max_magnitude=10)._draw_operations(draws(20_000))[1]
    assert magnitude.unique().tolist() == list(range(1, 11))


def test_no_two_parts_share_a_slot() -> None:
    per_operation = [s for s in StrongSlot if s >= StrongSlot.OPERATION]
    repeated = [slot + position * SLOTS_PER_OPERATION for slot in per_operation for position in range(20)]
    slots = [*WeakSlot, *(s for s in StrongSlot if s < StrongSlot.OPERATION), *repeated]
    assert len(set(slots)) == len(slots)


@PLANS
def test_a_part_of_the_batch_is_augmented_as_in_the_whole(plan: Plan) -> None:
    images, positions = batch(200, 3, 16, 16), torch.tensor([141, 3, 3, 7])
    whole = StrongAugment()._view(images, draws(200), plan)
    part = StrongAugment()._view(images[positions], draws(200).take(positions), plan)
    torch.testing.assert_close(part, whole[positions], rtol=0, atol=0)


def test_equal_images_of_one_batch_get_different_views() -> None:
    images = batch(1, 3, 32, 32).expand(100, 3, 32, 32).contiguous()
    assert len(StrongAugment()(images, draws(100)).unique(dim=0)) == 100


def test_the_same_draws_give_the_same_view_and_no_global_generator_moves() -> None:
    images, state = batch(50, 3, 16, 16), torch.get_rng_state()
    before = images.clone()
    first, second, other = (StrongAugment()(images, draws(50, key)) for key in (1, 1, 2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())
    torch.testing.assert_close(images, before, rtol=0, atol=0)


@PLANS
@pytest.mark.parametrize("num_ops", [0, 2])
def test_a_weak_view_that_is_the_images_leaves_them_as_they_were(plan: Plan, num_ops: int) -> None:
    images = batch(50, 3, 16, 16)
    before = images.clone()
    kept = images.clone()
    same: list[Any] = [
        lambda images, _draws: images,
        lambda images, _draws: images.view_as(images),
        lambda *_: kept,
        STILL,
    ]
    views = [StrongAugment(weak=weak, num_ops=num_ops)._view(images, draws(50), plan) for weak in same]
    torch.testing.assert_close(images, before, rtol=0, atol=0)
    torch.testing.assert_close(kept, before, rtol=0, atol=0)
    for view in views[:-1]:
        torch.testing.assert_close(view, views[-1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("weak", "got"),
    [
        (lambda images, _draws: images.float(), r"torch\.float32 of shape \(5, 3, 16, 16\)"),
        (lambda images, _draws: images[1:], r"5 rows on cpu for 4 images"),
    ],
)
def test_a_weak_view_of_another_kind_is_refused(weak: Any, got: str) -> None:
    with pytest.raises(ValueError, match=got):
        StrongAugment(weak=weak)(batch(5, 3, 16, 16), draws(5))


def test_how_a_weak_view_lies_in_memory_does_not_matter() -> None:
    images = batch(50, 3, 16, 16)

    def channels_last(images: torch.Tensor, _draws: Draws) -> torch.Tensor:
        return images.contiguous(memory_format=torch.channels_last)

    views = [StrongAugment(weak=weak)(images, draws(50)) for weak in (channels_last, STILL)]  # type: ignore[arg-type]
    torch.testing.assert_close(*views, rtol=0, atol=0)


@PLANS
def test_an_empty_batch_stays_empty(plan: Plan) -> None:
    assert StrongAugment()._view(batch(0, 3, 8, 8), draws(0), plan).shape == (0, 3, 8, 8)


class _Recorder(TorchDispatchMode):
    """The names of the operators that ran."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


WAITING = {"_local_scalar_dense", "nonzero", "bincount", "masked_select", "unique_dim", "_unique2", "equal"}


def test_the_dense_plan_never_waits_for_the_device() -> None:
    images = batch(8, 3, 16, 16)
    StrongAugment()._view(images, draws(8), dense)  # the tables of this size are made once
    with _Recorder() as recorder:
        WeakAugment()._view(images, draws(8), dense)
        StrongAugment()._view(images, draws(8), dense)
    assert not recorder.names & WAITING
    with _Recorder() as recorder:
        images[images > 3].max().item()
    assert recorder.names & WAITING  # the recorder does see what it looks for


def test_a_device_other_than_the_cpu_gets_the_dense_plan() -> None:
    # "meta" tensors have no values: whoever asks for one fails
    view = StrongAugment()(batch(8, 3, 16, 16).to("meta"), draws(8, device="meta"))
    assert (view.shape, view.dtype, view.device.type) == ((8, 3, 16, 16), torch.uint8, "meta")


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cuda_gives_the_cpus_bits_without_a_synchronisation(shape: tuple[int, int, int]) -> None:
    images = batch(448, *shape)
    on_device, draw = images.cuda(), draws(448, device="cuda")
    StrongAugment()(on_device, draw)  # the tables of this size are made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        view = StrongAugment()(on_device, draw)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(view.cpu(), StrongAugment()(images, draws(448)), rtol=0, atol=0)


def test_a_configurations_list_of_operations_becomes_a_tuple() -> None:
    augment = StrongAugment(ops=OmegaConf.create(["Rotate", "Color"]))  # type: ignore[arg-type]
    assert augment.ops == ("Rotate", "Color")
    assert augment == StrongAugment(ops=("Rotate", "Color"))


def test_unknown_operations_are_named_beside_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"must name one or more of AutoContrast, .*; got 'Invert', 'rotate'$"):
        StrongAugment(ops=("Color", "Invert", "rotate"))


def test_an_empty_list_of_operations_is_refused() -> None:
    with pytest.raises(ValueError, match=r"StrongAugment\.ops must name one or more of .*; got none$"):
        StrongAugment(ops=())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ops": "Rotate"}, r"StrongAugment\.ops must be a list of operations' names; got the one string 'Rotate'"),
        ({"weak": {"flip": False}}, r"StrongAugment\.weak must be a WeakAugment, or called like one; got \{'flip': F"),
        ({"num_ops": -1}, r"StrongAugment\.num_ops must be a whole number from 0 up; got -1"),
        ({"num_ops": 1.5}, r"StrongAugment\.num_ops must be a whole number from 0 up; got 1\.5"),
        ({"max_magnitude": 0}, r"StrongAugment\.max_magnitude must be a whole number from 1 to 10; got 0"),
        ({"max_magnitude": 11}, r"StrongAugment\.max_magnitude must be a whole number from 1 to 10; got 11"),
        ({"op_probability": 1.5}, r"StrongAugment\.op_probability must lie in \[0, 1\]; got 1\.5"),
        ({"op_probability": "half"}, r"StrongAugment\.op_probability must lie in \[0, 1\]; got 'half'"),
        ({"cutout_fraction": -0.5}, r"StrongAugment\.cutout_fraction must lie in \[0, 1\]; got -0\.5"),
    ],
)
def test_a_setting_out_of_range_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        StrongAugment(**settings)


def test_the_defaults_are_fixmatchs() -> None:
    assert StrongAugment() == StrongAugment(WeakAugment(True, 0.125), 2, 9, 0.5, 0.5, FIXMATCH_OPS)
