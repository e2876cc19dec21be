"""A batch that people share: every image once, but for those that all of them label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assl_lightning.people.shares import Share, read_share
from tests.people.batches import make_batch

MANY = [f"{number}.png" for number in range(23)]


@pytest.mark.parametrize("people", [1, 2, 3, 7])
@pytest.mark.parametrize(("common", "count"), [(0.0, 0), (0.1, 2), (0.5, 12), (1.0, 23)])
def test_shares_are_disjoint_but_for_the_common_images_and_together_the_batch(
    tmp_path: Path, people: int, common: float, count: int
) -> None:
    batch = make_batch(tmp_path, sample_ids=MANY)
    split = [Share(person, people, common).split(batch) for person in range(1, people + 1)]
    own = [[sample.sample_id for sample in one] for one, _ in split]
    together = [sorted(sample.sample_id for sample in all_of_them) for _, all_of_them in split]
    assert together == people * [together[0]]
    assert len(together[0]) == count
    assert sorted([name for names in own for name in names] + together[0]) == sorted(MANY)
    assert max(map(len, own)) - min(map(len, own)) <= 1


def test_a_share_is_the_same_in_any_order_of_the_batch_and_another_one_in_another_round(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, 1, MANY)
    turned = replace(batch, samples=batch.samples[::-1])
    first, again, other = (Share(2, 3, 0.2).split(one) for one in (batch, turned, make_batch(tmp_path, 2, MANY)))
    assert first == again
    assert {one.sample_id for one in first[0]} != {one.sample_id for one in other[0]}
    assert [one.sample_id for one in first[0]] != sorted((one.sample_id for one in first[0]), key=MANY.index), "drawn"


def test_a_share_without_images_is_an_error(tmp_path: Path) -> None:
    batch = make_batch(tmp_path)
    assert len(Share(4, 4).split(batch)[0]) == 1
    with pytest.raises(
        ValueError, match="share 5 of 5 has no images, since the batch has 4; split it among fewer people"
    ):
        Share(5, 5).split(batch)


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "2/0", "1/2/3", "-1/2", "a/b", "1/2 "])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a share is written 1/3, 2/3 or 3/3"):
        read_share(text)
