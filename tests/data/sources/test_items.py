"""What a data set's items may be, and what becomes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assl_lightning.data.decoding import ImageFormat
from assl_lightning.data.sources.items import DrawnTest, Namer, make_source, read_items, to_label, to_pillow
from tests.stored_images import in_memory

COLOUR = np.random.default_rng(0).integers(256, size=(6, 5, 3), dtype=np.uint8)
GREY = COLOUR[:, :, 0]
FORM = ImageFormat((6, 5), 3)
DRAWN = DrawnTest(0.5, 0)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(COLOUR), COLOUR),
        (COLOUR, COLOUR),
        (torch.from_numpy(COLOUR).permute(2, 0, 1), COLOUR),
        (GREY, GREY),
        (GREY[:, :, None], GREY),
        (torch.from_numpy(GREY)[None], GREY),
        (GREY.astype(np.uint16) * 257, GREY.astype(np.uint16) * 257),
        (np.dstack([COLOUR, GREY]), np.dstack([COLOUR, GREY])),
    ],
)
def test_an_image_may_be_of_pillow_an_array_or_a_tensor(image: Any, expected: Any) -> None:
    np.testing.assert_array_equal(np.asarray(to_pillow(image, "item 0")), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_pixels_between_0_and_1_become_the_nearest_of_256_values(dtype: torch.dtype) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    scaled = (every.double() / 255).to(dtype)
    found = torch.from_numpy(np.array(to_pillow(scaled, "item 0")))
    if dtype != torch.bfloat16:  # which has eight binary digits
        assert torch.equal(found, every[0])
    expected = [round(value * 255) for value in scaled.double().flatten().tolist()]  # Python's, halves to even
    assert found.flatten().tolist() == expected
    np.testing.assert_array_equal(np.array(to_pillow(scaled[0].double().numpy(), "item 0")).ravel(), expected)


def test_halves_between_two_values_go_to_the_even_one() -> None:
    halves = np.array([[0.5, 1.5, 2.5, 254.5]]) / 255
    expected = [round(value * 255) for value in halves[0].tolist()]
    assert np.array(to_pillow(halves, "item 0"))[0].tolist() == expected


def test_what_pillow_holds_is_converted_as_files_are() -> None:
    sixteen_bits, transparent = GREY.astype(np.uint16) * 257, np.dstack([COLOUR, np.zeros_like(GREY)])
    items = read_items([(sixteen_bits, 0), (transparent, 1)], 2, FORM, Namer("pool"))
    images = in_memory(items.images)
    assert torch.equal(images[0], torch.from_numpy(GREY).expand(3, 6, 5))
    assert (images[1] == 255).all(), "over white"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            torch.ones(3, 6, 5).long(),
            r"item 0: an image must be uint8, or floating .* got torch\.int64 of shape \(3, 6",
        ),
        (
            torch.full((3, 6, 5), 1.5),
            r"item 0: floating-point pixels must be in \[0, 1\], .* got in \[1\.5, 1\.5\]; leave",
        ),
        (torch.full((3, 6, 5), -0.1), r"got in \[-0\.1, -0\.1\]; leave out Normalize"),
        (torch.full((3, 6, 5), torch.nan), r"got in \[nan, nan\]"),
        (COLOUR.astype(np.float32), r"got in \[0, 255\]|got in \[\d+, \d+\]"),
        (torch.rand(2, 6, 5), r"got torch\.float32 of shape \(2, 6, 5\)"),
        (COLOUR.transpose(2, 0, 1), r"got uint8 of shape \(3, 6, 5\)"),
        (COLOUR[None], r"of shape \(1, 6, 5, 3\)"),
        ("a.png", r"item 0: an image must be a Pillow image, an array or a tensor; got str"),
    ],
)
def test_an_image_that_nobody_can_be_sure_of_is_refused(image: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        to_pillow(image, "item 0")


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (3, 3),
        (np.int64(3), 3),
        (torch.tensor(3), 3),
        ("ok", "ok"),
        (None, None),
        (float("nan"), None),
        (" ", None),
        (-1, None),
        (torch.tensor([3]), 3),
        (np.array([-1]), None),
        ([3], 3),
    ],
)
def test_a_label_may_be_a_number_a_name_or_nothing(label: Any, expected: Any) -> None:
    assert to_label(label, "item 0") == expected


@pytest.mark.parametrize(
    "one", [torch.eye(4), torch.eye(4).long(), np.eye(4) > 0, np.eye(4).tolist(), torch.eye(4).half()]
)
def test_a_label_may_be_one_hot_over_all_classes(one: Any) -> None:
    assert [to_label(one[number], "item 0", num_classes=4) for number in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            [0, 1, 0],
            "item 0: a one-hot label must have a number for each of the 4 classes; it has 3; set data.num_classes",
        ),
        (
            [0, 1, 1, 0],
            r"item 0: a label must be one class, .* got \[0, 1, 1, 0\]: several classes for an image, and shares",
        ),
        ([0.0, 0.9, 0.1, 0.0], r"got \[0, 0\.9, 0\.1, 0\]: several"),
        ([0, 0, 0, 0], r"got \[0, 0, 0, 0\]"),
        ([0, 2, 0, 0], r"got \[0, 2, 0, 0\]"),
    ],
)
def test_several_classes_for_an_image_are_refused(label: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_label(torch.tensor(label), "item 0", num_classes=4)


@pytest.mark.parametrize("label", [True, 1.0, -2, (1, 2), torch.tensor([0, 1]), torch.eye(2), ["ok", "dent"]])
def test_another_label_is_refused(label: Any) -> None:
    with pytest.raises(ValueError, match=r"item 0: a label must be a class's number or name, or None"):
        to_label(label, "item 0")


def test_labels_are_places_among_the_classes_by_number_or_by_name() -> None:
    items = read_items([(COLOUR, 1), (COLOUR, "ok"), (COLOUR, None)], 3, FORM, Namer("pool", lambda place: f"n{place}"))
    test = items.take([1, 0])
    source = make_source(items, test, ["ok", "dent"], DRAWN)
    assert source.hidden_labels.tolist() == [1, 0, -1]
    assert source.test_labels.tolist() == [0, 1]
    assert source.sample_ids == ("n0", "n1", "n2")
    with pytest.raises(ValueError, match=r"the label of item 1 of the pool, 'ok', is not among the 2 classes \(a, b\)"):
        make_source(items, test, ["a", "b"], DRAWN)
    with pytest.raises(ValueError, match="every test image must have a label; 1 have none, such as item 2"):
        make_source(items, items, ["ok", "dent"], DRAWN)


def test_a_test_set_is_drawn_by_the_names_of_labelled_images_alone() -> None:
    pairs = [(COLOUR, number % 2 if number % 5 else None) for number in range(40)]
    items = read_items(pairs, 40, FORM, Namer("pool", lambda place: f"n{place}"))
    more = read_items([*pairs, *pairs], 80, FORM, Namer("pool", lambda place: f"n{place}"))
    few, many = (make_source(each, None, ["a", "b"], DRAWN) for each in (items, more))
    assert 5 < len(few.test_labels) < 27
    assert not (few.test_labels < 0).any()
    assert set(few.sample_ids) == set(many.sample_ids) & {f"n{number}" for number in range(40)}
    with pytest.raises(ValueError, match=r"labelled ones for the test; test_fraction=1e-09 takes 0 of 40: choose"):
        make_source(items, None, ["a", "b"], DrawnTest(1e-9, 0))


def test_an_image_that_cannot_be_converted_is_listed_in_the_pool_and_an_error_in_the_test() -> None:
    floats = Image.fromarray(np.zeros((6, 5), dtype=np.float32))
    items = read_items([(COLOUR, 0), (floats, 1)], 2, FORM, Namer("pool"))
    test = items.take([0])
    source = make_source(items, test, ["a", "b"], DRAWN)
    assert source.unreadable.tolist() == [1]
    assert source.reasons[0].startswith("item 1 (its pixels are floating")
    assert source.hidden_labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="1 of the test set's images cannot be decoded: item 1"):
        make_source(test, items, ["a", "b"], DRAWN)
