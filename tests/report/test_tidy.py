from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from assl_lightning.report.tidy import tidy_csv

if TYPE_CHECKING:
    from tests.report.conftest import Runs


def test_a_round_of_a_run_is_a_row(runs: Runs) -> None:
    runs.add("assl", 1, [0.5, 0.6], balanced=0.25, queried_labels=[1, 2], seconds={"train": 1.5, "wait": 9.0})
    runs.add('ran"dom', 0, [0.5, 0.7], changes={"init": "continue"})
    rows = list(csv.DictReader(io.StringIO(tidy_csv(runs.settings()))))
    assert len(rows) == 4
    assert rows[1] == {
        **{"setting": "digits smallcnn, init=rand", "method": "assl", "seed": "1", "round": "1", "labels": "20"},
        **{"steps": "100", "test_accuracy_ema": "0.6", "test_accuracy_raw": "0.59"},
        **{
            "test_balanced_accuracy_ema": "0.25",
            "test_balanced_accuracy_raw": "",
            "coverage": "",
            "mask_rate": "",
            "queried": "2",
        },
        **dict.fromkeys(("predictions_compared", "predictions_agreeing", "kappa", "kappa_same_labels"), ""),
        **{"drawn_at_random": "0", "train_seconds": "1.5", "test_seconds": "", "acquire_seconds": ""},
        **{"label_seconds": "", "wait_seconds": "9.0"},
    }
    assert [row["method"] for row in rows] == ["assl", "assl", 'ran"dom', 'ran"dom']
