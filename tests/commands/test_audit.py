"""`python -m assl_lightning.audit` on a real run that people label."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from assl_lightning.base.run_files import LEDGER, POOL, QUERIED_PROBABILITIES, TO_LABEL
from assl_lightning.commands import messages
from assl_lightning.commands.asking_again import Asking
from assl_lightning.commands.audit import main
from assl_lightning.commands.auditing import audit
from assl_lightning.commands.classes import main as change_classes
from assl_lightning.commands.ingest import main as ingest
from assl_lightning.commands.label import main as label
from assl_lightning.commands.out_of_round import judge_new, judge_queried, judge_trained
from assl_lightning.commands.predicting import RunPredictor
from assl_lightning.commands.status import main as status
from assl_lightning.commands.train import main as train
from assl_lightning.data.answers import Answer, resolve
from assl_lightning.people.batch import find_audits, find_batches, read_batch
from assl_lightning.people.ledger import Ledger
from tests.commands.checks import assert_refused
from tests.commands.finished_run import RUN_DIR as OF_A_DATA_SET

pytestmark = pytest.mark.e2e
pytest.importorskip("cleanlab")
pytest.importorskip("imagehash")

COLOURS = {"blue": (40, 60, 200), "red": (200, 50, 40), "green": (50, 190, 60)}
COUNT = 96
RUN = [
    *("data=folder", "data.root=photos", "data.image_size=[16,16]", "data.source.class_names=[blue,red,green]"),
    *("oracle=file", "hold_out=30", "initial_labels=12", "labels_per_round=8", "rounds=2", "warm_up=none"),
    *("steps_per_round=60", "algorithm.batch_size=8", "trainer.accelerator=cpu", "network.width=4"),
    *("run_dir=run", "name=photos", "seed=0"),
]
COPY, BLURRED, EMPTY = "copy.png", "blurred.png", "empty.png"


class Killed(BaseException):
    """Ends the process, as far as its files go."""


def colour_of(name: str) -> str:
    """The true class is in the name: "017 red.png"; the odd images are of any."""
    return Path(name).stem.split()[-1] if " " in name else "blue"


def answer_the_batch(wrong: dict[int, str]) -> list[str]:
    """Fill in the newest batch with the truth, but for the answers at some places of it; return its names."""
    batch = find_batches(Path("run"))[-1]
    names = [sample.sample_id for sample in batch.samples]
    answers = [wrong.get(place, colour_of(name)) for place, name in enumerate(names)]
    rows = "".join(f"{name},{answer}\n" for name, answer in zip(names, answers, strict=True))
    (batch.directory / "labels.csv").write_text(f"sample_id,label\n{rows}")
    return names


def another(name: str) -> str:
    names = list(COLOURS)
    return names[(names.index(colour_of(name)) + 1) % len(names)]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a run that waits for the labels of its last round; four of its labels are wrong."""
    root = tmp_path_factory.mktemp("audited")
    (root / "photos").mkdir()
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        name = list(COLOURS)[number % 3]
        texture = generator.normal(0, 25, (8, 8, 1)).repeat(4, 0).repeat(4, 1)
        pixels = (np.array(COLOURS[name]) + texture).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "photos" / f"{number:03} {name}.png")
    with Image.open(root / "photos" / "003 blue.png") as image:
        small = image.resize((30, 30))
        small.save(root / "photos" / COPY)
        image.filter(ImageFilter.GaussianBlur(9)).save(root / "photos" / BLURRED)
    Image.new("RGB", (20, 20), (40, 60, 200)).save(root / "photos" / EMPTY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(messages, "set_up_messages", lambda: None)
        assert train(RUN) == 0
        names = [sample.sample_id for sample in find_batches(Path("run"))[-1].samples]
        answer_the_batch({place: another(names[place]) for place in (2, 11, 35)})  # two held out, one initial
        assert train(RUN) == 0
        names = [sample.sample_id for sample in find_batches(Path("run"))[-1].samples]
        answer_the_batch({1: another(names[1])})
        assert train(RUN) == 0
    return root


@pytest.fixture
def run(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of a copy of that run, in the working directory."""
    shutil.copytree(labelled, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    for command in ("audit", "predict"):
        monkeypatch.setattr(f"assl_lightning.commands.{command}.set_up_messages", lambda: None)
    return Path("run")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def wrong_names(run: Path) -> set[str]:
    found = resolve(Ledger(run / LEDGER).active_answers(), "error")
    return {name for name, answer in found.items() if answer.label != colour_of(name)}


def test_wrong_labels_copies_and_odd_images_are_found_and_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0

    rows = rows_of(run / "audit.csv")
    of_kind = {kind: [row for row in rows if row["finding"] == kind] for kind in {row["finding"] for row in rows}}
    suspects = {row["sample_id"]: row for row in of_kind["label"]}
    wrong = wrong_names(run)
    assert len(wrong) == 4
    assert len(wrong & suspects.keys()) >= 3
    held_out = {sample.sample_id for sample in find_batches(run)[0].samples[:30]}
    for name in held_out & wrong & suspects.keys():
        row = suspects[name]
        assert (row["part"], row["predicted_class"], row["judged_by"]) == ("hold-out", colour_of(name), "round 1")
        assert (row["label"], Path(row["path"]).name) == (another(name), name)
    scores = [float(row["score"]) for row in of_kind["label"]]
    assert scores == sorted(scores)

    copies = {row["sample_id"]: row["other_image"] for row in [*of_kind["copy"], *of_kind.get("copy_in_test", [])]}
    assert "003 blue.png" in (copies.get(COPY), *(name for name, other in copies.items() if other == COPY))
    assert [row["sample_id"] for row in of_kind["empty"]] == [EMPTY]
    assert BLURRED in [row["sample_id"] for row in of_kind["blurred"]]

    page = (run / "audit.html").read_text()
    assert page.count("<img ") == len(rows) + len(copies)
    assert all(row["sample_id"] in page for row in rows)
    out = capsys.readouterr().out
    assert f"{COUNT + 3} images of the pool: run/audit.csv, run/audit.html\n" in out
    assert f"labels that are probably wrong: {len(suspects)}\n" in out
    assert "of 30 held out, or given since the newest training, by the newest network" in out
    assert "of 8 that rounds asked for, by their networks and by the newest (some class has fewer than 5" in out
    assert "to ask people once more: python -m assl_lightning.audit run --ask\n" in out


def test_no_network_judges_a_label_that_it_was_trained_on_but_where_it_is_said(run: Path) -> None:
    predictor = RunPredictor(run)
    new, queried, trained = judge_new(predictor), judge_queried(predictor), judge_trained(predictor)

    assert len(new) == 30
    assert set(new.round.tolist()) == {1}
    recorded = torch.load(run / "round_00" / QUERIED_PROBABILITIES, weights_only=True)
    assert queried.index.tolist() == sorted(recorded["index"].tolist())
    assert set(queried.round.tolist()) == {0}
    rows = [recorded["index"].tolist().index(sample) for sample in queried.index.tolist()]
    torch.testing.assert_close(queried.probabilities, recorded["probabilities"][rows].double())
    torch.testing.assert_close(new.probabilities.sum(1), torch.ones(30, dtype=torch.float64))
    assert len(trained) == 12 + 8
    waiting = torch.load(run / "round_01" / QUERIED_PROBABILITIES, weights_only=True)["index"]
    Ledger(run / LEDGER).append(
        [Answer(predictor.source.sample_ids[int(waiting[0])], "label", "Ann", "page", 2, "red")]
    )
    assert int(waiting[0]) in judge_new(RunPredictor(run)).index.tolist()


def test_what_people_answer_to_an_audit_becomes_the_label_and_is_trained_on(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run), "--ask"]) == 0

    (batch,) = find_audits(run)
    asked = {sample.sample_id for sample in batch.samples}
    suspects = {row["sample_id"] for row in rows_of(run / "audit.csv") if row["finding"] == "label"}
    assert asked >= suspects
    assert batch.is_open
    assert all(sample.again and sample.prediction for sample in batch.samples)
    assert len(list((batch.directory / "images").iterdir())) == len(asked)
    assert f"asked once more: {len(asked)} images in run/audit_01/to_label" in capsys.readouterr().out

    assert main([str(run), "--ask"]) == 0  # nothing is asked twice
    out = capsys.readouterr().out
    assert "there is nothing new to ask people about\n" in out
    assert f"audit 1 still waits for {len(asked)} answers" in out
    assert len(find_audits(run)) == 1
    assert status([str(run)]) == 0
    assert f"audit      0 of the {len(asked)} images in run/audit_01/to_label are answered" in capsys.readouterr().out

    corrected = sorted(asked & wrong_names(run))
    kept = [name for name in sorted(asked) if name not in corrected]
    answers = "".join(f"{name},{colour_of(name)}\n" for name in (*corrected, *kept))
    table = batch.directory / "labels.csv"
    table.write_text(f"sample_id,label\n{answers}")
    assert ingest([str(run), str(table)]) == 0
    assert f"audit 1: all {len(asked)} images have an answer" in capsys.readouterr().out
    assert status([str(run)]) == 0
    assert "audit " not in capsys.readouterr().out
    assert not wrong_names(run) & asked
    predictor = RunPredictor(run)
    labels = dict(zip(predictor.source.sample_ids, predictor.pool.labels.tolist(), strict=True))
    assert all(predictor.source.class_names[labels[name]] == colour_of(name) for name in asked)

    answer_the_batch({})
    assert train(RUN) == 0
    state = torch.load(run / "round_02" / POOL, weights_only=True)["labels"].tolist()
    index = {name: place for place, name in enumerate(predictor.source.sample_ids)}
    assert all(predictor.source.class_names[state[index[name]]] == colour_of(name) for name in asked)
    assert read_batch(batch.directory).is_open, "its answers may be corrected"
    assert ingest([str(run), str(table)]) == 0
    assert "audit 1" not in capsys.readouterr().out


def test_the_run_itself_takes_the_answers_that_lie_beside_an_audit(run: Path) -> None:
    assert main([str(run), "--ask", "--most", "2"]) == 0
    (batch,) = find_audits(run)
    assert len(batch.samples) == 2
    rows = "".join(f"{sample.sample_id},{colour_of(sample.sample_id)}\n" for sample in batch.samples)
    (batch.directory / "labels.csv").write_text(f"sample_id,label\n{rows}")
    answer_the_batch({})
    early = RunPredictor(run)
    found = audit(early, 4, lambda *_: None)

    assert train(RUN) == 0

    assert not wrong_names(run) & {sample.sample_id for sample in batch.samples}
    list(Asking(early).ask(found, None))  # the run has finished since; an audit may ask all the same
    assert [audit.round for audit in find_audits(run)] == [2, 3]
    assert label([str(run), "--audit", "--csv", "x.csv"]) == 0


def test_a_kill_while_the_batch_is_written_leaves_nothing_of_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(self: Path, target: Path) -> Path:
        if target.name == TO_LABEL:
            raise Killed
        return rename(self, target)

    rename = Path.rename
    monkeypatch.setattr(Path, "rename", die)
    with pytest.raises(Killed):
        main([str(run), "--ask"])
    monkeypatch.setattr(Path, "rename", rename)
    assert find_audits(run) == []
    before = Ledger(run / LEDGER).history()

    assert main([str(run), "--ask"]) == 0
    assert len(find_audits(run)) == 1
    assert Ledger(run / LEDGER).history() == before


def test_images_that_cannot_be_read_are_listed_and_the_others_audited(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = find_batches(run)[0].samples[0]
    Path("photos", sample.sample_id).unlink()
    Path("photos", EMPTY).write_bytes(b"no image")

    assert main([str(run)]) == 0

    lost = {row["sample_id"] for row in rows_of(run / "audit.csv") if row["finding"] == "unreadable"}
    assert lost == {sample.sample_id, EMPTY}
    assert "cannot be read, and were passed over: 2 (" in capsys.readouterr().out


def test_classes_that_were_merged_are_one(run: Path) -> None:
    assert change_classes([str(run), "--merge", "red,green=warm"]) == 0

    assert main([str(run)]) == 0

    rows = [row for row in rows_of(run / "audit.csv") if row["finding"] == "label"]
    assert {row["label"] for row in rows} | {row["predicted_class"] for row in rows} <= {"blue", "warm"}
    assert all(row["label"] != row["predicted_class"] for row in rows)
    queried = judge_queried(RunPredictor(run))
    torch.testing.assert_close(queried.probabilities.sum(1), torch.ones(8, dtype=torch.float64))
    assert queried.probabilities.shape == (8, 2)


def test_a_run_without_a_hold_out_and_without_records_says_what_it_judges_by(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in OF_A_DATA_SET.glob(f"round_*/{QUERIED_PROBABILITIES}"):
        path.unlink()  # as in a run of an earlier version
    assert main([str(OF_A_DATA_SET)]) == 0
    out = capsys.readouterr().out
    assert "of 16 that no earlier network has judged, by the newest, though it was trained on them\n" in out
    assert "that rounds asked for" not in out
    assert "empty: 120; blurred: 0\n" in out  # its images are of one colour


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["runs/run/seed_0", "--ask"], "--ask: must be of a run that asks people (oracle=page, file or label_studio)"),
        (["runs/run/seed_0", "--most", "3"], "--most: says of how many images people are asked; add --ask"),
        (["runs/run/seed_0", "--distance", "40"], "must be a whole number from 0 to 16; got '40'"),
        (["runs/run/seed_0", "--output", "none"], "--output none: there is no such directory; make it first"),
        (["runs/run/seed_0", "--device", "tpu9"], "--device tpu9: must be a device of torch that is there"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert_refused(main, arguments, line, place, capsys)


def test_a_run_that_has_trained_nothing_yet_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for checkpoint in OF_A_DATA_SET.glob("round_*/final.ckpt"):
        checkpoint.unlink()
    assert main([str(OF_A_DATA_SET)]) == 1
    assert "must have trained a network, but has no final.ckpt yet; go on with it" in capsys.readouterr().err
