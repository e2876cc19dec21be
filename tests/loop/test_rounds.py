from __future__ import annotations

import csv
import functools
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch import Tensor, nn

from assl_lightning import FixMatch
from assl_lightning.acquisition.badge import BADGE
from assl_lightning.acquisition.bald import BALD
from assl_lightning.acquisition.coreset import CoreSet
from assl_lightning.acquisition.forgetting import Forgetting
from assl_lightning.acquisition.power import PowerSampling
from assl_lightning.acquisition.random import RandomSampling
from assl_lightning.acquisition.uncertainty import Entropy
from assl_lightning.base.seeding import make_generator
from assl_lightning.commands.status import read_status
from assl_lightning.data.pool import Answers, Pool
from assl_lightning.learning.inference import evaluate
from assl_lightning.learning.supervised import Supervised
from assl_lightning.loop import RoundSettings, ScoreSettings
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.evaluation import confident_errors, read_evaluation
from assl_lightning.loop.oracles import HeldBackLabels, LabelRequest, Pending
from assl_lightning.loop.records import RoundRecord, read_records
from assl_lightning.method.assl import ASSL
from assl_lightning.method.assl_div import ASSLDiv
from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.settings import FURTHER
from assl_lightning.networks.small import SmallCNN
from assl_lightning.stopping import PickedAccuracy, lure_weights
from tests import small_runs
from tests.acquisition.two_passes import TwoPasses
from tests.stripes import IMAGES, LABELS, POOL_SIZE, SGD, make_datamodule

pytestmark = pytest.mark.e2e

SETTINGS = RoundSettings(
    rounds=2, initial_labels=4, labels_per_round=3, steps_per_round=8, steps_per_epoch=4, weight_ema=0.8
)


run = functools.partial(small_runs.run, settings=SETTINGS)


def without_times(records: list[RoundRecord]) -> list[RoundRecord]:
    return [replace(record, seconds={}) for record in records]


def final_weights(run_dir: Path, number: int = 2) -> dict[str, Tensor]:
    checkpoint: dict[str, dict[str, Tensor]]
    checkpoint = torch.load(run_dir / f"round_{number:02d}" / "final.ckpt", weights_only=True)
    return checkpoint["state_dict"] | {f"raw.{k}": v for k, v in checkpoint["current_model_state"].items()}


def assert_same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_a_run_grows_the_labelled_set_and_leaves_its_files(tmp_path: Path) -> None:
    pool = Pool(POOL_SIZE, 3, [f"image/{i}" for i in range(POOL_SIZE)])
    records = run(tmp_path / "run", pool=pool)
    assert [record.labels for record in records] == [4, 7, 10]
    assert [record.unlabelled for record in records] == [56, 53, 50]
    assert [len(record.queried) for record in records] == [3, 3, 0]
    assert all(record.steps == 8 and record.coverage is not None and 0.8 < record.coverage <= 1 for record in records)
    assert all(record.mask_rate is not None and 0 <= record.mask_rate <= 1 for record in records)
    assert all(record.seconds.keys() >= {"train", "test"} for record in records)
    assert [record.test_images for record in records] == [30] * len(records)
    assert records[0].seconds.keys() == {"train", "test", "acquire", "label"}
    assert records[2].seconds.keys() == {"train", "test"}
    assert read_records(tmp_path / "run") == records

    assert len(pool.labelled) == 10
    assert torch.equal(pool.labels[pool.labelled].long(), LABELS[pool.labelled])
    since = pool.labelled_in_round.tolist()
    assert sorted(since[i] for i in pool.labelled.tolist()) == [0] * 4 + [1] * 3 + [2] * 3
    assert {i for i, number in enumerate(since) if number == 1} == set(records[0].queried)

    with (tmp_path / "run" / "round_00" / "queried.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == records[0].queried
    assert [row["rank"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["sample_id"] == f"image/{records[0].queried[0]}"
    score = [float(row["score"]) for row in rows]
    assert score == sorted(score, reverse=True)
    table = torch.load(tmp_path / "run" / "round_00" / "statistics.pt", weights_only=True)
    assert float(rows[0]["uncertainty_mean"]) == pytest.approx(table["uncertainty_mean"][records[0].queried[0]].item())
    assert int(rows[0]["visits"]) == table["visits"][records[0].queried[0]]

    for record in records:
        evaluation = read_evaluation(tmp_path / "run" / f"round_{record.round:02d}" / "evaluation.npz")
        assert evaluation is not None
        np.testing.assert_array_equal(evaluation.label, LABELS[POOL_SIZE:])
        assert evaluation.is_right.mean() == pytest.approx(record.test_accuracy_ema)
        errors = [f"test image {row}" for row in confident_errors(evaluation)]
        assert list(evaluation.pictured) == errors
        with Image.open(tmp_path / "run" / f"round_{record.round:02d}" / "errors.png") as sheet:
            first = np.array(sheet.convert("L"))[:8, :8]
        np.testing.assert_array_equal(first, IMAGES[POOL_SIZE + confident_errors(evaluation)[0], 0])

    names = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert names >= {"config.yaml", "rounds.jsonl", "round_02/final.ckpt", "round_02/metrics.csv", "round_01/pool.pt"}
    assert not names & {"round_00/final.ckpt", "round_01/final.ckpt", "round_02/queried.csv", "round_00/state.json"}
    with (tmp_path / "run" / "round_02" / "metrics.csv").open() as file:
        metrics = list(csv.DictReader(file))
    tested = [float(row["test_accuracy_ema"]) for row in metrics if row["test_accuracy_ema"]]
    assert len(tested) == 2
    assert tested[-1] == pytest.approx(records[2].test_accuracy_ema)


def test_the_same_seed_gives_the_same_run_to_the_last_bit_and_another_does_not(tmp_path: Path) -> None:
    first = run(tmp_path / "a")
    torch.manual_seed(99)
    assert without_times(run(tmp_path / "b")) == without_times(first)
    assert_same_weights(final_weights(tmp_path / "a"), final_weights(tmp_path / "b"))
    other = run(tmp_path / "c", settings=replace(SETTINGS, seed=1))
    assert [record.queried for record in other] != [record.queried for record in first]


def test_two_strategies_under_one_seed_share_the_first_training(tmp_path: Path) -> None:
    ours, theirs = run(tmp_path / "a"), run(tmp_path / "b", acquisition=RandomSampling())
    assert ours[0].test_accuracy_ema == theirs[0].test_accuracy_ema
    assert ours[0].test_accuracy_raw == theirs[0].test_accuracy_raw
    pools = [torch.load(tmp_path / name / "round_00" / "pool.pt", weights_only=True) for name in "ab"]
    assert torch.equal(pools[0]["labels"], pools[1]["labels"])
    assert ours[0].queried != theirs[0].queried


class Stop(Exception):
    pass


class StoppingOracle(HeldBackLabels):
    """Ends the process, as it were, when the labels of a certain round are asked for."""

    def __init__(self, stop_at: int) -> None:
        super().__init__(LABELS[:POOL_SIZE])
        self.stop_at = stop_at

    def answer(self, request: LabelRequest) -> Answers:
        if request.round_number == self.stop_at:
            raise Stop
        return super().answer(request)


class StoppingTrainer(Trainer):
    """Ends the process, as it were, in the middle of a fit."""

    def fit(self, *arguments: Any, **keywords: Any) -> None:
        super().fit(*arguments, **keywords)
        raise Stop


@pytest.mark.parametrize("init", ["rand", "continue"])
@pytest.mark.parametrize("where", ["asking", "training"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, init: Any, where: str) -> None:
    settings = replace(SETTINGS, init=init)
    straight = run(tmp_path / "straight", settings=settings)
    directory = tmp_path / "stopped"
    if where == "asking":
        for stop_at in (-1, 0, 1):
            with pytest.raises(Stop):
                run(directory, settings=settings, oracle=StoppingOracle(stop_at))
    else:
        made: list[int] = []

        def make_trainer(**keywords: Any) -> Trainer:
            made.append(1)
            return small_runs.make_trainer(kind=StoppingTrainer if len(made) == 2 else Trainer, **keywords)

        with pytest.raises(Stop):
            run(directory, settings=settings, make_trainer=make_trainer)
    resumed = run(directory, settings=settings)
    assert without_times(resumed) == without_times(straight)
    assert_same_weights(final_weights(directory), final_weights(tmp_path / "straight"))


def test_a_finished_run_started_again_does_nothing(tmp_path: Path) -> None:
    first = run(tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}

    def refuse(**_: Any) -> Trainer:
        raise AssertionError("no trainer should be made")

    pool = Pool(POOL_SIZE, 3)
    assert run(tmp_path / "run", make_trainer=refuse, pool=pool) == first
    assert len(pool.labelled) == 10, "whoever asked has the labels all the same"
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_a_run_with_other_settings_is_refused_by_the_keys_that_differ(tmp_path: Path) -> None:
    run(tmp_path / "run")
    other = replace(SETTINGS, steps_per_round=9, steps_per_epoch=None, score=ScoreSettings(c_u=1.0))
    with pytest.raises(ValueError, match=r"steps_per_round was 8, now 9; steps_per_epoch was 4, now None; score\.c_u"):
        run(tmp_path / "run", settings=other)


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=r"run_dir .*file/run cannot be made \(Not a directory\); choose another run_dir"
    ):
        run(tmp_path / "file" / "run")


def test_rand_starts_each_round_from_the_same_weights_and_continue_from_the_last(tmp_path: Path) -> None:
    starts: list[dict[str, Tensor]] = []

    class Watching(FixMatch):
        def on_fit_start(self) -> None:
            starts.append({name: value.clone() for name, value in self.state_dict().items()})

    def make(network: Any) -> FixMatch:
        return Watching(network, optimizer=SGD, threshold=0.6)

    run(tmp_path / "rand", make_algorithm=make)
    assert_same_weights(starts[0], starts[1])
    assert_same_weights(starts[0], starts[2])
    starts.clear()
    run(tmp_path / "continue", make_algorithm=make, settings=replace(SETTINGS, init="continue", rounds=1))
    assert not torch.equal(starts[0]["network.head.weight"], starts[1]["network.head.weight"])


@pytest.mark.parametrize("weights", ["raw", "ema"])
def test_continue_takes_the_weights_that_it_was_told(tmp_path: Path, weights: Any) -> None:
    starts: list[dict[str, Tensor]] = []

    class Watching(FixMatch):
        def on_fit_start(self) -> None:
            starts.append({name: value.clone() for name, value in self.state_dict().items()})

    class Keeping(StoppingOracle):
        """Keeps the checkpoint that the next round starts from, which is gone when that round is complete."""

        def answer(self, request: LabelRequest) -> Answers:
            if request.round_number == 0 and request.directory is not None:
                shutil.copy(request.directory.parent / "round_00" / "final.ckpt", tmp_path / "final.ckpt")
            return super().answer(request)

    run(
        tmp_path / "run",
        make_algorithm=lambda network: Watching(network, optimizer=SGD, threshold=0.6),
        oracle=Keeping(stop_at=99),
        settings=replace(SETTINGS, init="continue", continue_from=weights, rounds=1),
    )
    checkpoint = torch.load(tmp_path / "final.ckpt", weights_only=True)
    expected = checkpoint["state_dict" if weights == "ema" else "current_model_state"]
    assert_same_weights(starts[1], expected)


def test_statistics_go_on_over_rounds_on_request(tmp_path: Path) -> None:
    settings = replace(SETTINGS, score=ScoreSettings(reset=False), rounds=1)
    run(tmp_path / "on", settings=settings)
    run(tmp_path / "afresh", settings=replace(settings, score=ScoreSettings()))
    visits = {
        name: torch.load(tmp_path / name / "round_01" / "statistics.pt", weights_only=True)["visits"].sum().item()
        for name in ("on", "afresh")
    }
    assert visits == {"on": 2 * 8 * 12, "afresh": 8 * 12}


class ByChanges:
    """Forgetting, which also asks for the other further statistics and keeps what it was given."""

    requires: frozenset[Requirement] = frozenset(FURTHER)

    def __init__(self) -> None:
        self.given: list[Candidates] = []

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        self.given.append(candidates)
        return Forgetting().acquire(candidates, budget, generator)


def test_further_statistics_of_a_stopped_run_go_on_to_the_last_bit_and_over_rounds(tmp_path: Path) -> None:
    settings = replace(SETTINGS, score=ScoreSettings(reset=False))
    straight, stopped = ByChanges(), ByChanges()
    records = run(tmp_path / "straight", settings=settings, acquisition=straight)
    made: list[int] = []

    def make_trainer(**keywords: Any) -> Trainer:
        made.append(1)
        return small_runs.make_trainer(kind=StoppingTrainer if len(made) == 2 else Trainer, **keywords)

    with pytest.raises(Stop):
        run(tmp_path / "run", settings=settings, acquisition=stopped, make_trainer=make_trainer)
    resumed = run(tmp_path / "run", settings=settings, acquisition=stopped)
    assert without_times(resumed) == without_times(records)
    assert len(stopped.given) == len(straight.given) == 2
    for mine, theirs in zip(stopped.given, straight.given, strict=True):
        for name in FURTHER:
            assert torch.equal(mine.require(name), theirs.require(name))
    assert straight.given[1].require("forgetting").max() > 0
    names = [set(torch.load(tmp_path / "run" / f"round_0{n}" / "statistics.pt")["further"]) for n in (0, 1)]
    assert names == [set(FURTHER)] * 2


def test_the_final_checkpoint_loads_into_a_new_algorithm(tmp_path: Path) -> None:
    run(tmp_path / "run", settings=replace(SETTINGS, rounds=0))
    path = tmp_path / "run" / "round_00" / "final.ckpt"
    loaded = FixMatch.load_from_checkpoint(path, network=SmallCNN(3, width=4), optimizer=SGD, weights_only=True)
    assert_same_weights(loaded.state_dict(), torch.load(path, weights_only=True)["state_dict"])


def test_acquisition_cannot_see_hidden_labels(tmp_path: Path) -> None:
    """With other labels behind the unlabelled samples, the first query is the same."""
    first = run(tmp_path / "a", settings=replace(SETTINGS, rounds=1))
    initial = torch.load(tmp_path / "a" / "round_00" / "pool.pt", weights_only=True)["labels"] >= 0
    shuffled = torch.where(initial, LABELS[:POOL_SIZE], (LABELS[:POOL_SIZE] + 1) % 3)
    second = run(tmp_path / "b", settings=replace(SETTINGS, rounds=1), oracle=HeldBackLabels(shuffled))
    assert first[0].queried == second[0].queried
    assert first[0].test_accuracy_ema == second[0].test_accuracy_ema


@pytest.mark.parametrize("acquisition", [Entropy(), ASSLDiv(), RandomSampling()])
@pytest.mark.parametrize("weights", ["raw", "ema"])
def test_strategies_that_need_a_pass_over_the_pool_get_it(
    tmp_path: Path, acquisition: Any, weights: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = watch_passes(monkeypatch)
    settings = replace(SETTINGS, rounds=1, acquisition_weights=weights)
    records = run(tmp_path / "run", acquisition=acquisition, settings=settings)
    assert len(records[0].queried) == 3
    with (tmp_path / "run" / "round_00" / "queried.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(row["prediction"] in ("0", "1", "2") for row in rows)
    over_the_pool, over_the_picks = sizes[:-1], sizes[-1]
    assert over_the_picks == 3
    assert len(over_the_pool) == bool(acquisition.requires & {"logits", "features"})
    assert all(size > 40 for size in over_the_pool)  # all 56, or those that training visited


def watch_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples each pass of a query goes over, as they come."""
    sizes: list[int] = []

    def watched(network: Any, view: Any, index: Tensor, **arguments: Any) -> tuple[Tensor, Tensor]:
        sizes.append(len(index))
        return evaluate(network, view, index, **arguments)

    monkeypatch.setattr("assl_lightning.learning.trained_model.evaluate", watched)
    return sizes


def test_features_that_training_kept_spare_the_pass_and_are_the_last_weak_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, Tensor] = {}

    class Watching(FixMatch):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            output = super().training_step(batch, batch_idx)
            seen.update(zip(output["index"].tolist(), output["features_weak"].half().float(), strict=True))
            return output

    at_the_query: dict[int, Tensor] = {}

    def first_ones(index: Tensor, budget: int) -> Tensor:
        at_the_query.update(seen)
        return index[:budget]

    sizes = watch_passes(monkeypatch)
    strategy = FirstThree(first_ones)
    strategy.requires = frozenset({"statistics", "features"})
    records = run(
        tmp_path / "run",
        acquisition=strategy,
        make_algorithm=lambda network: Watching(network, optimizer=SGD, threshold=0.6),
        settings=replace(
            SETTINGS,
            rounds=1,
            acquisition_features="training",
            unvisited="random",
            steps_per_round=2,
            steps_per_epoch=2,
        ),
    )
    assert sizes == [3], "none but over what was picked"
    (candidates,) = strategy.candidates
    assert candidates.index.tolist() == sorted(at_the_query)
    assert len(candidates) < POOL_SIZE - 4, "two steps leave some unvisited"
    assert records[0].drawn_at_random > 0
    assert candidates.features is not None
    assert torch.equal(candidates.features, torch.stack([row for _, row in sorted(at_the_query.items())]))


def test_the_diverse_strategy_picks_from_kept_features(tmp_path: Path) -> None:
    settings = replace(SETTINGS, acquisition_features="training")
    records = run(tmp_path / "run", acquisition=ASSLDiv(), settings=settings)
    assert [len(record.queried) for record in records] == [3, 3, 0]
    again = run(tmp_path / "again", acquisition=ASSLDiv(), settings=settings)
    assert without_times(records) == without_times(again)


def test_features_that_nobody_keeps_are_missed_before_training(tmp_path: Path) -> None:
    adam = functools.partial(torch.optim.Adam, lr=0.01)
    strategy = FirstThree(lambda index, budget: index[:budget])
    strategy.requires = frozenset({"features"})
    with pytest.raises(ValueError, match="looks at unlabelled images, and Supervised keeps nothing of them"):
        run(
            tmp_path / "run",
            acquisition=strategy,
            make_algorithm=lambda network: Supervised(network, optimizer=adam),
            settings=replace(SETTINGS, acquisition_features="training"),
            data={"mu": 0},
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unvisited": "infer"}, "^acquisition_features=training, unvisited=infer: .* set unvisited to exclude or"),
        ({"acquisition_weights": "ema"}, "^acquisition_features=training, acquisition_weights=ema: .* the raw weights"),
        ({"score": ScoreSettings(reset=False)}, "^acquisition_features=training, score.reset=False: .* never saw; set"),
    ],
)
def test_kept_features_that_would_be_wrong_or_missing_are_refused_where_they_are_used(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    settings = replace(SETTINGS, acquisition_features="training", rounds=1, **changes)
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", acquisition=ASSLDiv(), settings=settings)
    assert len(run(tmp_path / "assl", acquisition=ASSL(), settings=settings)) == 2


def test_a_strategy_that_needs_logits_beside_kept_features_is_refused(tmp_path: Path) -> None:
    settings = replace(SETTINGS, acquisition_features="training")
    with pytest.raises(ValueError, match="which only a pass over the pool gives, and BADGE needs them"):
        run(tmp_path / "run", acquisition=BADGE(), settings=settings)


@pytest.mark.parametrize("acquisition", [CoreSet(), BALD()])
def test_a_strategy_for_labelled_samples_or_the_head_needs_no_pass_with_kept_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acquisition: Any
) -> None:
    sizes = watch_passes(monkeypatch)
    settings = replace(SETTINGS, acquisition_features="training")
    records = run(tmp_path / "run", acquisition=acquisition, settings=settings)
    assert [len(record.queried) for record in records] == [3, 3, 0]
    assert sizes == [3, 3], "none but over what was picked"


@pytest.mark.parametrize("labels", [4, 12])
def test_labelled_samples_have_kept_features_and_those_that_were_never_visited_have_a_pass_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: int
) -> None:
    """Of 12 labelled samples two steps of 4 visit 8."""
    seen: dict[int, Tensor] = {}
    passes: list[dict[int, Tensor]] = []

    class Watching(FixMatch):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            output = super().training_step(batch, batch_idx)
            rows = output["features_labelled"].half().float()
            seen.update(zip(output["labelled_index"].tolist(), rows, strict=True))
            return output

    def watched(network: Any, view: Any, index: Tensor, **arguments: Any) -> tuple[Tensor, Tensor]:
        logits, features = evaluate(network, view, index, **arguments)
        passes.append(dict(zip(index.tolist(), features, strict=True)))
        return logits, features

    monkeypatch.setattr("assl_lightning.learning.trained_model.evaluate", watched)
    at_the_query: dict[int, Tensor] = {}

    def first_ones(index: Tensor, budget: int) -> Tensor:
        at_the_query.update(seen)
        return index[:budget]

    strategy = FirstThree(first_ones)
    strategy.requires = frozenset({"features", "labelled"})
    short = replace(SETTINGS, rounds=1, initial_labels=labels, steps_per_round=2, steps_per_epoch=2)
    run(
        tmp_path / "run",
        acquisition=strategy,
        make_algorithm=lambda network: Watching(network, optimizer=SGD, threshold=0.6),
        settings=replace(short, acquisition_features="training"),
    )
    labelled = strategy.candidates[0].require("labelled")
    *of_labelled, over_the_picks = passes
    assert len(over_the_picks) == 3
    assert [len(rows) for rows in of_labelled] == ([] if labels == 4 else [4])
    assert len(labelled.index) == labels
    assert labelled.labels.tolist() == LABELS[labelled.index].tolist()
    assert labelled.logits is None
    expected = {index: row for rows in (at_the_query, *of_labelled) for index, row in rows.items()}
    assert torch.equal(labelled.features, torch.stack([expected[index] for index in labelled.index.tolist()]))
    assert not {*at_the_query} & {index for rows in of_labelled for index in rows}


def test_what_was_queried_can_be_looked_at(tmp_path: Path) -> None:
    records = run(tmp_path / "run", settings=replace(SETTINGS, rounds=1))
    directory = tmp_path / "run" / "round_00"
    sheet = Image.open(directory / "queried.png")
    assert int(sheet.info["count"]) == 3
    pixels = torch.from_numpy(np.asarray(sheet).copy())
    for place, index in enumerate(records[0].queried):
        assert torch.equal(pixels[:8, 8 * place : 8 * place + 8], IMAGES[index, 0])
    histograms = json.loads((directory / "histograms.json").read_text())
    assert histograms.keys() >= {"score", "uncertainty_mean", "inconsistency_variance"}
    assert sum(histograms["score"]["queried"]) == 3
    assert 3 < sum(histograms["score"]["pool"]) <= 56
    assert records[0].queried_labels == LABELS[records[0].queried].tolist()
    assert records[1].queried_labels == []


class FirstThree:
    """A strategy that returns what the test tells it."""

    requires: frozenset[Requirement] = frozenset({"statistics"})

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.candidates: list[Candidates] = []

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        self.candidates.append(candidates)
        return Selection(self.answer(candidates.index, budget))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda index, budget: index[: budget - 1], r"FirstThree must return 3 int64 pool indices; got .* \(2,\)"),
        (lambda index, budget: index[[4, 4, 5]], "returned index .* twice; a strategy must return `budget` distinct"),
        (lambda index, budget: torch.tensor([0, 1, 60])[:budget], "not among the 5. candidates; return entries"),
        (lambda index, budget: index[:3].float(), "int64 pool indices; got torch.float32"),
        (lambda index, budget: index[:3].tolist(), "FirstThree must return 3 int64 pool indices; got a list"),
    ],
)
def test_a_strategy_that_answers_nonsense_is_told(tmp_path: Path, answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", acquisition=FirstThree(answer))


class BareTensor(FirstThree):
    """A strategy as they were once: its picks alone, and scores on request."""

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Any:
        return candidates.index[:budget]


class FewScores(FirstThree):
    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        return Selection(candidates.index[:budget], torch.zeros(budget))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            BareTensor,
            r"^BareTensor.acquire must return a Selection, and returned a Tensor; return Selection\(index, sc",
        ),
        (FewScores, r"^the scores of FewScores must be one number for each of the 5. candidates; got shape \(3,\)$"),
    ],
)
def test_a_strategy_that_answers_with_something_else_than_a_selection_is_told(
    tmp_path: Path, kind: type[FirstThree], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", acquisition=kind(None), settings=replace(SETTINGS, rounds=1))


@pytest.mark.parametrize(
    "strategy", [ASSL(), ASSLDiv(), BADGE(), CoreSet(), Entropy()], ids=lambda made: type(made).__name__
)
def test_a_run_queries_and_writes_what_it_did_when_it_asked_twice(tmp_path: Path, strategy: Any) -> None:
    settings = replace(SETTINGS, rounds=1, unvisited="random")
    once, twice = tmp_path / "once", tmp_path / "twice"
    records = run(once, acquisition=strategy, settings=settings)
    assert without_times(records) == without_times(run(twice, acquisition=TwoPasses(strategy), settings=settings))
    for name in ("queried.csv", "histograms.json"):
        content = (once / "round_00" / name).read_text()
        assert content == (twice / "round_00" / name).read_text()
        assert "score" in content


@pytest.mark.parametrize("policy", ["exclude", "infer", "random"])
def test_samples_that_training_never_visited_follow_the_policy(tmp_path: Path, policy: Any) -> None:
    strategy = FirstThree(lambda index, budget: index[:budget])
    settings = replace(
        SETTINGS, rounds=1, steps_per_round=2, steps_per_epoch=None, unvisited=policy, labels_per_round=8
    )
    records = run(tmp_path / "run", acquisition=strategy, settings=settings, data={"mu": 3})
    candidates = strategy.candidates[0]
    assert candidates.statistics is not None
    assert (candidates.statistics.visits > 0).all()
    assert records[0].coverage == pytest.approx(24 / 56)
    assert len(candidates) == (56 if policy == "infer" else 24)
    assert records[0].drawn_at_random == (round(8 * 32 / 56) if policy == "random" else 0)
    assert len(set(records[0].queried)) == 8


def test_too_few_visited_samples_are_made_up_at_random(tmp_path: Path) -> None:
    strategy = FirstThree(lambda index, budget: index[:budget])
    settings = replace(SETTINGS, rounds=1, steps_per_round=1, steps_per_epoch=None, labels_per_round=20)
    records = run(tmp_path / "run", acquisition=strategy, settings=settings)
    assert records[0].drawn_at_random == 20 - 12
    assert len(set(records[0].queried)) == 20
    with (tmp_path / "run" / "round_00" / "queried.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["uncertainty_mean"] != "" for row in rows] == [True] * 12 + [False] * 8, "unknown, not zero"
    assert [row["visits"] for row in rows] == ["1"] * 12 + ["0"] * 8


def test_the_last_round_may_have_nothing_unlabelled_left(tmp_path: Path) -> None:
    settings = replace(SETTINGS, rounds=1, initial_labels=50, labels_per_round=10)
    records = run(tmp_path / "run", settings=settings)
    assert records[1].unlabelled == 0
    assert records[1].coverage is None


@pytest.mark.parametrize("name", ["acquisition_weights", "continue_from"])
def test_averaged_weights_that_are_not_kept_are_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    changes: dict[str, Any] = {name: "ema", "weight_ema": None}
    settings = replace(SETTINGS, **changes)
    with pytest.raises(ValueError, match=f"{name}=ema, weight_ema=None: averaged weights need weight_ema"):
        run(tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_a_budget_larger_than_the_pool_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="= 64 labels, but the pool has 60 images; lower one of them, for example"):
        run(tmp_path / "run", settings=replace(SETTINGS, rounds=20))
    assert not (tmp_path / "run").exists()


def test_supervised_training_stops_when_it_has_learned_and_says_how_far_it_went(tmp_path: Path) -> None:
    adam = functools.partial(torch.optim.Adam, lr=1e-2)
    records = run(
        tmp_path / "run",
        make_algorithm=lambda network: Supervised(network, optimizer=adam, stop_at_train_accuracy=0.99),
        acquisition=RandomSampling(),
        data={"mu": 0, "labelled_view": "plain", "labelled_stream": "passes", "max_passes": 200},
        settings=replace(SETTINGS, steps_per_round=500, steps_per_epoch=None, weight_ema=None),
    )
    assert all(0 < record.steps < 200 for record in records)
    assert all(record.coverage is None for record in records)
    assert all(record.test_accuracy_ema == record.test_accuracy_raw for record in records)


def test_statistics_that_nobody_keeps_are_missed_before_training(tmp_path: Path) -> None:
    message = (
        "^acquisition=ASSL, algorithm=Supervised: ASSL needs statistics of unlabelled images, and Supervised keeps"
    )
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", make_algorithm=lambda network: Supervised(network, optimizer=SGD), data={"mu": 0})


def test_a_run_goes_on_whose_configuration_says_what_the_classes_say(tmp_path: Path) -> None:
    """As that of an older version does."""
    acquisition, algorithm = {"name": "assl"}, {"name": "fixmatch"}
    now = {"acquisition": acquisition, "algorithm": algorithm}
    before = {
        "acquisition": acquisition | {"requires": ["statistics"]},
        "algorithm": algorithm | {"produces": ["statistics"]},
    }
    run(tmp_path / "run", settings=replace(SETTINGS, rounds=1, config=before))
    records = run(tmp_path / "run", settings=replace(SETTINGS, config=now))
    assert without_times(records) == without_times(run(tmp_path / "straight"))
    with pytest.raises(ValueError, match=r"another configuration \(acquisition.name was 'assl', now 'random'\)"):
        run(tmp_path / "run", settings=replace(SETTINGS, config=now | {"acquisition": {"name": "random"}}))


def test_a_trainer_that_cuts_a_round_short_is_noticed(tmp_path: Path) -> None:
    make_trainer = functools.partial(small_runs.make_trainer, limit_train_batches=2)
    with pytest.raises(RuntimeError, match="round 0 was to train 8 steps, but the trainer made 4"):
        run(tmp_path / "run", make_trainer=make_trainer)
    assert read_records(tmp_path / "run") == []


def test_a_shorter_last_epoch_is_tested_at_its_last_step(tmp_path: Path) -> None:
    records = run(tmp_path / "run", settings=replace(SETTINGS, rounds=0, steps_per_round=10, steps_per_epoch=4))
    with (tmp_path / "run" / "round_00" / "metrics.csv").open() as file:
        tested = {
            int(row["step"]): row["test_accuracy_raw"] for row in csv.DictReader(file) if row["test_accuracy_raw"]
        }
    assert list(tested) == [3, 7, 9]
    assert float(tested[9]) == pytest.approx(records[0].test_accuracy_raw)


def test_a_trainer_that_leaves_the_last_test_out_is_noticed(tmp_path: Path) -> None:
    make_trainer = functools.partial(small_runs.make_trainer, check_val_every_n_epoch=3)
    with pytest.raises(RuntimeError, match="round 0 was last tested at step None, not at its last step, 8"):
        run(tmp_path / "run", make_trainer=make_trainer)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("round_00/state.json", "", r"round_00/state\.json is not JSON .*; remove it, and its round is trained again"),
        ("round_00/pool.pt", "", r"round_00/pool\.pt cannot be read: .*; restore it or begin anew"),
        ("config.yaml", "", r"config\.yaml is not the configuration of a run; restore it"),
    ],
)
def test_a_torn_file_of_a_run_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(Stop):
        run(tmp_path / "run", oracle=StoppingOracle(0))
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run")


def test_what_a_kill_left_behind_is_tidied_and_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.yaml.123.tmp").write_text("half of")
    records = run(tmp_path / "run")
    leftover = tmp_path / "run" / "round_01" / "final.ckpt"
    leftover.write_text("of the round before the last")
    assert run(tmp_path / "run") == records
    assert not leftover.exists()


def test_a_second_process_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    first = run(tmp_path / "run")
    with RunDirectory(tmp_path / "run").held(), pytest.raises(ValueError, match="run is in use by another process"):
        run(tmp_path / "run")
    assert run(tmp_path / "run") == first


def test_of_two_that_begin_at_once_the_second_does_not_write_over_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run")
    make_directory, run_ids = Path.mkdir, []

    def make_and_be_overtaken(path: Path, *arguments: Any, **keywords: Any) -> None:
        monkeypatch.undo()
        make_directory(path, *arguments, **keywords)
        first.open({"seed": 0})
        run_ids.append(first.config.run_id)

    monkeypatch.setattr(Path, "mkdir", make_and_be_overtaken)
    with pytest.raises(ValueError, match="seed was 0, now 1"):
        second.open({"seed": 1})
    assert run_ids == [first.config.run_id]


class Patient:
    """People: they answer when the test says so."""

    def __init__(self) -> None:
        self.ready = True
        self.asked: list[tuple[int, list[int]]] = []

    def answer(self, request: LabelRequest) -> Answers | Pending:
        self.asked.append((request.round_number, request.index.tolist()))
        if self.ready:
            return Answers(request.index, LABELS[request.index])
        return Pending("label to_label.csv, then start again")


def test_a_run_waits_for_people_and_goes_on_without_training_again(tmp_path: Path) -> None:
    straight = run(tmp_path / "straight")
    people = Patient()
    people.ready = False
    assert run(tmp_path / "run", oracle=people) == []
    people.ready = True
    run(tmp_path / "run", oracle=people, settings=SETTINGS)
    shutil.rmtree(tmp_path / "run")

    class FirstOnly(Patient):
        def answer(self, request: LabelRequest) -> Answers | Pending:
            self.ready = request.round_number < 0
            return super().answer(request)

    assert run(tmp_path / "run", oracle=FirstOnly()) == []
    state = json.loads((tmp_path / "run" / "round_00" / "state.json").read_text())
    assert state["state"] == "waiting"
    assert state["record"]["queried"] == straight[0].queried
    trained = (tmp_path / "run" / "round_00" / "final.ckpt").stat().st_mtime_ns
    records = run(tmp_path / "run", oracle=Patient())
    assert trained  # round 0 was not trained again: its record is the one that waited
    assert records[0].seconds["train"] == state["record"]["seconds"]["train"]
    assert without_times(records) == without_times(straight)


def test_drawn_picks_tell_an_accuracy_when_their_labels_have_come_after_a_pause_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    class FirstOnly(Patient):
        def answer(self, request: LabelRequest) -> Answers | Pending:
            self.ready = request.round_number < 0
            return super().answer(request)

    straight, paused = (functools.partial(run, tmp_path / name, settings=replace(SETTINGS, rounds=1)) for name in "ab")
    at_once = straight(acquisition=PowerSampling())
    (sentence,) = [message for message in caplog.messages if "picks" in message]
    caplog.clear()
    assert paused(acquisition=PowerSampling(), oracle=FirstOnly()) == []
    assert "picks" not in caplog.text
    records = paused(acquisition=PowerSampling(), oracle=Patient())
    assert without_times(records) == without_times(at_once)
    assert sentence in caplog.messages

    record, status = records[0], read_status(tmp_path / "b")
    with (tmp_path / "b" / "round_00" / "queried.csv").open() as file:
        wrong = [int(row["prediction"]) != int(LABELS[int(row["index"])]) for row in csv.DictReader(file)]
    visited = round((record.coverage or 0) * 56)
    accuracy = PickedAccuracy(lure_weights(record.pick_probabilities, visited), tuple(wrong))
    assert record.candidates == visited
    assert status.picks == (0, accuracy)
    assert sentence == f"round 0, picks: {accuracy}"
    assert f"  picks      round 0: {accuracy}" in [*status.lines()]
    assert records[1].pick_probabilities == []


class Excluding(HeldBackLabels):
    """Finds that the first sample of each query is no image at all."""

    def answer(self, request: LabelRequest) -> Answers:
        if request.round_number < 0:
            return super().answer(request)
        return Answers(request.index[1:], LABELS[request.index[1:]], excluded=request.index[:1])


def test_a_run_without_a_label_to_train_on_ends_before_it_trains(tmp_path: Path) -> None:
    class NoImages(HeldBackLabels):
        def answer(self, request: LabelRequest) -> Answers:
            return Answers(request.index[:0], request.index[:0], excluded=request.index)

    with pytest.raises(ValueError, match="no sample has a label to train on; label some of those that were asked for"):
        run(tmp_path / "run", oracle=NoImages(LABELS[:POOL_SIZE]))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_datamodule_of_another_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must share one pool; they were given two"):
        run(tmp_path / "run", datamodule=make_datamodule(Pool(POOL_SIZE, 3)))
    assert not (tmp_path / "run").exists()


def test_excluded_samples_leave_the_run_for_good(tmp_path: Path) -> None:
    pool = Pool(POOL_SIZE, 3)
    records = run(tmp_path / "run", pool=pool, oracle=Excluding(LABELS[:POOL_SIZE]))
    assert [record.labels for record in records] == [4, 6, 8]
    gone = {records[0].queried[0], records[1].queried[0]}
    assert {i for i, since in enumerate(pool.labelled_in_round.tolist()) if since == -2} == gone


def test_an_oracle_that_answers_something_else_is_told(tmp_path: Path) -> None:
    class Wrong(HeldBackLabels):
        def answer(self, request: LabelRequest) -> Answers:
            index = (request.index + 1) % POOL_SIZE
            return Answers(index, LABELS[index])

    with pytest.raises(ValueError, match=r"the oracle answered for sample .*, which was not asked for"):
        run(tmp_path / "run", oracle=Wrong(LABELS[:POOL_SIZE]))


def test_dropout_does_not_disturb_repetition(tmp_path: Path) -> None:
    class Dropping(SmallCNN):
        def features(self, images: Tensor) -> Tensor:
            return nn.functional.dropout(super().features(images), 0.3, self.training)

    settings = replace(SETTINGS, rounds=1)
    first = run(tmp_path / "a", make_network=lambda: Dropping(3, width=4), settings=settings)
    torch.manual_seed(5)
    second = run(tmp_path / "b", make_network=lambda: Dropping(3, width=4), settings=settings)
    assert without_times(first) == without_times(second)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": -1}, "rounds must be at least 0; got -1"),
        ({"labels_per_round": 0}, "labels_per_round must be at least 1, and a list not empty; got 0"),
        ({"init": "warm"}, "init must be one of rand, continue; got 'warm'"),
        ({"unvisited": "skip"}, "unvisited must be one of exclude, infer, random; got 'skip'"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RoundSettings(**(asdict(SETTINGS) | {"score": ScoreSettings()} | changes))


def test_the_head_takes_what_the_pass_gave_in_the_networks_own_precision_and_without_dropout(tmp_path: Path) -> None:
    class Heads(FirstThree):
        def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
            assert candidates.head is not None
            assert candidates.features is not None
            assert candidates.logits is not None
            found = candidates.head(candidates.features)
            torch.testing.assert_close(found, candidates.logits, rtol=0.05, atol=0.05)
            assert torch.equal(found, candidates.head(candidates.features))
            assert found.dtype == torch.float32
            return super().acquire(candidates, budget, generator)

    def make_network() -> SmallCNN:
        network = SmallCNN(3, width=4)
        network.head = nn.Sequential(nn.Dropout(0.5), network.head)
        return network

    strategy = Heads(lambda index, budget: index[:budget])
    strategy.requires = frozenset({"features", "logits", "head"})
    for precision in ("32-true", "bf16-mixed"):
        run(
            tmp_path / precision,
            acquisition=strategy,
            make_network=make_network,
            make_trainer=functools.partial(small_runs.make_trainer, precision=precision),
            settings=replace(SETTINGS, rounds=1),
        )
    assert len(strategy.candidates) == 2


# --- samples that were excluded beforehand ---------------------------------------------------------------------------


def pool_without(excluded: list[int]) -> Pool:
    pool = Pool(POOL_SIZE, 3)
    pool.exclude(torch.tensor(excluded, dtype=torch.int64))
    return pool


def test_the_initial_labels_are_a_permutation_of_the_pool_where_nothing_was_excluded(tmp_path: Path) -> None:
    pool = Pool(POOL_SIZE, 3)
    run(tmp_path / "run", pool=pool, settings=replace(SETTINGS, rounds=0, steps_per_round=1, steps_per_epoch=None))
    order = torch.randperm(POOL_SIZE, generator=make_generator(0, "initial_labels"))
    assert set(pool.labelled.tolist()) == set(order[:4].tolist())


def test_what_was_excluded_beforehand_is_never_asked_for_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    excluded = [index for index in range(POOL_SIZE) if index % 4]  # 15 of 60 are left
    asked: list[int] = []

    class Asking(HeldBackLabels):
        def answer(self, request: LabelRequest) -> Answers:
            asked.extend(request.index.tolist())
            return super().answer(request)

    settings = replace(SETTINGS, initial_labels=9, steps_per_round=4)
    arguments: dict[str, Any] = {"settings": settings, "oracle": Asking(LABELS[:POOL_SIZE])}
    pool = pool_without(excluded)
    whole = run(tmp_path / "whole", pool=pool, **arguments)
    assert len(asked) == 15
    assert set(asked) == set(range(0, POOL_SIZE, 4))
    assert [record.unlabelled for record in whole] == [6, 3, 0]
    assert pool.labelled_in_round[torch.tensor(excluded)].unique().tolist() == [-2]

    def die(*arguments: Any, **keywords: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assl_lightning.loop.rounds.query", die)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", pool=pool_without(excluded), **arguments)
    first = torch.load(tmp_path / "killed" / "round_00" / "pool.pt", weights_only=True)
    assert (first["labelled_in_round"] == -2).sum() == len(excluded)
    resumed = pool_without(excluded)
    assert without_times(run(tmp_path / "killed", pool=resumed, **arguments)) == without_times(whole)
    assert torch.equal(resumed.labelled_in_round, pool.labelled_in_round)


def test_labels_beyond_what_was_not_excluded_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="= 10 labels, but the pool has 9 images; lower one of them"):
        run(tmp_path / "run", pool=pool_without(list(range(51))))
    assert not (tmp_path / "run").exists()
