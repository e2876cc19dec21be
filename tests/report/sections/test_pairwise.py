from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assl_lightning.report.sections.pairwise import obstacle, pairwise_blocks
from assl_lightning.report.views import Block, Paragraph, Table

if TYPE_CHECKING:
    from tests.report.conftest import Runs

A = [[0.5, 0.60, 0.70], [0.5, 0.63, 0.72], [0.5, 0.61, 0.75]]
B = [[0.5, 0.55, 0.71], [0.5, 0.57, 0.70], [0.5, 0.56, 0.70]]


def wins(ours: list[list[float]], theirs: list[list[float]], threshold: float, ddof: int) -> float:
    """The share of rounds after the first with √n · mean / s.d. above the threshold, written out."""
    difference: NDArray[np.float64] = np.array(ours) - np.array(theirs)
    n, rounds = difference.shape
    won = 0
    for number in range(1, rounds):
        values = difference[:, number]
        deviation = sqrt(sum((value - values.mean()) ** 2 for value in values) / (n - ddof))
        won += int(sqrt(n) * values.mean() / deviation > threshold)
    return float(won / (rounds - 1))


def tables(blocks: tuple[Block, ...]) -> list[Table]:
    return [block for block in blocks if isinstance(block, Table)]


def text(blocks: tuple[Block, ...]) -> str:
    return " ".join(block.text for block in blocks if isinstance(block, Paragraph))


def test_the_matrices_are_the_papers_and_the_valid_one(runs: Runs) -> None:
    runs.method("assl", A)
    runs.method("random", B)
    paper, valid = tables(pairwise_blocks([runs.setting()]))
    for table, threshold, ddof in ((paper, 2.776, 0), (valid, 4.303, 1)):
        ours, theirs = (f"{wins(x, y, threshold, ddof):.1f}" for x, y in ((A, B), (B, A)))
        assert table.header == ("beats →", "assl", "random")
        assert table.rows[0] == ("assl", "", ours)
        assert table.rows[1] == ("random", theirs, "")
        assert table.rows[2] == ("is beaten", f"{float(theirs):.2f}", f"{float(ours):.2f}")
        assert table.has_total
    assert "ddof 0" in paper.caption
    assert "two-sided 5 %" in valid.caption


def test_the_matrices_differ_where_three_seeds_deceive(runs: Runs) -> None:
    """Mean 2, deviations (n) 0.816 and (n − 1) 1: t is 4.24 by the paper's count, and 3.46 < 4.303 by Student's."""
    runs.method("assl", [[0.5, 0.51], [0.5, 0.52], [0.5, 0.53]])
    runs.method("random", [[0.5, 0.50], [0.5, 0.50], [0.5, 0.50]])
    paper, valid = tables(pairwise_blocks([runs.setting()]))
    assert paper.rows[0][2] == "1.0"
    assert valid.rows[0][2] == "0.0"


def test_settings_are_summed(runs: Runs) -> None:
    for init in ("rand", "continue"):
        runs.method("assl", [[0.5, 0.7], [0.5, 0.71]], where=f"assl_{init}", changes={"init": init})
        runs.method("random", [[0.5, 0.6], [0.5, 0.61]], where=f"random_{init}", changes={"init": init})
    blocks = pairwise_blocks(runs.settings())
    assert tables(blocks)[0].rows[0] == ("assl", "", "2.0")
    assert "summed over 2 settings, so at most 2 (n = 2 common seeds)" in text(blocks)


def test_a_method_that_is_missing_in_a_setting_is_told(runs: Runs) -> None:
    for init in ("rand", "continue"):
        runs.method("random", [[0.5, 0.6], [0.5, 0.61]], where=f"random_{init}", changes={"init": init})
        runs.method("entropy", [[0.5, 0.6], [0.5, 0.61]], where=f"entropy_{init}", changes={"init": init})
    runs.method("assl", [[0.5, 0.6], [0.5, 0.61]])
    assert "assl is missing in 1 setting, where it neither beats another method nor is beaten." in text(
        pairwise_blocks(runs.settings())
    )


def test_only_shared_seeds_count(runs: Runs) -> None:
    runs.method("assl", A)
    runs.method("random", B[:2])
    assert "(n = 2 common seeds)" in text(pairwise_blocks([runs.setting()]))


def test_few_seeds_come_with_a_warning(runs: Runs) -> None:
    runs.method("assl", A)
    runs.method("random", B)
    assert "With fewer than 5 seeds, neither count is conclusive." in text(pairwise_blocks([runs.setting()]))


def test_settings_with_few_seeds_among_others_are_told(runs: Runs) -> None:
    for init, rows in (("rand", 5), ("continue", 3)):
        runs.method("assl", (A + A)[:rows], where=f"assl_{init}", changes={"init": init})
        runs.method("random", (B + B)[:rows], where=f"random_{init}", changes={"init": init})
    assert "The counts include 1 setting with fewer than 5 seeds" in text(pairwise_blocks(runs.settings()))


def test_five_seeds_come_without_a_warning(runs: Runs) -> None:
    runs.method("assl", A + A[:2])
    runs.method("random", B + B[:2])
    assert "With fewer than 5 seeds, neither" not in text(pairwise_blocks([runs.setting()]))


def test_what_has_no_matrix_says_why(runs: Runs) -> None:
    runs.add("assl", 0, [0.5, 0.6])
    assert obstacle(runs.setting()) == "there is only one method"
    runs.add("random", 0, [0.5, 0.6])
    expected = "There is no pairwise matrix, because the methods have 1 common seed, and a deviation needs two."
    assert pairwise_blocks([runs.setting()]) == (Paragraph(expected),)


def test_one_round_has_no_matrix(runs: Runs) -> None:
    runs.method("assl", [[0.5], [0.6]])
    runs.method("random", [[0.5], [0.6]])
    assert obstacle(runs.setting()).startswith("there is only one round")


def test_a_setting_without_a_matrix_is_left_out_by_name(runs: Runs) -> None:
    runs.method("assl", A)
    runs.method("random", B)
    runs.add("assl", 0, A[0], where="other", changes={"init": "continue"})
    blocks = pairwise_blocks(runs.settings())
    assert len(tables(blocks)) == 2
    assert "digits smallcnn, init=continue is left out: there is only one method." in text(blocks)
