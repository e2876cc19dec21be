"""Pure functions by hand, and one real run with them all."""

from __future__ import annotations

from math import isnan, nan
from pathlib import Path

import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from benchmarks.regimes.diagnostics import (
    LEFT,
    Training,
    auroc_table,
    auroc_within,
    aurocs,
    groups_of,
    main,
    pixel_vectors,
    repeated_share,
    round_tables,
)
from benchmarks.restore import FROM_RESULTS


def test_vectors_are_scikit_learns_principal_components_scaled_to_length_one() -> None:
    images = torch.randint(0, 256, (40, 1, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = PCA(5, svd_solver="full").fit_transform(images.flatten(1).double().numpy())
    expected /= (expected**2).sum(1, keepdims=True) ** 0.5
    found = pixel_vectors(images, 5)

    assert found.shape == (40, 5)
    assert_allclose((found @ found.T).numpy(), expected @ expected.T, atol=1e-9)  # axes have no sign


def test_an_image_and_its_near_copies_are_a_group() -> None:
    assert groups_of(["a", "b like a", "c", "d like c", "e like a"]).tolist() == [0, 0, 2, 2, 0]


@pytest.mark.parametrize(
    ("earlier", "batch", "expected"),
    [([], [1, 2, 3], 0), ([], [1, 1, 2, 1], 2 / 4), ([2], [1, 2], 1 / 2), ([1, 2], [2, 2, 1], 1), ([1], [], nan)],
)
def test_a_pick_is_repeated_if_its_group_has_a_label_or_was_picked_before(
    earlier: list[int], batch: list[int], expected: float
) -> None:
    assert_allclose(repeated_share(torch.tensor(earlier), torch.tensor(batch)), expected)


def test_auroc_within_one_query_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = (torch.rand(50, generator=generator) * 10).round().tolist()  # many are equal
    wrong = (torch.rand(50, generator=generator) < 0.3).tolist()

    value, pairs = auroc_within([(weights, wrong)])

    assert_allclose(value, roc_auc_score(wrong, weights))
    assert pairs == sum(wrong) * (50 - sum(wrong))


def test_pairs_of_two_queries_do_not_count_and_unknown_weights_are_left_out() -> None:
    first = ([0.1, 0.9, nan], [False, True, True])  # the wrong one above the right one
    second = ([5.0, 6.0], [True, False])  # below it, though above all of the first query

    assert auroc_within([first, second]) == (0.5, 2)
    value, pairs = auroc_within([([0.3], [True])])
    assert isnan(value)
    assert pairs == 0


def test_tables_have_means_over_seeds_and_leave_out_what_is_not_known() -> None:
    found = [
        Training("r", "m", seed, number, labels, missing=seed, coverage=0.5, near_copies=0.25 if number else nan)
        for seed in (0, 1)
        for number, labels in enumerate((10, 20))
    ]
    missing, coverage, near = round_tables(found)

    assert missing.header == ("method", "10", "20")
    assert missing.rows == (("m", "0.50", "0.50"),)
    assert coverage.rows == (("m", "0.50", "0.50"),)
    assert near.rows == (("m", "", "0.25"),)


def test_a_number_that_is_zero_everywhere_has_no_table() -> None:
    found = [Training("r", "m", 0, number, 10, missing=0, coverage=0.5, near_copies=0.0) for number in (0, 1)]

    assert [table.caption for table in round_tables(found)] == ["r: coverage, by labels, means over seeds"]


def test_auroc_has_a_row_for_each_method() -> None:
    names = ("uncertainty_mean", "inconsistency_mean", "score")
    query = {name: ([1.0, 0.0], [True, False]) for name in names[:2]} | {"score": ([nan, nan], [True, False])}
    table = auroc_table(aurocs(LEFT, ("r", "m"), [query], names), "caption")

    assert table.header == ("regime", "method", *names)
    assert table.rows == (("r", "m", "1.000 (1)", "1.000 (1)", ""),)


@pytest.mark.e2e
def test_the_command_reads_real_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from assl_lightning.commands.train import main as train

    conf = Path(__file__).parents[2] / "benchmarks" / "regimes" / "conf"
    small = ["rounds=2", "steps_per_round=4", f"run_dir={tmp_path}/near/random/seed_0", "trainer.accelerator=cpu"]
    assert train(["--config-dir", str(conf), "+experiment=digits_near_copies", "acquisition=random", *small]) == 0
    capsys.readouterr()

    assert main([str(tmp_path / "near"), "--output", str(tmp_path / "out")]) == 0

    out = capsys.readouterr().out
    assert "**digits_near_copies: classes without a label, by labels, means over seeds**" in out
    assert "| method | 10 | 20 | 30 |" in out
    assert (tmp_path / "out" / "diagnostics.csv").read_text().count("\n") == 1 + 3
    row = next(line for line in out.splitlines() if line.startswith("| digits_near_copies | random |"))
    pairs = [cell.split("(")[1] for cell in row.split("|")[3:-1]]
    assert len(pairs) == 6, "each statistic of the pool tells something"
    assert len(set(pairs[:5])) == 1, "of samples that were visited, all are known"

    (tmp_path / "near/random/seed_0" / FROM_RESULTS).touch()  # as if it had no pool.pt
    assert main([str(tmp_path / "near"), "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == out, "what was written before is kept"
