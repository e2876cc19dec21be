"""Errors about images that cannot be decoded."""

from __future__ import annotations

import pytest
import torch

from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.undecodable import (
    UndecodableImagesError,
    refuse_undecodable,
    refuse_unreadable,
    rows_behind,
)

IDS = ("a", "b", "c", "d", "e", "f")


def source(unreadable: list[int], reasons: tuple[str, ...] = ()) -> PoolSource:
    images = torch.zeros(6, 1, 2, 2, dtype=torch.uint8)
    labels = torch.zeros(6, dtype=torch.int64)
    return PoolSource(
        *(images, labels, images[:1], labels[:1], ("ok",), IDS),
        unreadable=torch.tensor(unreadable, dtype=torch.int64),
        reasons=reasons,
    )


def test_a_whole_source_is_not_refused() -> None:
    refuse_unreadable(source([]))
    refuse_undecodable({}, {}, IDS, IDS)


def test_of_many_images_the_first_are_named_with_their_reasons_and_the_error_holds_all() -> None:
    reasons = tuple(f"{name}.png (broken)" for name in "abdef")
    with pytest.raises(UndecodableImagesError) as caught:
        refuse_unreadable(source([0, 1, 3, 4, 5], reasons))
    assert str(caught.value) == (
        "5 of the pool's 6 images cannot be decoded: a.png (broken); b.png (broken); d.png (broken); and 2 more; mend "
        "them or take them out, or leave them out of the run with data.unreadable=exclude"
    )
    rows = tuple(("pool", name, f"{name}.png (broken)") for name in "abdef")
    assert caught.value.rows == rows
    outer = RuntimeError()
    outer.__cause__ = caught.value
    assert rows_behind(outer) == rows


def test_images_without_reasons_are_named_by_their_sample_ids() -> None:
    with pytest.raises(
        UndecodableImagesError, match=r"2 of the pool's 6 images cannot be decoded: b; f; mend"
    ) as caught:
        refuse_unreadable(source([1, 5]))
    assert caught.value.rows == (("pool", "b", "it cannot be decoded"), ("pool", "f", "it cannot be decoded"))


@pytest.mark.parametrize(
    ("pool", "test", "message"),
    [
        ({}, {2: "t.png (x)"}, "1 of the test set's images cannot be decoded: t.png (x); mend them or take them out"),
        (
            {0: "p.png (x)"},
            {2: "t.png (x)"},
            "2 images cannot be decoded, 1 of the test set's and 1 of the pool's: t.png (x); p.png (x); mend them or "
            "take them out (data.unreadable=exclude leaves out those of the pool alone)",
        ),
        (
            {0: "p.png (x)", 1: "q.png (x)"},
            {},
            "2 of the pool's images cannot be decoded: p.png (x); q.png (x); mend them or take them out; no image is "
            "left in the pool",
        ),
    ],
)
def test_a_test_set_with_such_images_and_a_pool_without_others_are_refused(
    pool: dict[int, str], test: dict[int, str], message: str
) -> None:
    with pytest.raises(UndecodableImagesError) as caught:
        refuse_undecodable(pool, test, IDS[:2], IDS)
    assert str(caught.value) == message
    assert [row[:2] for row in caught.value.rows] == [
        *(("pool", IDS[i]) for i in pool),
        *(("test", IDS[i]) for i in test),
    ]


def test_images_of_the_pool_alone_are_no_error_while_one_is_left() -> None:
    refuse_undecodable({0: "p.png (x)"}, {}, IDS[:2], IDS)
