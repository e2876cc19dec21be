"""The arithmetic from a trial to a run, by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from assl_lightning.check.estimate import check_disk, duration, extrapolate, remarks_on, size
from assl_lightning.check.trial import Trial
from assl_lightning.config.schema import Config

Compose = Callable[..., Config]
TRIAL = Trial(
    devices=1,
    steps=13,
    step_seconds=0.5,
    test_seconds=2.0,
    query_seconds=3.0,
    setup_seconds=0.25,
    round_bytes=1000,
    last_round_bytes=800,
    checkpoint_bytes=50_000,
    inner_checkpoint_bytes=70_000,
    metrics_bytes=100.0,
    line_bytes=400.0,
    config_bytes=2500,
)
RUN = ("rounds=3", "warm_up=none", "steps_per_round=600", "steps_per_epoch=200", "trainer.log_every_n_steps=100")


def test_a_run_takes_its_steps_tests_acquisitions_and_starts(compose_run: Compose) -> None:
    estimate = extrapolate(compose_run(*RUN), TRIAL, read_seconds=7.0)
    assert {item.name: item.times for item in estimate.seconds if item.total} == {
        "reading of the data": 1,
        "training step": 4 * 600,
        "test": 4 * 3,
        "acquisition": 3,
        "start and end of a training": 4,
    }
    assert estimate.total_seconds == 7 + 0.5 * 2400 + 2 * 12 + 3 * 3 + 0.25 * 4


def test_a_run_that_goes_on_takes_the_time_of_the_rounds_that_are_left_and_all_of_its_bytes(
    compose_run: Compose,
) -> None:
    config = compose_run(*RUN)
    left = extrapolate(config, TRIAL, complete_rounds=3)
    assert left.total_seconds == 0.5 * 600 + 2 * 3 + 0.25
    assert left.kept == extrapolate(config, TRIAL).kept


def test_what_stays_is_every_rounds_files_and_the_last_weights_and_meanwhile_there_are_more(
    compose_run: Compose,
) -> None:
    estimate = extrapolate(compose_run(*RUN), TRIAL)
    rows = 4 * 6 + 4 * 3
    assert estimate.kept_bytes == 3 * 1000 + 800 + rows * 100 + 4 * 400 + 2500 + 50_000
    assert estimate.most_bytes == estimate.kept_bytes + 50_000 + 3 * 70_000


def test_a_warm_up_takes_its_steps_once_and_its_weights_stay(compose_run: Compose) -> None:
    cold, warm = compose_run(*RUN), compose_run(*RUN, "warm_up=simclr", "warm_up.steps=300")
    trial = replace(TRIAL, warm_up_step_seconds=0.75, warm_up_bytes=30_000)
    without, estimate = extrapolate(cold, TRIAL), extrapolate(warm, trial)
    assert estimate.total_seconds == without.total_seconds + 300 * 0.75
    assert estimate.kept_bytes == without.kept_bytes + 30_000 + 3 * 100, "three rows of metrics"
    assert extrapolate(warm, trial, is_warm=True).total_seconds == without.total_seconds


def test_a_run_without_acquisitions_has_one_round_and_no_weights_of_an_earlier_one(compose_run: Compose) -> None:
    estimate = extrapolate(compose_run("rounds=0", "steps_per_round=10"), replace(TRIAL, query_seconds=0.0))
    assert estimate.total_seconds == 0.5 * 10 + 2 + 0.25
    assert estimate.most_bytes - estimate.kept_bytes == 3 * 70_000


def test_passes_over_few_labels_are_fewer_steps_than_a_round_may_have(compose_run: Compose) -> None:
    """64 a batch: 40, 80, 120 and 160 labels are 1, 2, 2 and 3 batches a pass; of 600 steps ten passes are enough."""
    config = compose_run(
        *("algorithm=supervised", "acquisition=random", "algorithm.max_passes=10", "rounds=3", "steps_per_round=25"),
        *("initial_labels=40", "labels_per_round=40"),
    )
    (steps,) = (item for item in extrapolate(config, TRIAL).seconds if item.name == "training step")
    assert steps.times == 10 + 20 + 20 + 25


@pytest.mark.parametrize(("needed", "severities"), [(50, []), (51, ["remark"]), (100, ["remark"]), (101, ["wrong"])])
def test_more_than_is_free_is_wrong_and_more_than_half_a_remark(needed: int, severities: list[str]) -> None:
    findings = check_disk(needed * 10**9, 100 * 10**9, "/data")
    assert [finding.severity for finding in findings] == severities
    if needed > 100:
        assert findings[0].sentence == (
            "The run needs 101 GB, and /data has 100 GB free; make room, or choose another run_dir."
        )


@pytest.mark.parametrize(
    ("overrides", "trial", "words"),
    [
        ([], TRIAL, []),
        (["trainer.devices=2"], replace(TRIAL, devices=2), ["has 2 devices; one was timed"]),
        (["+trainer.callbacks=[{_target_: a.B}]"], TRIAL, ["the callbacks in trainer.callbacks write"]),
        (["trainer/logger=tensorboard"], replace(TRIAL, metrics_bytes=0.0), ["leave out what the logger writes"]),
        (["trainer/logger=none"], replace(TRIAL, metrics_bytes=0.0), []),
        (["algorithm.batch_size=64"], replace(TRIAL, steps=2), ["Only 2 steps could be timed"]),
        (["steps_per_round=2"], replace(TRIAL, steps=2), []),
    ],
)
def test_what_the_figures_leave_out_is_said(
    compose_run: Compose, overrides: list[str], trial: Trial, words: list[str]
) -> None:
    found = remarks_on(compose_run(*overrides), trial)
    assert [finding.severity for finding in found] == ["remark"] * len(words)
    assert [word for word, finding in zip(words, found, strict=True) if word not in finding.sentence] == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.000 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (60, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (86399, "1 d 0 h"),
        (10 * 86400, "10 d 0 h"),
    ],
)
def test_a_duration_never_shows_sixty_of_a_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(999.6, "1.0 kB"), (9.96e6, "10 MB"), (999_600, "1.0 MB"), (5e15, "5000 TB")]
)
def test_a_size_has_at_most_three_digits_before_the_point_up_to_terabytes(num_bytes: float, text: str) -> None:
    assert size(num_bytes) == text
