"""A run that asks people: it ends where it has to wait, and goes on with what they answered."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image

from assl_lightning.base.run_files import LEDGER
from assl_lightning.data.answers import Answer, Incoming
from assl_lightning.data.pool import EXCLUDED, HELD_OUT, Answers, Pool
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.oracles import LabelRequest
from assl_lightning.loop.records import RoundRecord
from assl_lightning.loop.settings import RoundSettings
from assl_lightning.people.batch import (
    LabelBatch,
    find_audits,
    find_batches,
    next_audit,
    read_batch,
    waiting_batch,
)
from assl_lightning.people.judging import ingest, unanswered
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.oracle import People
from assl_lightning.people.page.session import Session
from assl_lightning.people.tools import LabelsByFile, LabelsByPage
from tests import small_runs
from tests.same_run import differences_of_runs
from tests.stripes import CLASS_NAMES, LABELS, POOL_SIZE, make_source

pytestmark = pytest.mark.e2e

SETTINGS = RoundSettings(
    rounds=2, initial_labels=6, labels_per_round=4, steps_per_round=6, steps_per_epoch=3, weight_ema=0.8
)


class ByHand:
    """A tool for the tests: answers are put into the ledger by hand."""

    def check(self, class_names: Sequence[str]) -> None:
        assert tuple(class_names) == CLASS_NAMES

    def offer(self, batch: LabelBatch) -> str:
        return "Label them by hand."

    def collect(self, batch: LabelBatch) -> Sequence[Incoming]:
        return []


def run(run_dir: Path, source: PoolSource | None = None, **changes: Any) -> list[RoundRecord]:
    """One call of a run; `people` are arguments of `People`, `pool` is as of before."""
    source = source or make_source()
    pool = Pool(len(source.pool_images), len(source.class_names), source.sample_ids)
    pool.exclude(torch.cat([source.unreadable, source.absent]).unique())
    known = source.hidden_labels if changes.pop("given", False) else torch.full_like(source.hidden_labels, -1)
    index = pool.unlabelled[known[pool.unlabelled] >= 0]
    pool.label(index, known[index], 0)
    data = {name: getattr(source, name) for name in ("pool_images", "test_images", "test_labels", "test_ids")}
    oracle = People(source, changes.pop("tool", ByHand()), **changes.pop("people", {}))
    settings = changes.pop("settings", SETTINGS)
    return small_runs.run(run_dir, pool=pool, data=data, settings=settings, **({"oracle": oracle} | changes))


def truth(source: PoolSource) -> dict[str, str]:
    return {
        name: CLASS_NAMES[label] for name, label in zip(source.sample_ids, source.hidden_labels.tolist(), strict=True)
    }


def say(run_dir: Path, answers: Mapping[str, str | None], annotator: str = "Ann", seconds: float = 2.0) -> None:
    """Answers by sample id, into the newest batch: a class, "!" for a bad image, None for a skip."""
    number = find_batches(run_dir)[-1].round
    said = []
    for name, label in answers.items():
        kind: Any = {None: "skip", "!": "bad"}.get(label, "label")
        of_class = label if kind == "label" else None
        said.append(Answer(name, kind, annotator, "by hand", number, label=of_class, seconds=seconds))
    Ledger(run_dir / LEDGER).append(said)


def label_all(run_dir: Path, source: PoolSource | None = None, **changes: str | None) -> LabelBatch:
    """The truth for all of the newest batch, but for the `changes`, by their place in it."""
    batch = find_batches(run_dir)[-1]
    labels = truth(source or make_source())
    answers: dict[str, str | None] = {sample.sample_id: labels[sample.sample_id] for sample in batch.samples}
    say(
        run_dir,
        answers | {batch.samples[int(place.removeprefix("at_"))].sample_id: one for place, one in changes.items()},
    )
    return batch


def to_the_end(
    run_dir: Path, source: PoolSource | None = None, knows: PoolSource | None = None, **arguments: Any
) -> list[RoundRecord]:
    """Call the run, label what it asks for, as one who `knows`, and call it again until it ends."""
    for _ in range(10):
        records = run(run_dir, source, **arguments)
        if len(records) == SETTINGS.rounds + 1:
            return records
        label_all(run_dir, knows or source)
    raise AssertionError("the run does not end")


def pool_of(run_dir: Path, number: int, size: int = POOL_SIZE) -> Pool:
    pool = Pool(size, 3)
    state = torch.load(run_dir / f"round_{number:02d}" / "pool.pt", weights_only=True)
    state.pop("sample_ids_digest", None)
    pool.load_state_dict(state)
    return pool


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What the run has told, as it is told."""
    with caplog.at_level(logging.INFO, logger="assl_lightning"):

        class Told(list[str]):
            def __contains__(self, words: object) -> bool:
                return any(str(words) in record.getMessage() for record in caplog.records)

        yield Told()


def test_a_run_with_no_label_at_all_asks_ends_and_goes_on(tmp_path: Path, messages: list[str]) -> None:
    nobody_knows = make_source(torch.full((POOL_SIZE,), -1), pool_images=make_source().pool_images)
    run_dir = tmp_path / "run"
    assert run(run_dir, nobody_knows) == []
    assert "0 of the 6 images" in messages
    assert "Label them by hand. Then give this command again, and the run goes on (8 more to label after" in messages
    assert run(run_dir, nobody_knows) == []
    batch = label_all(run_dir)
    assert (batch.round, len(batch.samples), batch.class_names) == (0, 6, CLASS_NAMES)
    assert {(sample.prediction, sample.score) for sample in batch.samples} == {(None, None)}

    assert len(run(run_dir, nobody_knows)) == 0  # round 0 is trained, and waits
    asked = find_batches(run_dir)[-1]
    assert (asked.round, len(asked.samples)) == (1, 4)
    assert all(sample.score is not None and "visits" in sample.parts for sample in asked.samples)
    records = to_the_end(run_dir, nobody_knows, knows=make_source())
    assert [record.labels for record in records] == [6, 10, 14]
    expected = [LABELS[index].item() for index in records[0].queried]
    assert records[0].queried_labels == expected


def test_people_who_know_are_as_good_as_held_back_labels(tmp_path: Path) -> None:
    from assl_lightning.loop.oracles import HeldBackLabels

    to_the_end(tmp_path / "asked")
    run(tmp_path / "held_back", oracle=HeldBackLabels(make_source().hidden_labels))
    different = list(differences_of_runs(tmp_path / "asked", tmp_path / "held_back"))
    assert all("to_label" in line or LEDGER in line for line in different), different


def test_images_are_shown_from_their_files_and_as_training_sees_them_where_there_are_none(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(POOL_SIZE):
        Image.new("RGB", (2000, 500), (number, 0, 0)).save(photos / f"{number:02d}.png")
    paths = tuple(photos / f"{number:02d}.png" for number in range(POOL_SIZE))
    (photos / "07.png").write_bytes(b"damaged since")
    for name, source in (("files", make_source(paths=paths)), ("none", make_source())):
        run(tmp_path / name, source, people={"longest_side": 1000}, settings=replace(SETTINGS, initial_labels=50))
        (batch,) = find_batches(tmp_path / name)
        for sample in batch.samples:
            with Image.open(batch.image_path(sample)) as image:
                is_there = name == "files" and sample.sample_id != "07.png"
                assert image.size == ((1000, 250) if is_there else (8, 8))
                assert image.format == ("JPEG" if is_there else "PNG")
        assert (batch.directory / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")
        assert batch.samples[0].path == (str(paths[batch.samples[0].index]) if name == "files" else None)


def test_a_skip_waits_a_round_and_a_bad_image_never_comes_again(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run(run_dir)
    first = label_all(run_dir, at_0=None, at_1="!")
    run(run_dir)
    skipped, bad = first.samples[0], first.samples[1]
    pool = pool_of(run_dir, 0)
    assert pool.labels[skipped.index] == -1
    assert pool.excluded.tolist() == [bad.index]
    assert len(pool.labelled) == 4
    for batch in find_batches(run_dir)[1:]:
        assert skipped.index not in [sample.index for sample in batch.samples]
    records = to_the_end(run_dir)
    asked = [index for record in records for index in record.queried]
    assert bad.index not in asked
    assert [record.labels for record in records] == [4, 8, 12]


def test_what_was_asked_for_in_vain_is_asked_for_again_only_where_nothing_else_is_left(tmp_path: Path) -> None:
    labels = torch.arange(14) % 3
    source = make_source(labels)
    settings = replace(SETTINGS, rounds=2, initial_labels=4, labels_per_round=5)
    run_dir = tmp_path / "run"
    run(run_dir, source, settings=settings)
    label_all(run_dir, source)
    run(run_dir, source, settings=settings)
    second = label_all(run_dir, source, at_0=None, at_1=None)
    run(run_dir, source, settings=settings)
    third = find_batches(run_dir)[-1]
    skipped = {sample.index for sample in second.samples[:2]}
    assert not skipped & {sample.index for sample in third.samples}  # five others are left
    shutil.rmtree(run_dir)
    settings = replace(settings, labels_per_round=5, initial_labels=3)
    for changes in ({}, {"at_0": None, "at_1": None, "at_2": None}):
        run(run_dir, make_source(labels[:13]), settings=settings)
        label_all(run_dir, source, **changes)
    run(run_dir, make_source(labels[:13]), settings=settings)
    second, third = find_batches(run_dir)[1:]
    rest = set(range(13)) - {sample.index for batch in find_batches(run_dir)[:2] for sample in batch.samples}
    assert len(rest) == 5
    assert {sample.index for sample in third.samples} == rest


def test_a_share_of_the_answers_is_enough_where_it_was_said(tmp_path: Path, messages: list[str]) -> None:
    run_dir = tmp_path / "run"
    run(run_dir, people={"min_fraction": 0.5})
    (batch,) = find_batches(run_dir)
    labels = truth(make_source())
    say(run_dir, {sample.sample_id: labels[sample.sample_id] for sample in batch.samples[:2]})
    run(run_dir, people={"min_fraction": 0.5})
    assert "2 of the 6 images" in messages
    assert "3 are enough" in messages
    assert not (run_dir / "round_00" / "pool.pt").exists()
    say(run_dir, {batch.samples[2].sample_id: labels[batch.samples[2].sample_id]})
    run(run_dir, people={"min_fraction": 0.5})
    assert pool_of(run_dir, 0).labelled.tolist() == sorted(sample.index for sample in batch.samples[:3])


def test_people_who_disagree_are_waited_for_or_overruled(tmp_path: Path, messages: list[str]) -> None:
    run_dir = tmp_path / "run"
    run(run_dir)
    batch = label_all(run_dir)
    disputed = batch.samples[2]
    others = [name for name in CLASS_NAMES if name != truth(make_source())[disputed.sample_id]]
    say(run_dir, {disputed.sample_id: others[0]}, annotator="Bo")
    assert run(run_dir) == []
    assert f"{disputed.sample_id} (Ann: {truth(make_source())[disputed.sample_id]}, Bo: {others[0]})" in messages
    assert "set oracle.conflicts=latest. Then" in messages, "two who differ are no majority, which would not help"
    assert f"Settle them on the page (python -m assl_lightning.label {run_dir} --settle opens it)" in messages
    assert not (run_dir / "round_00" / "pool.pt").exists()
    assert run(run_dir, people={"conflicts": "majority"}) == []
    assert "each is a tie, so that there is no majority. Settle them" in messages
    run(run_dir, people={"conflicts": "latest"})
    assert pool_of(run_dir, 0).labels[disputed.index] == CLASS_NAMES.index(others[0])


def test_where_more_say_one_thing_the_majority_is_proposed(tmp_path: Path, messages: list[str]) -> None:
    run_dir = tmp_path / "run"
    run(run_dir)
    batch = label_all(run_dir)
    label_all(run_dir)
    name = batch.samples[2].sample_id
    others = [one for one in CLASS_NAMES if one != truth(make_source())[name]]
    say(run_dir, {name: others[0]}, annotator="Bo")
    say(run_dir, {name: others[0]}, annotator="Cy")
    assert run(run_dir) == []
    assert "set oracle.conflicts=latest or majority. Then" in messages


def test_a_decision_for_a_label_that_is_no_class_is_refused_with_the_answer_to_take_back(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run(run_dir)
    name = label_all(run_dir).samples[0].sample_id
    (wrong,) = Ledger(run_dir / LEDGER).append([Answer(name, "label", "Cy", "by hand", 0, "zebra", decides=True)])
    say(run_dir, {name: "wide"}, "Di")
    expected = rf"the label 'zebra' of {name}, which is none of the run's classes, .*ingest RUN_DIR --undo {wrong.id}$"
    with pytest.raises(ValueError, match=expected):
        run(run_dir)


def test_a_decision_ends_the_waiting_and_holds(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run(run_dir)
    batch = label_all(run_dir)
    disputed = batch.samples[2]
    first, second = (name for name in CLASS_NAMES if name != truth(make_source())[disputed.sample_id])
    say(run_dir, {disputed.sample_id: first}, annotator="Bo")
    decision = Answer(disputed.sample_id, "label", "Di", "page", 0, label=second, decides=True)
    Ledger(run_dir / LEDGER).append([decision])
    say(run_dir, {disputed.sample_id: first}, annotator="Cy")
    run(run_dir)
    assert pool_of(run_dir, 0).labels[disputed.index] == CLASS_NAMES.index(second)


def test_corrections_and_late_answers_are_taken_over_by_the_next_round(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run(run_dir)
    first = label_all(run_dir, at_0=None, at_1="!")
    run(run_dir)
    late, not_bad, corrected, taken_back = first.samples[:4]
    labels = truth(make_source())
    wrong = next(name for name in CLASS_NAMES if name != labels[corrected.sample_id])
    ledger = Ledger(run_dir / LEDGER)
    ingest(
        run_dir,
        [
            Incoming("a", late.sample_id, "label", labels[late.sample_id], "Ann"),
            Incoming("a", corrected.sample_id, "label", wrong, "Ann"),
        ],
    )
    for sample in (not_bad, taken_back):
        (place,) = (one.id for one in ledger.active_answers() if one.sample_id == sample.sample_id)
        assert place is not None
        ledger.revoke([place], "Ann", "by hand")
    label_all(run_dir)
    run(run_dir)
    pool = pool_of(run_dir, 1)
    assert pool.labels[corrected.index] == CLASS_NAMES.index(wrong)
    assert pool.labelled_in_round[corrected.index] == 0
    assert pool.labelled_in_round[late.index] == 1
    assert pool.labelled_in_round[[not_bad.index, taken_back.index]].tolist() == [-1, -1]


def test_some_are_asked_for_again_and_their_second_answer_holds(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    people = {"relabel_fraction": 0.5}
    run(run_dir, people=people)
    assert not any(sample.again for sample in label_all(run_dir).samples)
    run(run_dir, people=people)
    second = find_batches(run_dir)[-1]
    again = [sample for sample in second.samples if sample.again]
    assert (len(second.samples), len(again)) == (6, 2)
    assert {sample.index for sample in again} <= {sample.index for sample in find_batches(run_dir)[0].samples}
    labels = truth(make_source())
    say(run_dir, {sample.sample_id: labels[sample.sample_id] for sample in second.samples if not sample.again})
    assert not (run_dir / "round_01" / "pool.pt").exists()
    assert len(run(run_dir, people=people)) == 0  # the two are waited for
    other = next(name for name in CLASS_NAMES if name != labels[again[0].sample_id])
    say(run_dir, {again[0].sample_id: other, again[1].sample_id: labels[again[1].sample_id]})
    run(run_dir, people=people)
    pool = pool_of(run_dir, 1)
    assert pool.labels[again[0].index] == CLASS_NAMES.index(other)
    assert len(pool.labelled) == 10
    third = find_batches(run_dir)[-1]
    assert not {sample.index for sample in third.samples if sample.again} & {sample.index for sample in again}


def test_an_audit_changes_labels_of_people_and_of_the_data_and_a_skip_leaves_the_datas(tmp_path: Path) -> None:
    run_dir, known = tmp_path / "run", LABELS[:POOL_SIZE].clone()
    known[5:] = -1
    source = make_source(known, pool_images=make_source().pool_images)
    of_data = {"given": True, "settings": replace(SETTINGS, initial_labels=0)}
    run(run_dir, source, **of_data)
    changed, skipped, of_people = 0, 1, find_batches(run_dir)[-1].samples[0].index
    label_all(run_dir)
    run(run_dir, source, **of_data)
    others = [(int(LABELS[sample]) + 1) % 3 for sample in (changed, skipped, of_people)]
    predicted = [CLASS_NAMES[label] for label in others]

    people = People(source, LabelsByPage())
    told = people.ask_again(next_audit(run_dir), 2, [changed, skipped, of_people], predicted)

    assert told == f"The command python -m assl_lightning.label {run_dir} --audit opens the page."
    (audit,) = find_audits(run_dir)
    names = [source.sample_ids[sample] for sample in (changed, skipped, of_people)]
    assert [sample.sample_id for sample in audit.samples] == names
    Ledger(run_dir / LEDGER).append(
        [
            Answer(names[0], "label", "Ann", "page", 2, predicted[0]),
            Answer(names[1], "skip", "Ann", "page", 2),
            Answer(names[2], "label", "Ann", "page", 2, predicted[2]),
        ]
    )
    assert unanswered(audit, Ledger(run_dir / LEDGER).active_answers()) == []
    label_all(run_dir)
    run(run_dir, source, **of_data)
    labels = pool_of(run_dir, 2).labels[[changed, skipped, of_people]].tolist()
    assert labels == [others[0], int(LABELS[skipped]), others[2]]


def test_without_the_answers_of_an_audit_the_datas_labels_come_back(tmp_path: Path) -> None:
    source = make_source()
    (tmp_path / "config.yaml").write_text("rounds: 3\n")
    people, ledger = People(source, ByHand()), Ledger(tmp_path / LEDGER)
    request = LabelRequest(1, torch.tensor([9]), (source.sample_ids[9],), directory=tmp_path / "round_02")
    people.answer(request)
    people.ask_again(next_audit(tmp_path), 2, [0, 1, 2], ["narrow"] * 3)
    names = source.sample_ids[:3]
    kinds: Any = ("label", "bad", "skip")
    given = [
        Answer(name, kind, "Ann", "page", 2, "narrow" if kind == "label" else None)
        for name, kind in zip(names, kinds, strict=True)
    ]
    kept = ledger.append(given)
    say(tmp_path, {source.sample_ids[9]: "wide"})

    def corrected() -> dict[int, int]:
        answers = people.answer(request)
        assert isinstance(answers, Answers)
        return dict(zip(answers.earlier.index.tolist(), answers.earlier.label.tolist(), strict=True))

    assert corrected() == {0: CLASS_NAMES.index("narrow"), 1: EXCLUDED, 2: int(LABELS[2])}
    ledger.revoke([one.id or 0 for one in kept], "Ann", "page")
    assert corrected() == {place: int(LABELS[place]) for place in range(3)}


def test_an_audit_takes_answers_after_the_run_has_gone_on(tmp_path: Path) -> None:
    run_dir, source = tmp_path / "run", make_source()
    run(run_dir)
    label_all(run_dir)
    run(run_dir)
    in_file, on_page = find_batches(run_dir)[0].samples[:2]
    index = [in_file.index, on_page.index]
    others = [CLASS_NAMES[(int(LABELS[place]) + 1) % 3] for place in index]
    directory = next_audit(run_dir)
    People(source, LabelsByPage()).ask_again(directory, 1, index, others)
    label_all(run_dir)
    run(run_dir)
    audit, ledger = read_batch(directory), Ledger(run_dir / LEDGER)
    assert unanswered(audit, ledger.active_answers()) == [in_file.sample_id, on_page.sample_id]

    (directory / "labels.csv").write_text(f"sample_id,label,annotator\n{in_file.sample_id},{others[0]},Ann\n")
    Session(audit, ledger).answer("Ann", {"sample_id": on_page.sample_id, "kind": "label", "label": others[1]})
    label_all(run_dir)
    run(run_dir)
    assert unanswered(audit, ledger.active_answers()) == []
    assert [CLASS_NAMES[label] for label in pool_of(run_dir, 2).labels[index].tolist()] == others


def test_labels_that_the_data_have_are_known_from_the_first_round_on(tmp_path: Path, messages: list[str]) -> None:
    labels = LABELS[:POOL_SIZE].clone()
    labels[5:] = -1
    source = make_source(labels, pool_images=make_source().pool_images)
    records = run(tmp_path / "run", source, given=True, settings=replace(SETTINGS, initial_labels=0))
    assert records == []
    assert pool_of(tmp_path / "run", 0).labelled.tolist() == [0, 1, 2, 3, 4]
    (batch,) = find_batches(tmp_path / "run")
    assert batch.round == 1
    nobody = replace(source, hidden_labels=torch.full_like(labels, -1))
    with pytest.raises(ValueError, match="initial_labels must be at least 1 where no label is known beforehand"):
        run(tmp_path / "none", nobody, given=True, settings=replace(SETTINGS, initial_labels=0))
    assert not (tmp_path / "none").exists()


class TestHoldOut:
    SETTINGS = replace(SETTINGS, hold_out=8)
    WITHOUT_TEST: ClassVar = {"test_images": torch.zeros(0, 1, 8, 8).byte(), "test_labels": torch.zeros(0).long()}

    def test_it_is_labelled_with_the_first_and_touched_by_nothing_else(self, tmp_path: Path) -> None:
        source = make_source(**self.WITHOUT_TEST)
        run_dir = tmp_path / "run"
        run(run_dir, source, settings=self.SETTINGS)
        batch = label_all(run_dir, source)
        assert len(batch.samples) == 8 + 6
        records = to_the_end(run_dir, source, settings=self.SETTINGS)
        for number in range(3):
            pool = pool_of(run_dir, number)
            assert len(pool.held_out) == 8
            assert (pool.labelled_in_round[pool.held_out] == HELD_OUT).all()
        held_out = set(pool.held_out.tolist())
        assert held_out < {sample.index for sample in batch.samples}
        assert [record.labels for record in records] == [6, 10, 14]
        assert [record.unlabelled for record in records] == [60 - 8 - 6, 60 - 8 - 10, 60 - 8 - 14]
        assert not held_out & {index for record in records for index in record.queried}
        # eighths alone: the test is made on these eight
        assert all((8 * record.test_accuracy_raw) == round(8 * record.test_accuracy_raw) for record in records)

    def test_its_labels_make_the_accuracy(self, tmp_path: Path) -> None:
        source = make_source(**self.WITHOUT_TEST)
        settings = replace(self.SETTINGS, rounds=0, steps_per_round=40, steps_per_epoch=None)
        accuracy = {}
        for shift in (0, 1):
            run_dir = tmp_path / str(shift)
            run(run_dir, source, settings=settings)
            (batch,) = find_batches(run_dir)
            for place, sample in enumerate(batch.samples):
                label = LABELS[sample.index].item() + shift * (place < 8)  # the hold-out's alone
                say(run_dir, {sample.sample_id: CLASS_NAMES[int(label) % 3]})
            (record,) = run(run_dir, source, settings=settings)
            accuracy[shift] = record.test_accuracy_raw
        assert accuracy[0] > 0.5  # of stripes that forty steps can tell apart
        assert accuracy[1] <= 1 - accuracy[0]

    def test_a_data_set_has_a_test_set_or_a_hold_out(self, tmp_path: Path) -> None:
        with pytest.raises(
            ValueError, match="hold_out must be 0 where the data have a test set, here of 30 images; got 8"
        ):
            run(tmp_path / "run", settings=self.SETTINGS)
        with pytest.raises(ValueError, match="there must be a test set"):
            run(tmp_path / "run", make_source(**self.WITHOUT_TEST))
        assert not (tmp_path / "run").exists()

    def test_nothing_makes_it_train(self, tmp_path: Path) -> None:
        """Whether it was a bad image that turned out to be none, or one that was gone and came back."""
        source, run_dir = make_source(**self.WITHOUT_TEST), tmp_path / "run"
        run(run_dir, source, settings=self.SETTINGS)
        bad, gone = label_all(run_dir, source, at_0="!").samples[:2]
        run(run_dir, source, settings=self.SETTINGS)
        label_all(run_dir, source)
        run(run_dir, replace(source, absent=torch.tensor([gone.index])), settings=self.SETTINGS)
        pool = pool_of(run_dir, 1)
        assert len(pool.held_out) == 6
        assert pool.labelled_in_round[[bad.index, gone.index]].tolist() == [HELD_OUT, HELD_OUT]
        ledger = Ledger(run_dir / LEDGER)
        ledger.revoke([one.id for one in ledger.active_answers() if one.kind == "bad" and one.id], "Ann", "undo")
        say(run_dir, {bad.sample_id: truth(source)[bad.sample_id]})
        label_all(run_dir, source)
        run(run_dir, source, settings=self.SETTINGS)
        pool = pool_of(run_dir, 2)
        assert len(pool.held_out) == 8
        assert not {bad.index, gone.index} & set(pool.labelled.tolist())

    def test_skipped_and_bad_images_are_not_tested_with(self, tmp_path: Path) -> None:
        source = make_source(**self.WITHOUT_TEST)
        run_dir = tmp_path / "run"
        run(run_dir, source, settings=self.SETTINGS)
        batch = label_all(run_dir, source, at_0=None, at_1="!")
        run(run_dir, source, settings=self.SETTINGS)
        pool = pool_of(run_dir, 0)
        assert pool.held_out.tolist() == sorted(sample.index for sample in batch.samples[2:8])
        assert pool.labelled_in_round[batch.samples[1].index] == HELD_OUT  # and never comes to train


def test_a_cold_start_asks_for_images_that_lie_apart(tmp_path: Path) -> None:
    images = make_source().pool_images[torch.arange(POOL_SIZE)]
    images[:57] = images[0]  # all alike, but for three
    source = make_source(pool_images=images)
    asked = {}
    for name in ("random", "kmeans_plus_plus"):
        settings: Any = replace(SETTINGS, initial_acquisition=name, initial_labels=4)
        for again in ("", "_again"):
            run(tmp_path / f"{name}{again}", source, settings=settings)
            (batch,) = find_batches(tmp_path / f"{name}{again}")
            asked[name + again] = [sample.index for sample in batch.samples]
        assert asked[name] == asked[name + "_again"]
    assert {57, 58, 59} < set(asked["kmeans_plus_plus"])
    assert not {57, 58, 59} < set(asked["random"])


def test_a_batch_of_another_request_is_not_taken(tmp_path: Path) -> None:
    run(tmp_path / "one")
    run(tmp_path / "two", settings=replace(SETTINGS, seed=1))
    shutil.rmtree(tmp_path / "one" / "round_00" / "to_label")
    shutil.copytree(tmp_path / "two" / "round_00" / "to_label", tmp_path / "one" / "round_00" / "to_label")
    with pytest.raises(ValueError, match="asks for other images than this round does"):
        run(tmp_path / "one")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"conflicts": "first"}, "conflicts must be one of error, latest, majority; got 'first'"),
        ({"min_fraction": 0}, "min_fraction must be in"),
        ({"min_fraction": True}, "min_fraction must be in"),
        ({"min_fraction": float("nan")}, "min_fraction must be in"),
        ({"relabel_fraction": -0.1}, "relabel_fraction must be at least 0"),
        ({"longest_side": 8}, "longest_side must be at least 16"),
        ({"notify": " "}, "notify must be a shell command in one text, or null; got ' '"),
        ({"notify": ["mail", "ann"]}, "notify must be a shell command in one text, or null; got"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        People(make_source(), ByHand(), **arguments)


def test_people_are_told_of_each_batch_once_and_a_command_that_fails_ends_nothing(
    tmp_path: Path, messages: list[str]
) -> None:
    run_dir, told = tmp_path / "run", tmp_path / "told"
    people = {"notify": f'echo "$ASSL_BATCH" >> {told}; exit 5'}
    for number in (0, 1):
        run(run_dir, people=people)
        run(run_dir, people=people)
        expected = [str(run_dir / f"round_{before:02d}" / "to_label") for before in range(number + 1)]
        assert told.read_text().splitlines() == expected
        assert "oracle.notify failed: the command ended with exit code 5; the run goes on" in messages
        label_all(run_dir)
        if number == 0:
            run(run_dir, people={"notify": None})  # the round trains, and its batch is told of by the next call
    assert len(run(run_dir, people=people)) == 1


def test_while_it_waits_the_state_says_so_and_the_directory_stands(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run(run_dir)
    assert RunDirectory(run_dir).pool_on_disk() is not None
    assert read_batch(run_dir / "round_00" / "to_label").is_open
    label_all(run_dir)
    run(run_dir)
    assert RunDirectory(run_dir).read_state(0)[0] == "waiting"
    assert not read_batch(run_dir / "round_00" / "to_label").is_open


class Killed(BaseException):
    """The process is dead."""


def test_a_kill_while_a_batch_is_written_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dies)
        with pytest.raises(Killed):
            run(tmp_path / "run")
    assert (tmp_path / "run" / "round_00" / ".to_label.tmp" / "images").exists()
    run(tmp_path / "run")
    assert len(label_all(tmp_path / "run").samples) == 6
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_kill_as_a_run_is_extended_loses_no_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The round that was the last has its line already, which is without a query."""
    run_dir, short = tmp_path / "run", replace(SETTINGS, rounds=0)
    run(run_dir, settings=short)
    label_all(run_dir)
    run(run_dir, settings=short)
    longer = replace(SETTINGS, rounds=1)
    run(run_dir, settings=longer)
    known = RunDirectory(run_dir).pool_on_disk()
    assert known is not None
    assert known.between_rounds, "images may come and go"
    batch = label_all(run_dir)

    def dies(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "commit", dies)
        with pytest.raises(Killed):
            run(run_dir, settings=longer)
    records = run(run_dir, settings=longer)
    assert records[0].queried == [sample.index for sample in batch.samples]
    assert len(records) == 2


def test_images_that_go_and_break_are_not_shown_under_a_name(tmp_path: Path) -> None:
    """Neither what was to be asked for, as a kill came before the batch, nor what is asked for once more."""
    run_dir, people = tmp_path / "run", {"relabel_fraction": 1.5}
    run(run_dir, people=people)
    first = label_all(run_dir)
    run(run_dir, people=people)
    second = find_batches(run_dir)[-1]
    shutil.rmtree(second.directory)  # as if it had not been written
    gone, broken = (torch.tensor([batch.samples[0].index]) for batch in (second, first))
    run(run_dir, make_source(absent=gone, unreadable=broken), people=people)
    written = find_batches(run_dir)[-1]
    shown = [sample.index for sample in written.samples]
    assert int(gone) not in shown
    assert int(broken) not in shown
    assert [sample.index for sample in second.samples[1:4]] == shown[:3]
    assert len(shown) == 3 + 5
    label_all(run_dir)
    run(run_dir, make_source(absent=gone, unreadable=broken), people=people)
    assert pool_of(run_dir, 1).excluded.tolist() == sorted([int(gone), int(broken)])


def test_names_are_noted_only_where_they_are_those_of_the_run(tmp_path: Path) -> None:
    """A run of before there were names, to whose images one came: its labels by index would be those of others."""
    run_dir = tmp_path / "run"
    run(run_dir)
    label_all(run_dir)
    run(run_dir)
    names = (run_dir / "samples.csv").read_bytes()
    (run_dir / "samples.csv").unlink()
    shifted = tuple(f"{number:02d}.png" for number in range(-1, POOL_SIZE))
    more = make_source(torch.arange(POOL_SIZE + 1) % 3, sample_ids=shifted)
    with pytest.raises(ValueError, match="with other names than this pool's, or in another order"):
        run(run_dir, more)
    assert not (run_dir / "samples.csv").exists()
    run(run_dir)
    assert (run_dir / "samples.csv").read_bytes() == names
    with pytest.raises(ValueError, match="has other samples at the indices of the 60 that it knows; where another pro"):
        run(run_dir, more)
    assert (run_dir / "samples.csv").read_bytes() == names


def test_a_request_of_which_all_images_are_gone_asks_nobody(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run(run_dir)
    label_all(run_dir)
    run(run_dir)
    batch = find_batches(run_dir)[-1]
    shutil.rmtree(batch.directory)
    absent = torch.tensor(sorted(sample.index for sample in batch.samples))
    run(run_dir, make_source(absent=absent))
    assert [one.round for one in find_batches(run_dir)] == [0, 2]
    assert pool_of(run_dir, 1).excluded.tolist() == absent.tolist()


def test_the_first_request_stays_while_images_come_and_go(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run(run_dir)
    asked = find_batches(run_dir)[0]
    absent = torch.tensor([asked.samples[0].index])
    labels = torch.arange(POOL_SIZE + 1) % 3
    label_all(run_dir)
    run(run_dir, make_source(labels, absent=absent))
    pool = pool_of(run_dir, 0, POOL_SIZE + 1)
    assert pool.labelled.tolist() == sorted(sample.index for sample in asked.samples[1:])
    assert pool.excluded.tolist() == absent.tolist()
    assert POOL_SIZE in pool.unlabelled


def test_a_round_asks_for_what_is_left_and_says_where_nothing_is(tmp_path: Path) -> None:
    run_dir, labels = tmp_path / "run", torch.arange(14) % 3
    arguments: dict[str, Any] = {"source": make_source(labels), "settings": replace(SETTINGS, labels_per_round=4)}
    run(run_dir, **arguments)
    label_all(run_dir, make_source(labels))
    run(run_dir, **arguments)
    asked = [sample.index for batch in find_batches(run_dir) for sample in batch.samples]
    rest = [index for index in range(14) if index not in asked]
    label_all(run_dir, make_source(labels))
    run(run_dir, **arguments | {"source": make_source(labels, absent=torch.tensor(rest[:3]))})
    last = find_batches(run_dir)[-1]
    assert [sample.index for sample in last.samples] == rest[3:]

    label_all(run_dir, make_source(labels))
    shutil.rmtree(run_dir / "round_01" / "to_label")
    shutil.rmtree(run_dir / "round_02")
    shutil.copytree(run_dir, tmp_path / "other")
    state = torch.load(run_dir / "round_01" / "pool.pt", weights_only=True)
    state["labelled_in_round"][rest[3:]], state["labels"][rest[3:]] = -2, -1
    torch.save(state, run_dir / "round_01" / "pool.pt")
    (run_dir / "round_01" / "state.json").unlink()
    with pytest.raises(ValueError, match="round 1 has nothing to ask for: all of the pool's 14 samples"):
        run(run_dir, **arguments)


def test_a_batch_that_numbers_its_images_otherwise_is_refused(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run(run_dir)
    batch = label_all(run_dir)
    run(run_dir)
    path = batch.directory / "batch.json"
    content = json.loads(path.read_text())
    content["samples"][0]["index"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"has {batch.samples[0].sample_id} as image {batch.samples[0].index + 1}, wh"):
        run(run_dir)


def test_what_was_skipped_long_ago_is_asked_again_in_earnest(tmp_path: Path) -> None:
    labels = torch.arange(13) % 3
    source, settings = make_source(labels), replace(SETTINGS, initial_labels=3, labels_per_round=5)
    run_dir = tmp_path / "run"
    run(run_dir, source, settings=settings)
    label_all(run_dir, source, at_0=None, at_1=None)
    for _ in range(2):
        run(run_dir, source, settings=settings)
        label_all(run_dir, source) if len(find_batches(run_dir)) == 2 else None
    (last,) = (batch for batch in find_batches(run_dir) if batch.round == 2)
    skipped = {sample.index for sample in find_batches(run_dir)[0].samples[:2]}
    assert len(skipped & {sample.index for sample in last.samples}) >= 2, "nothing else is left"
    assert len(unanswered(last, Ledger(run_dir / LEDGER).active_answers())) == 5
    ingest(run_dir, [Incoming("again.csv", source.sample_ids[index], "skip", None, "Ann") for index in skipped])
    assert len(unanswered(last, Ledger(run_dir / LEDGER).active_answers())) == 3


def fill_in(batch: LabelBatch, count: int) -> bytes:
    """The truth in the first rows of the batch's table, where it lies; the table as it is then."""
    table, labels = batch.directory / "to_label.csv", truth(make_source())
    header, *lines = table.read_bytes().decode().split("\r\n")
    names = [sample.sample_id for sample in batch.samples]
    filled = [line.replace(f"{name},", f"{name},{labels[name]}", 1) for name, line in zip(names, lines, strict=False)]
    table.write_bytes("\r\n".join([header, *filled[:count], *lines[count:]]).encode())
    return table.read_bytes()


@pytest.mark.parametrize("tool", [LabelsByFile(), LabelsByPage(), ByHand()], ids=lambda tool: type(tool).__name__)
def test_the_table_that_is_filled_in_where_it_lies_is_taken(tmp_path: Path, messages: list[str], tool: Any) -> None:
    run_dir = tmp_path / "run"
    run(run_dir, tool=tool)
    (batch,) = find_batches(run_dir)
    table = batch.directory / "to_label.csv"
    untouched = table.read_bytes()
    typed = fill_in(batch, 2)
    run(run_dir, tool=tool)
    assert "2 of the 6 images" in messages
    assert table.read_bytes() == typed
    table.write_bytes(untouched)
    typed = fill_in(batch, 6)
    run(run_dir, tool=tool)
    pool = pool_of(run_dir, 0)
    assert len(pool.labelled) == 6
    assert (pool.labels[pool.labelled] == LABELS[pool.labelled]).all()
    assert table.read_bytes() == typed
    assert {answer.source.partition(",")[0] for answer in Ledger(run_dir / LEDGER).active_answers()} == {"to_label.csv"}


def test_people_who_contradict_each_other_in_a_file_are_waited_for(tmp_path: Path, messages: list[str]) -> None:
    run_dir = tmp_path / "run"
    run(run_dir, tool=LabelsByFile())
    (batch,) = find_batches(run_dir)
    fill_in(batch, 6)
    name = batch.samples[0].sample_id
    other = next(one for one in CLASS_NAMES if one != truth(make_source())[name])
    (batch.directory / "labels.csv").write_text(f"sample_id,label,annotator\n{name},{other},Bo\n")
    assert run(run_dir, tool=LabelsByFile()) == []
    assert f"waiting for people to agree about 1 of the 6 images in {batch.directory}: {name} (" in messages
    assert f"(Bo: {other}, no name: {truth(make_source())[name]})" in messages, "the table names nobody"


def test_the_same_line_of_another_rounds_file_is_another_answer(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    arguments: dict[str, Any] = {"tool": LabelsByFile(), "people": {"relabel_fraction": 0.25}}

    def write(batch: LabelBatch, names: Sequence[str]) -> None:
        labels = truth(make_source())
        lines = [f"{name},{labels[name]}" for name in names]
        (batch.directory / "labels.csv").write_text("\n".join(["sample_id,label", *lines]))

    run(run_dir, **arguments)
    first = find_batches(run_dir)[0]
    write(first, [sample.sample_id for sample in first.samples])
    run(run_dir, **arguments)
    second = find_batches(run_dir)[-1]
    (again,) = (sample.sample_id for sample in second.samples if sample.again)
    place = [sample.sample_id for sample in first.samples].index(again)
    names = [sample.sample_id for sample in second.samples if not sample.again]
    write(second, [*names[:place], again, *names[place:]])  # on the line on which it was
    run(run_dir, **arguments)
    assert (run_dir / "round_01" / "pool.pt").exists(), "the second opinion is there"


@pytest.mark.parametrize(("share", "size", "needed"), [(0.07, 100, 7), (0.55, 100, 55), (0.5, 5, 3), (1.0, 3, 3)])
def test_a_share_is_counted_as_people_count(tmp_path: Path, share: float, size: int, needed: int) -> None:
    run(tmp_path / "run")
    (batch,) = find_batches(tmp_path / "run")
    assert replace(batch, samples=batch.samples[:1] * size).needed(share) == needed


@pytest.mark.parametrize("label", ["wide", " wide "])
def test_what_was_taken_back_is_not_taken_again_from_a_file_that_still_says_it(tmp_path: Path, label: str) -> None:
    class Said(ByHand):
        def collect(self, batch: LabelBatch) -> Sequence[Incoming]:
            return [Incoming("labels.csv, line 2", batch.samples[0].sample_id, "label", label)]

    run_dir = tmp_path / "run"
    run(run_dir, tool=Said())
    ledger = Ledger(run_dir / LEDGER)
    (answer,) = ledger.active_answers()
    run(run_dir, tool=Said())
    assert ledger.active_answers() == [answer]  # once
    assert answer.id is not None
    ledger.revoke([answer.id], "Ann", "undo")
    run(run_dir, tool=Said())
    assert ledger.active_answers() == []


def test_a_run_that_ends_early_waits_for_nobody_and_takes_its_batch_up_again(
    tmp_path: Path, messages: list[str]
) -> None:
    run_dir, shorter = tmp_path / "run", replace(SETTINGS, rounds=1)
    to_the_end(tmp_path / "long")
    for _ in range(3):
        run(run_dir)
        batch = label_all(run_dir)
    assert (batch.round, batch.is_open) == (2, True)
    Ledger(run_dir / LEDGER).revoke([Ledger(run_dir / LEDGER).active_answers()[-1].id or 0], "Ann", "undo")
    ended = run(run_dir, settings=shorter)
    assert [record.labels for record in ended] == [6, 10]
    assert "rounds was 2, now 1: the run ends early; rounds=2 goes on with it" in messages
    assert ended[-1].queried == []
    assert not read_batch(batch.directory).is_open
    with pytest.raises(ValueError, match="waits for no labels"):
        waiting_batch(run_dir)
    assert (run_dir / "round_01" / "final.ckpt").exists()
    assert run(run_dir, settings=shorter) == ended

    run(run_dir)  # three of its four samples have an answer
    assert "waiting for labels: 3 of the 4 images" in messages
    assert waiting_batch(run_dir) == batch
    label_all(run_dir)
    run(run_dir)
    assert [record.queried for record in RunDirectory(run_dir).records()] == [
        record.queried for record in RunDirectory(tmp_path / "long").records()
    ]


def test_people_need_a_directory_with_the_images() -> None:
    people = People(make_source(), ByHand())
    with pytest.raises(ValueError, match="people need a directory to find the images in; give the request one"):
        people.answer(LabelRequest(0, torch.tensor([3]), ("03.png",)))
