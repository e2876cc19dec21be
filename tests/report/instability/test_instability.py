from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace
from math import nan, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from assl_lightning.learning.snapshot_files import Snapshot, write_snapshot
from assl_lightning.method import scores
from assl_lightning.report.instability.__main__ import main
from assl_lightning.report.instability.measures import (
    confident_uncertainty,
    pseudo_labelled_share,
    rank_correlations,
    total_instability,
    uncertainty_by_instability,
)
from assl_lightning.report.instability.summary import SCORES, summarise
from assl_lightning.report.instability.tables import correlation_table, csv_files, instability_table

NUM_SAMPLES = 60


def make_snapshots(steps: tuple[int, ...] = (10, 20, 30, 40), seed: int = 0) -> list[Snapshot]:
    """Predictions that wander: some samples are sure of themselves, others are not."""
    generator = torch.Generator().manual_seed(seed)
    sure = torch.linspace(0, 12, NUM_SAMPLES)[:, None] * torch.nn.functional.one_hot(torch.arange(NUM_SAMPLES) % 4, 4)
    snapshots = []
    for step in steps:
        logits = sure + torch.randn(NUM_SAMPLES, 4, generator=generator)
        statistics = torch.rand(4, NUM_SAMPLES, generator=generator).numpy()
        snapshot = Snapshot(
            step=np.array(step),
            index=np.arange(NUM_SAMPLES) * 2,
            prediction=logits.argmax(-1).to(torch.int16).numpy(),
            max_probability=logits.softmax(-1).amax(-1).numpy(),
            uncertainty=scores.pseudo_el2n(logits).numpy(),
            uncertainty_mean=statistics[0],
            uncertainty_variance=statistics[1],
            inconsistency_mean=statistics[2],
            inconsistency_variance=statistics[3],
            visits=np.full(NUM_SAMPLES, step, dtype=np.int32),
            c_u=np.array(0.5),
            c_i=np.array(2.0),
        )
        snapshots.append(snapshot)
    return snapshots


def write_run(run_dir: Path, snapshots: list[Snapshot], weights: str = "raw") -> Path:
    directory = run_dir / "round_00" / "snapshots" / weights
    directory.mkdir(parents=True)
    for snapshot in snapshots:
        write_snapshot(directory, snapshot)
    return run_dir


# --- Eq. 2 -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=8))
def test_total_instability_counts_the_changes_of_each_sample(rows: list[list[int]]) -> None:
    predictions = np.array(rows, dtype=np.int16)
    expected = [0, 0, 0]
    for t in range(1, len(rows)):
        for sample in range(3):
            if rows[t][sample] != rows[t - 1][sample]:
                expected[sample] += 1
    assert total_instability(predictions).tolist() == expected


def test_total_instability_of_many_snapshots_does_not_overflow() -> None:
    predictions = np.arange(40_000, dtype=np.int16)[:, None] % 2
    assert total_instability(predictions).tolist() == [39_999]


@pytest.mark.parametrize("shape", [(1, 5), (0, 5), (5,), (3, 0)])
def test_fewer_than_two_snapshots_have_no_instability(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"at least two snapshots and one sample; got shape .*: take more snapshots"):
        total_instability(np.zeros(shape, dtype=np.int16))


# --- Fig. 3b ---------------------------------------------------------------------------------------------------------


def test_rank_correlations_are_scipys_between_neighbours() -> None:
    uncertainty = np.random.default_rng(0).random((5, 40)).astype(np.float32).round(1)
    expected = [scipy.stats.spearmanr(uncertainty[t - 1], uncertainty[t])[0] for t in range(1, 5)]
    np.testing.assert_allclose(rank_correlations(uncertainty), expected)


def test_uncertainties_that_underflow_nowhere_keep_their_rank() -> None:
    tiny = np.array([[1e-30, 1e-20, 1e-10], [1e-33, 1e-22, 1e-11], [1e-11, 1e-22, 1e-33]], dtype=np.float32)
    assert rank_correlations(tiny).tolist() == [1, -1]


def test_unconfident_samples_alone_are_those_above_in_both_snapshots() -> None:
    generator = np.random.default_rng(1)
    uncertainty = 0.08 + 0.9 * generator.random((3, 30))
    uncertainty[0, :10] = uncertainty[2, 20:] = 0.07
    expected = [
        scipy.stats.spearmanr(uncertainty[0, 10:], uncertainty[1, 10:])[0],
        scipy.stats.spearmanr(uncertainty[1, :20], uncertainty[2, :20])[0],
    ]
    np.testing.assert_allclose(rank_correlations(uncertainty, above=0.07), expected)


def test_a_correlation_of_fewer_than_ten_samples_is_unknown() -> None:
    uncertainty = np.random.default_rng(0).random((2, 30)) / 2
    uncertainty[0, :9] += 0.5
    uncertainty[1, :20] += 0.5
    assert np.isnan(rank_correlations(uncertainty, above=0.5)).tolist() == [True]
    uncertainty[0, 9] += 0.5
    assert np.isfinite(rank_correlations(uncertainty, above=0.5)).tolist() == [True]


# --- Fig. 4 ----------------------------------------------------------------------------------------------------------


def test_uncertainty_by_instability_is_the_hand_worked_table() -> None:
    table = uncertainty_by_instability(np.array([0, 3, 0, 1, 3]), np.array([0.1, 0.5, 0.3, 0.4, 0.9]))
    assert table.instability.tolist() == [0, 1, 2, 3]
    assert table.count.tolist() == [2, 1, 0, 2]
    np.testing.assert_allclose(table.mean, [0.2, 0.4, nan, 0.7])
    np.testing.assert_allclose(table.deviation, [0.1, 0, nan, 0.2], atol=1e-12)


def test_uncertainty_by_instability_is_numpys_mean_and_deviation_of_each_group() -> None:
    generator = np.random.default_rng(0)
    instability, uncertainty = generator.integers(0, 20, 300), generator.random(300, dtype=np.float32)
    table = uncertainty_by_instability(instability, uncertainty)
    for value in range(20):
        group = uncertainty[instability == value].astype(np.float64)
        assert table.count[value] == len(group)
        assert table.mean[value] == pytest.approx(group.mean())
        assert table.deviation[value] == pytest.approx(group.std())
        assert table.is_reliable[value] == (len(group) >= 10)
    assert 0 < table.is_reliable.sum() < 20


def test_ten_samples_are_enough_for_a_mean() -> None:
    table = uncertainty_by_instability(np.repeat([0, 1, 2], [9, 10, 11]), np.zeros(30))
    assert table.is_reliable.tolist() == [False, True, True]


def test_instability_and_uncertainty_of_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be of the same samples; got shapes \(2,\) and \(3,\)"):
        uncertainty_by_instability(np.array([0, 1]), np.array([0.1, 0.2, 0.3]))


def test_a_long_table_puts_neighbours_into_one_row_without_changing_their_mean() -> None:
    summary = summarise(make_snapshots())
    generator = np.random.default_rng(0)
    instability, uncertainty = generator.integers(0, 30, 200), generator.random(200)
    by_value = uncertainty_by_instability(instability, uncertainty)
    table = instability_table(replace(summary, by_instability=by_value, by_instability_average=by_value))
    assert len(table.rows) == 10
    for row, first in zip(table.rows, range(0, 30, 3), strict=True):
        group = uncertainty[(instability >= first) & (instability < first + 3)]
        expected = f"{group.mean():.3f} ± {group.std():.3f}" if len(group) >= 10 else "–"
        assert row == (f"{first} to {first + 2}", str(len(group)), expected, expected)


# --- Table 1 ---------------------------------------------------------------------------------------------------------


def share_by_definition(score: NDArray[Any], confident: NDArray[Any], share: float, reading: str) -> float:
    """Slowly: rank, take the highest, count."""

    def top(values: list[float]) -> list[int]:
        known = [i for i, value in enumerate(values) if value == value]
        ranked = sorted(known, key=lambda i: (-values[i], i))
        return ranked[: max(1, round(share * len(known)))]

    snapshots = len(score)
    if reading == "A":
        shares = []
        for t in range(snapshots):
            chosen = top(score[t].tolist())
            if chosen:
                shares.append(sum(bool(confident[t][i]) for i in chosen) / len(chosen))
        return sum(shares) / len(shares)
    chosen = top(score[-1].tolist())
    times = [sum(bool(confident[t][i]) for t in range(snapshots)) / snapshots for i in chosen]
    return sum(times) / len(times)


@pytest.mark.parametrize("reading", ["A", "B"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("unknown", [False, True])
def test_both_readings_of_table_1_are_their_definitions(reading: Any, ties: bool, unknown: bool) -> None:
    generator = np.random.default_rng(0)
    score, confident = generator.random((6, 80)), generator.random((6, 80)) < 0.4
    if ties:
        score = score.round(1)
    if unknown:
        score[:, ::3] = nan
        score[0] = nan  # a snapshot before any visit
    top = (0.001, 0.05, 0.1, 1.0)
    expected = [share_by_definition(score, confident, share, reading) for share in top]
    np.testing.assert_allclose(pseudo_labelled_share(score, confident, top, reading), expected)


def test_a_hand_worked_table_1() -> None:
    score = np.array([[4, 3, 2, 1], [1, 2, 3, 4]])
    confident = np.array([[True, False, False, False], [False, False, True, True]])
    assert pseudo_labelled_share(score, confident, (0.25, 0.5), "A").tolist() == [1.0, 0.75]
    assert pseudo_labelled_share(score, confident, (0.25, 0.5), "B").tolist() == [0.5, 0.5]


def test_a_table_1_without_any_score_is_unknown() -> None:
    share = pseudo_labelled_share(np.full((2, 5), nan), np.ones((2, 5), dtype=bool), (0.1, 0.5), "B")
    assert np.isnan(share).tolist() == [True, True]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"confident": np.ones((2, 4), dtype=bool)},
            r"the same snapshots and samples; got shapes \(2, 5\) and \(2, 4\)",
        ),
        ({"reading": "C"}, "reading must be one of A, B; got 'C'"),
        ({"top": (0.1, 0)}, r"shares of the samples, in \(0, 1\]; got 0"),
        ({"top": (1.5,)}, r"in \(0, 1\]; got 1.5"),
    ],
)
def test_a_table_1_that_cannot_be_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pseudo_labelled_share(**({"score": np.zeros((2, 5)), "confident": np.ones((2, 5), dtype=bool)} | arguments))


@given(st.lists(st.floats(-12, 12), min_size=2, max_size=12))
def test_confidence_bounds_uncertainty_and_uncertainty_bounds_confidence(logits: list[float]) -> None:
    tensor = torch.tensor(logits, dtype=torch.float64)
    uncertainty, confidence = scores.pseudo_el2n(tensor).item(), tensor.softmax(-1).amax().item()
    always, never = confident_uncertainty(len(logits))
    if confidence > 0.95:
        assert uncertainty < never
    if uncertainty < always - 1e-12:
        assert confidence > 0.95
    assert never == pytest.approx(sqrt(2) * 0.05)


def test_the_bounds_of_confidence_are_reached() -> None:
    for probabilities, bound in (([0.95] + [0.05 / 9] * 9, 0), ([0.95, 0.05] + [0.0] * 8, 1)):
        errors = [1 - probabilities[0], *probabilities[1:]]
        assert sqrt(sum(error**2 for error in errors)) == pytest.approx(confident_uncertainty(10)[bound])


def test_one_confident_sample_among_the_most_uncertain_makes_nearly_all_others_confident() -> None:
    """Why the paper's 15.67 % and 24.87 % are not reading A of snapshot uncertainties, within one snapshot."""
    generator = torch.Generator().manual_seed(0)
    always, never = confident_uncertainty(10)
    seen = 0
    for sharpness in torch.linspace(4, 40, 25):
        logits = torch.zeros(1000, 10)
        logits[:, 0] = sharpness * (0.5 + torch.rand(1000, generator=generator))
        logits += torch.randn(1000, 10, generator=generator)
        uncertainty, confidence = scores.pseudo_el2n(logits).numpy(), logits.softmax(-1).amax(-1).numpy()
        twice = np.stack([uncertainty] * 2), np.stack([confidence > 0.95] * 2)
        first, second = pseudo_labelled_share(*twice, (0.01, 0.05), "A")
        if first > 0:
            seen += 1
            below = np.sort(uncertainty)[: -round(0.01 * 1000)]
            assert below.max() < never
            in_band = ((uncertainty >= always) & (uncertainty < never)).sum()
            assert second >= 0.8 - in_band / 50
    assert seen >= 3


# --- a whole training ------------------------------------------------------------------------------------------------


def test_a_summary_takes_each_measure_from_its_snapshots() -> None:
    snapshots = make_snapshots()
    summary = summarise(snapshots)
    uncertainty = np.stack([snapshot.uncertainty for snapshot in snapshots])
    confident = np.stack([snapshot.max_probability for snapshot in snapshots]) > 0.95
    last = snapshots[-1]
    assert summary.steps.tolist() == [10, 20, 30, 40]
    assert summary.num_samples == NUM_SAMPLES
    np.testing.assert_array_equal(summary.last_uncertainties, uncertainty[2:])
    np.testing.assert_allclose(summary.near_zero, [(row < 1e-3).sum() / NUM_SAMPLES for row in uncertainty])
    np.testing.assert_allclose(summary.confident, confident.mean(axis=1))
    np.testing.assert_allclose(summary.correlation, rank_correlations(uncertainty))
    np.testing.assert_allclose(summary.correlation_unconfident, rank_correlations(uncertainty, above=0.07))
    instability = total_instability(np.stack([snapshot.prediction for snapshot in snapshots]))
    for found, expected in (
        (summary.by_instability, uncertainty[-1]),
        (summary.by_instability_average, uncertainty.mean(axis=0)),
    ):
        np.testing.assert_allclose(found.mean, uncertainty_by_instability(instability, expected).mean, rtol=1e-6)
    assert summary.instability_correlation == pytest.approx(scipy.stats.spearmanr(instability, uncertainty[-1])[0])
    assert len(summary.shares) == 2 * len(SCORES)

    rank_by = last.inconsistency_mean + 2.0 * np.sqrt(last.inconsistency_variance)
    chosen = np.argsort(-rank_by)[:6]
    assert summary.shares["inconsistency, UCB", "B"][2] == pytest.approx(confident[:, chosen].mean())
    rank_by = last.uncertainty_mean + 0.5 * np.sqrt(last.uncertainty_variance)
    chosen = np.argsort(-rank_by)[:6]
    assert summary.shares["uncertainty, UCB", "B"][2] == pytest.approx(confident[:, chosen].mean())
    assert summary.shares["uncertainty, snapshot", "A"][0] == 0


def test_the_initial_network_does_not_count() -> None:
    with_start, without = (summarise(make_snapshots(steps)) for steps in ((0, 10, 20), (10, 20)))
    assert with_start.steps.tolist() == without.steps.tolist() == [10, 20]
    assert len(with_start.correlation) == 1
    assert with_start.by_instability.count.sum() == NUM_SAMPLES
    assert len(with_start.by_instability.count) <= 2


def test_a_sample_that_training_never_visited_is_not_ranked_by_its_statistics() -> None:
    snapshots = make_snapshots()
    best = int(np.argmax(snapshots[-1].inconsistency_mean))
    assert np.nanargmax(SCORES["inconsistency, mean"](snapshots[-1])) == best
    snapshots[-1].visits[best] = 0
    assert np.isnan(SCORES["inconsistency, mean"](snapshots[-1])).nonzero()[0].tolist() == [best]
    assert np.isfinite(SCORES["uncertainty, snapshot"](snapshots[-1])).all()


def test_a_single_snapshot_is_not_enough() -> None:
    with pytest.raises(ValueError, match="there is 1; lower every_n_steps, or train longer"):
        summarise(make_snapshots((0, 10)))


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_tables_and_leaves_figures_and_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = write_run(tmp_path / "seed_0", make_snapshots())
    assert main([str(run_dir)]) == 0
    printed = capsys.readouterr().out
    assert "4 snapshots of 60 unlabelled samples, steps 10 to 40." in printed
    assert "| inconsistency, the paper's | not stated | 54.93 | 47.46 | 44.20 |" in printed
    assert "| uncertainty, the paper's | not stated | 15.67 | 24.87 | 28.14 |" in printed
    summary = summarise(make_snapshots())
    shares = summary.shares["uncertainty, mean", "B"]
    assert f"| uncertainty, mean | B | {' | '.join(f'{100 * share:.2f}' for share in shares)} |" in printed
    everything = f"{100 * summary.confident.mean():.2f}"
    assert f"| all samples |  | {everything} | {everything} | {everything} |" in printed
    for pair, period in enumerate(("start: steps 10 to 20", "middle: steps 20 to 30", "end: steps 30 to 40")):
        correlations = f"{summary.correlation[pair]:.2f} | {summary.correlation_unconfident[pair]:.2f}".replace(
            "-", "−"
        )
        known = f"{100 * summary.near_zero[pair + 1]:.2f} | {100 * summary.confident[pair + 1]:.2f}"
        assert f"| {period} | 1 | {correlations} | {known} |" in printed
    assert "implies u < 0.0707.\n" in printed
    assert "at most 3 changes (Spearman's ρ " in printed

    place = run_dir / "report" / "instability" / "round_00_raw"
    assert {path.name for path in place.iterdir()} == {
        *("uncertainty_histogram.png", "rank_correlation.png", "uncertainty_by_instability.png"),
        *("rank_correlation.csv", "uncertainty_by_instability.csv", "pseudo_labelled_share.csv"),
    }
    with (place / "rank_correlation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["10", "20", "30", "40"]
    assert rows[0]["spearman_with_previous"] == ""
    assert [float(row["spearman_with_previous"]) for row in rows[1:]] == summary.correlation.tolist()
    with (place / "pseudo_labelled_share.csv").open() as file:
        by_name = {(row["score"], row["reading"]): row for row in csv.DictReader(file)}
    assert float(by_name["inconsistency, UCB", "A"]["top_0.05"]) == summary.shares["inconsistency, UCB", "A"][1]


def test_a_correlation_below_zero_has_a_minus_sign_and_one_near_zero_has_none() -> None:
    summary = summarise(make_snapshots())
    rows = correlation_table([replace(summary, correlation=np.array([-0.25, -0.001, nan]))]).rows
    assert [row[2] for row in rows] == ["−0.25", "0.00", "–"]


def test_numbers_that_are_unknown_are_empty() -> None:
    rows = csv_files(summarise(make_snapshots((10, 20))))["rank_correlation.csv"]
    assert [row["spearman_with_previous"] is None for row in rows] == [True, False]


def test_several_runs_and_kinds_of_weights_have_a_section_each_and_runs_of_one_kind_a_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_run(tmp_path / f"seed_{seed}", make_snapshots(seed=seed)) for seed in (0, 1)]
    write_run(runs[1], make_snapshots(seed=7), "ema")
    other = write_run(tmp_path / "other", make_snapshots(seed=9))
    for seed, run_dir in enumerate(runs):
        (run_dir / "config.yaml").write_text(f"seed: {seed}\nname: {run_dir.name}\nnetwork: {{_target_: a.B}}\n")
    (other / "config.yaml").write_text("seed: 2\nname: other\nnetwork: {_target_: a.C}\n")
    runs.append(other)
    assert main([*map(str, runs), "--output", str(tmp_path / "figures")]) == 0
    printed = capsys.readouterr().out
    headings = [line for line in printed.splitlines() if line.startswith("## ")]
    assert headings == [
        f"## {runs[0]}, round_00 raw weights",
        f"## {runs[1]}, round_00 ema weights",
        f"## {runs[1]}, round_00 raw weights",
        f"## {other}, round_00 raw weights",
        "## 2 runs, round_00 raw weights",
    ]
    values = [100 * summarise(make_snapshots(seed=seed)).shares["uncertainty, mean", "B"][1] for seed in (0, 1)]
    assert f" | {np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} | " in printed
    assert "mean ± s.d. of 2 runs" in printed
    assert {path.relative_to(tmp_path / "figures").as_posix() for path in (tmp_path / "figures").glob("*/*")} == {
        *("seed_0/round_00_raw", "seed_1/round_00_raw", "seed_1/round_00_ema", "other/round_00_raw"),
    }
    assert not (runs[0] / "report").exists()


def test_a_trainers_own_directory_is_read_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (write_run(tmp_path, make_snapshots()) / "round_00" / "snapshots").rename(tmp_path / "snapshots")
    assert main([str(tmp_path)]) == 0
    assert f"## {tmp_path}, raw weights" in capsys.readouterr().out
    assert (tmp_path / "report" / "instability" / "raw" / "rank_correlation.png").exists()


def test_what_cannot_be_analysed_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 1
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        return line

    (tmp_path / "empty").mkdir()
    assert f"error: {tmp_path / 'empty'} holds no snapshots (no round_*/snapshots); name a run" in said(
        tmp_path / "empty"
    )
    short = write_run(tmp_path / "short", make_snapshots((10,)))
    assert f"{short / 'round_00' / 'snapshots' / 'raw'}: instability needs two or more" in said(short)
    runs = [write_run(tmp_path / name / "seed_0", make_snapshots()) for name in ("a", "b")]
    assert "under --output each run needs a name of its own" in said(*runs, "--output", tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


@pytest.mark.e2e
def test_the_command_needs_neither_torch_nor_lightning() -> None:
    code = (
        "import sys, assl_lightning.report.instability.__main__\n"
        "sys.exit(', '.join({'torch', 'lightning', 'hydra'} & sys.modules.keys()) or None)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
