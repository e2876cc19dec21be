from __future__ import annotations

import pytest

from assl_lightning.loop.progress import outlook_of
from assl_lightning.loop.records import RoundRecord


@pytest.mark.parametrize(("unlabelled", "expected"), [(50, 60), (20, 60), (7, 47), (0, None)])
def test_no_more_labels_are_expected_than_the_pool_has_left(unlabelled: int, expected: int | None) -> None:
    counts = [10, 20, 30, 40]
    records = [
        RoundRecord(number, labels, unlabelled + 40 - labels, 1, 0.9 - 2 / labels, 0.5, test_images=100)
        for number, labels in enumerate(counts)
    ]
    found = outlook_of(records, {"labels_per_round": 20}).expected
    assert (None if found is None else found.labels) == expected
