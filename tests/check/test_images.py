"""The oracles compare images pairwise and count draws one by one."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assl_lightning.check.findings import Finding, remark
from assl_lightning.check.images import (
    check_images,
    expected_misses,
    find_expected_misses,
    group_by_content,
    labels_for,
)
from assl_lightning.data.sources.base import PoolSource
from tests.stored_images import in_memory

NUM_POOL, NUM_TEST = 120, 80


def make_source(**changes: Any) -> PoolSource:
    """Noise, no two images alike, in four classes."""
    images = torch.randint(256, (NUM_POOL + NUM_TEST, 3, 5, 4), generator=torch.Generator().manual_seed(0)).byte()
    values: dict[str, Any] = {
        "pool_images": images[:NUM_POOL].clone(),
        "hidden_labels": torch.arange(NUM_POOL) % 4,
        "test_images": images[NUM_POOL:].clone(),
        "test_labels": torch.arange(NUM_TEST) % 4,
        "class_names": ("ant", "bee", "cat", "dog"),
        "sample_ids": tuple(f"image/{index:03d}" for index in range(NUM_POOL)),
    }
    return PoolSource(**(values | changes))


def check(source: PoolSource, initial_labels: int = 40, *, may_exclude: bool = False) -> list[Finding]:
    return check_images(source, initial_labels, may_exclude=may_exclude)


def with_images(part: str, copies: dict[int, Tensor]) -> PoolSource:
    source = make_source()
    for position, image in copies.items():
        getattr(source, part)[position] = image
    return source


def test_a_data_set_that_is_whole_has_no_finding() -> None:
    assert check(make_source()) == []


def test_files_that_may_be_images_and_cannot_be_read_are_counted_by_their_names() -> None:
    assert check(make_source(passed_over={".txt": 12, ".csv": 1})) == []
    (finding,) = check(make_source(passed_over={".heic": 4_000, ".txt": 12, "no suffix": 1}))
    assert finding == remark(
        "4,001 files are passed over, since their names are not those of images: 4000 × .heic, 1 × no suffix; if "
        "some are images, save them as JPEG or PNG, with one of the suffixes that docs/your_own_images.md lists."
    )
    (one,) = check(make_source(passed_over={".heic": 1}))
    assert "1 file is passed over, since its name is not that of an image: 1 × .heic" in one.sentence


# --- content ---------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.integers(0, 3), min_size=1, max_size=12), transposed=st.booleans())
def test_images_are_grouped_as_comparing_every_pair_groups_them(values: list[int], transposed: bool) -> None:
    """Values 0 … 3 in the last pixel alone, and once in a layout that is not contiguous."""
    images = torch.zeros(len(values), 2, 3, 3, dtype=torch.uint8)
    images[:, 1, 2, 0] = torch.tensor(values, dtype=torch.uint8)
    if transposed:
        images = images.transpose(2, 3)
    groups = group_by_content(images, torch.arange(len(values)))
    together = {pair for group in groups.values() for pair in combinations(group, 2)}
    expected = {pair for pair in combinations(range(len(values)), 2) if torch.equal(images[pair[0]], images[pair[1]])}
    assert together == expected
    assert sorted(index for group in groups.values() for index in group) == list(range(len(values)))


def test_only_the_images_that_were_named_are_grouped() -> None:
    images = torch.zeros(5, 1, 2, 2, dtype=torch.uint8)
    assert list(group_by_content(images, torch.tensor([1, 4])).values()) == [[1, 4]]


def test_more_than_one_test_image_in_a_hundred_in_the_pool_is_wrong_and_says_which() -> None:
    source = make_source()
    source = with_images("test_images", {7: in_memory(source.pool_images)[30], 12: in_memory(source.pool_images)[30]})
    assert check(source) == [
        Finding(
            "wrong",
            "2 of the 80 test images (2.50 %) are in the pool too, pixel for pixel, such as test image 7, which is "
            "image/030; accuracy would be measured on training images: take them out of one of the two.",
        )
    ]


def test_fewer_test_images_in_the_pool_are_a_remark_that_says_how_much_they_can_move() -> None:
    source = make_source(
        test_images=torch.randint(256, (200, 3, 5, 4), generator=torch.Generator().manual_seed(1)).byte(),
        test_labels=torch.arange(200) % 4,
    )
    in_memory(source.test_images)[199] = in_memory(source.pool_images)[0]
    (finding,) = check(source)
    assert finding.severity == "remark"
    assert finding.sentence.startswith(
        "1 of the 200 test images (0.50 %) is in the pool too, pixel for pixel, such as test"
    )
    assert finding.sentence.endswith("which is image/000; accuracy can be too high by 0.50 points at most.")


def test_repeats_within_the_pool_are_a_remark_and_those_with_another_label_come_first() -> None:
    source = make_source()
    first, second = in_memory(source.pool_images)[3], in_memory(source.pool_images)[8]
    assert check(with_images("pool_images", {7: first, 12: second, 16: second})) == [
        Finding(
            "remark",
            "3 of the pool's images are copies, pixel for pixel, of others, such as image/007, a copy of image/003; "
            "people would label the same picture more than once.",
        )
    ]
    (finding,) = check(with_images("pool_images", {7: first, 13: second}))
    assert finding.sentence == (
        "2 of the pool's images are copies, pixel for pixel, of others; 1 picture has copies with other labels, such "
        "as image/013, a copy of image/008; people would label the same picture more than once."
    )
    (finding,) = check(with_images("pool_images", {7: first}))
    assert finding.sentence.startswith(
        "1 of the pool's images is a copy, pixel for pixel, of another, such as image/007,"
    )


def test_names_of_classes_that_may_be_none_are_a_remark() -> None:
    assert check(make_source(class_names=("NA", "bee", "cat", "dog"))) == [
        Finding(
            "remark",
            "A class is called 'NA', as programs call what is missing; leave the label empty where it is not known.",
        )
    ]


# --- images that cannot be decoded -----------------------------------------------------------------------------------


def test_images_that_cannot_be_decoded_are_counted_and_named_and_are_no_repeats_of_one_another() -> None:
    source = make_source(unreadable=torch.tensor([1, 5, 9, 80]))
    in_memory(source.pool_images)[source.unreadable] = 0
    found = (
        "4 of the pool's 120 images cannot be decoded (image/001, image/005, image/009, and 1 more; --unreadable FILE "
        "lists all)"
    )
    assert check(source) == [
        Finding("wrong", f"{found}; fetch them again, or leave them out of the run with data.unreadable=exclude.")
    ]
    assert check(source, may_exclude=True) == [
        Finding("remark", f"{found} and will be left out of the run, since data.unreadable=exclude.")
    ]


def test_a_class_of_which_no_image_can_be_decoded_has_no_example() -> None:
    of_class = torch.arange(2, NUM_POOL, 4)
    findings = check(make_source(unreadable=of_class), may_exclude=True)
    assert [finding.severity for finding in findings] == ["remark", "wrong"]
    assert findings[1].sentence == (
        "1 of the 4 classes has no example in the pool (cat), so no label can ever be asked for it; add examples, "
        "or lower data.num_classes."
    )


# --- labels that nobody knows ----------------------------------------------------------------------------------------


def test_of_classes_that_nobody_knows_nothing_is_said_but_of_the_test_sets() -> None:
    source = make_source(class_names=("ant", "bee", "cat", "dog", "eel"))
    source.hidden_labels[::2] = -1
    (test,) = check(source, initial_labels=1)
    assert test.sentence.startswith("1 of the 5 classes has no example in the test set (eel), so no accuracy")


def test_repeats_disagree_only_where_both_labels_are_known() -> None:
    source = with_images("pool_images", {9: in_memory(make_source().pool_images)[4]})
    (known,) = check(source)
    assert "copies with other labels" in known.sentence
    source.hidden_labels[9] = -1
    (unknown,) = check(source)
    assert "copies with other labels" not in unknown.sentence
    assert "such as image/009, a copy of image/004;" in unknown.sentence


# --- classes ---------------------------------------------------------------------------------------------------------


def test_classes_without_an_example_in_the_test_set_are_named() -> None:
    source = make_source(class_names=("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"))
    pool, test = check(source)
    assert (pool.severity, test.severity) == ("wrong", "wrong")
    assert pool.sentence.startswith(
        "4 of the 8 classes have no example in the pool (eel, fox, gnu, and 1 more), so no label can"
    )
    assert test.sentence == (
        "4 of the 8 classes have no example in the test set (eel, fox, gnu, and 1 more), so no accuracy can be "
        "measured on them; add examples, or lower data.num_classes."
    )


def test_an_empty_test_set_lacks_every_class() -> None:
    source = make_source()
    (finding,) = check(
        replace(source, test_images=in_memory(source.test_images)[:0], test_labels=source.test_labels[:0])
    )
    assert finding.sentence.startswith("4 of the 4 classes have no example in the test set")


def misses_of_definition(counts: list[int], drawn: int) -> float:
    """The mean over all draws of how many classes each misses."""
    owners = [number for number, count in enumerate(counts) for _ in range(count)]
    present = {number for number, count in enumerate(counts) if count}
    draws = list(combinations(owners, drawn))
    return sum(len(present - set(draw)) for draw in draws) / len(draws)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), counts=st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(any))
def test_the_classes_that_a_draw_misses_are_those_of_all_draws(data: st.DataObject, counts: list[int]) -> None:
    drawn = data.draw(st.integers(0, sum(counts)))
    assert expected_misses(counts, drawn) == pytest.approx(misses_of_definition(counts, drawn), abs=1e-9)


def test_large_pools_do_not_overflow() -> None:
    """Ten labels of ten classes of 5,000: each is missed with a probability of about 0.9¹⁰."""
    assert expected_misses([5000] * 10, 10) == pytest.approx(10 * 0.9**10, rel=1e-3)
    exact = 10 * math.comb(45_000, 300) / math.comb(50_000, 300)
    assert expected_misses([5000] * 10, 300) == pytest.approx(exact, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=6), misses=st.floats(0.05, 2))
def test_enough_labels_are_the_fewest_that_are(counts: list[int], misses: float) -> None:
    enough = labels_for(counts, misses)
    by_trying = next(drawn for drawn in range(sum(counts) + 1) if expected_misses(counts, drawn) < misses)
    assert enough == max(by_trying, 1)


def test_classes_that_the_initial_labels_can_be_expected_to_miss_are_a_remark() -> None:
    assert find_expected_misses(torch.tensor([50, 50, 0, 50]), 50) == []
    assert find_expected_misses(torch.tensor([50, 50, 0, 50]), 151) == []
    assert find_expected_misses(torch.tensor([50, 50, 0, 50]), 1) == [
        Finding(
            "remark",
            "Of the 3 classes, 2.0 can be expected to have no example among 1 initial label, drawn uniformly; from "
            "initial_labels=5 on it is less than 0.5.",
        )
    ]


def test_a_hold_out_is_no_test_set_without_classes() -> None:
    whole = make_source()
    source = replace(
        whole,
        hidden_labels=torch.full_like(whole.hidden_labels, -1),
        test_images=in_memory(whole.test_images)[:0],
        test_labels=whole.test_labels[:0],
    )
    (finding,) = check(source)
    assert "no example in the test set (ant, bee, cat, and 1 more)" in finding.sentence
    assert check_images(source, 40, may_exclude=False, hold_out=10) == []
