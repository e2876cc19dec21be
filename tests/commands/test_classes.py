"""The command that renames and merges a run's classes, on a run that waits for labels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from assl_lightning.base.locking import held
from assl_lightning.base.run_files import LEDGER
from assl_lightning.commands.classes import main, split_pair
from assl_lightning.commands.ingest import main as ingest_main
from assl_lightning.commands.status import read_status
from assl_lightning.data.answers import Answer, Incoming
from assl_lightning.loop.class_history import run_classes
from assl_lightning.loop.records import read_config, write_config
from assl_lightning.people.batch import waiting_batch
from assl_lightning.people.judging import ingest
from assl_lightning.people.label_studio.tasks import LABEL_CONFIG, label_config
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.page.session import AnswerError, ClosedError, Session
from tests.commands.checks import assert_imports_nothing_heavy
from tests.people.batches import CLASSES, SAMPLE_IDS, apply_batch, make_batch


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Of a run that waits for its first labels, two of which are there."""
    batch = make_batch(tmp_path / "run", show_predictions=True)
    (batch.directory / LABEL_CONFIG).write_text(label_config(CLASSES))
    data = {"num_classes": 3, "source": {"class_names": list(CLASSES), "root": "photos"}}
    content = {"name": "castings", "rounds": 2, "data": data, "network": {"num_classes": 3}, "oracle": {"url": None}}
    write_config(batch.run_dir, content)
    ledger(batch.run_dir).append(
        [
            Answer(name, "label", "Ann", "page", 0, label=label)
            for name, label in zip(SAMPLE_IDS[:2], ("ok", "dent"), strict=True)
        ]
    )
    return batch.run_dir


def ledger(run_dir: Path) -> Ledger:
    return Ledger(run_dir / LEDGER)


def labels(run_dir: Path) -> list[str | None]:
    return [answer.label for answer in ledger(run_dir).active_answers()]


def names(run_dir: Path) -> tuple[str, ...]:
    classes = run_classes(run_dir)
    assert classes is not None
    return classes.names()


def change(run_dir: Path, *options: str) -> None:
    assert main([str(run_dir), *options]) == 0


def test_a_class_is_renamed_wherever_it_is_read_and_nowhere_where_it_was_given(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = (run_dir / "round_00/to_label/to_label.csv").read_text()
    change(run_dir, "--rename", "dent=bump")
    assert capsys.readouterr().out == (
        "dent renamed to bump\n"
        "  1 answer dent counts as bump\n"
        "  classes from round 0 on: ok, bump, scratch\n"
        "from now on the run's command has 'data.source.class_names=[ok,bump,scratch]' data.num_classes=3\n"
    )
    batch = waiting_batch(run_dir)
    assert batch.class_names == ("ok", "bump", "scratch")
    assert [sample.prediction for sample in batch.samples] == ["ok", "bump", "scratch", "ok"]
    assert json.loads((batch.directory / "batch.json").read_text())["class_names"] == ["ok", "bump", "scratch"]
    assert (batch.directory / LABEL_CONFIG).read_text() == label_config(("ok", "bump", "scratch"))
    assert (batch.directory / "to_label.csv").read_text() == table, "people may be filling it in"
    assert labels(run_dir) == ["ok", "bump"]
    assert [answer.label for answer, _ in ledger(run_dir).history()] == ["ok", "dent"]
    config = read_config(run_dir)
    assert config["data"]["source"]["class_names"] == ["ok", "bump", "scratch"]
    (note,) = config["history"]["changes"]
    assert note["changes"] == ["data.source.class_names was ['ok', 'dent', 'scratch'], now ['ok', 'bump', 'scratch']"]


def test_a_merge_ends_a_disagreement_and_taking_it_back_brings_it_back(run_dir: Path) -> None:
    ledger(run_dir).append([Answer(SAMPLE_IDS[1], "label", "Bo", "page", 0, label="scratch")])
    assert "people disagree about 1" in read_status(run_dir).answered
    change(run_dir, "--merge", "dent,scratch=damage")
    assert labels(run_dir) == ["ok", "damage", "damage"]
    assert "disagree" not in read_status(run_dir).answered
    assert (read_config(run_dir)["data"]["num_classes"], read_config(run_dir)["network"]["num_classes"]) == (2, 2)
    change(run_dir, "--undo")
    assert labels(run_dir) == ["ok", "dent", "scratch"]
    assert names(run_dir) == CLASSES
    assert read_config(run_dir)["network"]["num_classes"] == 3


def test_a_class_is_added_at_the_end_for_the_batch_that_waits_and_may_be_renamed_in_the_same_call(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run_dir, "--add", "crack", "--rename", "dent=bump")
    told = capsys.readouterr().out
    assert told.startswith("crack added\ndent renamed to bump\n")
    assert (
        "from now on the run's command has 'data.source.class_names=[ok,bump,scratch,crack]' data.num_classes=4" in told
    )
    assert names(run_dir) == waiting_batch(run_dir).class_names == ("ok", "bump", "scratch", "crack")
    config = read_config(run_dir)
    assert (config["data"]["num_classes"], config["network"]["num_classes"]) == (4, 4)
    assert labels(run_dir) == ["ok", "bump"]
    change(run_dir, "--add", "crack")
    assert capsys.readouterr().out.startswith("so already: crack\n")
    assert main([str(run_dir), "--add", "dent"]) == 1
    assert "dent was a class before, and answers with this name count as bump now" in capsys.readouterr().err


def test_several_changes_are_made_in_one_call_or_none(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run_dir), "--rename", "ok=good", "--merge", "dent,hole=damage"]) == 1
    assert capsys.readouterr().err == "error: 'hole' is no class; the classes are good, dent, scratch\n"
    assert names(run_dir) == CLASSES
    change(run_dir, "--rename", "ok=good", "--merge", "dent,scratch=damage")
    assert names(run_dir) == ("good", "damage")


def test_the_history_says_what_was_said_and_what_it_counts_as(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run_dir, "--rename", "dent=bump")
    capsys.readouterr()
    assert ingest_main([str(run_dir), "--history"]) == 0
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert "  ok  " in first
    assert "  dent (now bump)  " in second


def test_the_command_that_is_told_afterwards_asks_for_the_classes_as_they_are(run_dir: Path) -> None:
    typed = "python -m assl_lightning data=folder 'data.source.class_names=[ok,dent,scratch]' data.num_classes=3 name=a"
    write_config(run_dir, {**read_config(run_dir), "history": {"command": typed}})
    change(run_dir, "--rename", "dent=big bump")
    change(run_dir, "--merge", "big bump,scratch=damage")
    kept = "python -m assl_lightning data=folder name=a"
    assert read_status(run_dir).then == (
        f"give again {kept} 'data.source.class_names=[ok,damage]' data.num_classes=2, and the run goes on"
    )


def test_a_dry_run_says_the_same_and_writes_nothing(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    change(run_dir, "--rename", "dent=bump", "--dry-run")
    assert capsys.readouterr().out.endswith("this was a dry run: nothing was written\n")
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


def test_what_still_says_the_old_name_is_taken_for_the_new_one(run_dir: Path) -> None:
    session = Session(waiting_batch(run_dir), ledger(run_dir))
    change(run_dir, "--merge", "dent,scratch=damage")
    session.answer("Ann", {"sample_id": SAMPLE_IDS[2], "kind": "label", "label": "scratch"})  # a page loaded before
    assert session.refresh().class_names == ("ok", "damage")
    judgement = ingest(run_dir, [Incoming("labels.csv, line 2", SAMPLE_IDS[3], "label", "dent", "Ann")])
    assert [answer.label for answer in judgement.answers] == ["damage"]
    again = ingest(run_dir, [Incoming("labels.csv, line 2", SAMPLE_IDS[3], "label", "dent", "Ann")])
    assert again.answers == ()
    assert labels(run_dir) == ["ok", "damage", "damage", "damage"]


def test_a_line_with_the_old_name_whose_answer_was_taken_back_is_not_taken_again(run_dir: Path) -> None:
    line = Incoming("labels.csv, line 2", SAMPLE_IDS[3], "label", "dent", "Ann")
    change(run_dir, "--rename", "dent=bump")
    (answer,) = ingest(run_dir, [line]).answers
    assert main([str(run_dir), "--rename", "bump=damage"]) == 0
    ledger(run_dir).revoke([ledger(run_dir).active_answers()[-1].id or 0], "Ann", "undo")
    revoked = [answer for answer, revoked_by in ledger(run_dir).history(as_now=True) if revoked_by is not None]
    assert (answer.label, [one.label for one in revoked]) == ("bump", ["damage"])
    assert ingest(run_dir, [line], revoked=revoked).answers == ()
    assert len(ingest(run_dir, [line]).answers) == 1, "by hand it is taken"


def test_a_page_that_is_open_offers_the_classes_as_they_are_now(run_dir: Path) -> None:
    session = Session(waiting_batch(run_dir), ledger(run_dir))
    change(run_dir, "--rename", "dent=bump")
    kept = session.answer("Ann", {"sample_id": SAMPLE_IDS[2], "kind": "label", "label": "bump"})
    assert kept.label == "bump"
    assert [answer.label for answer in session.answers("Ann")] == ["ok", "bump", "bump"]


def test_a_class_that_is_added_on_the_page_is_that_of_the_run_and_of_every_page(run_dir: Path) -> None:
    first, second = (Session(waiting_batch(run_dir), ledger(run_dir)) for _ in range(2))
    assert first.takes_classes
    assert first.add_class("Ann", " crack ").class_names == (*CLASSES, "crack")
    assert names(run_dir) == second.refresh().class_names == (*CLASSES, "crack")
    assert second.answer("Bo", {"sample_id": "d.png", "kind": "label", "label": "crack"}).label == "crack"
    assert read_config(run_dir)["data"]["num_classes"] == 4
    for name, problem in (
        ("crack", "'crack' is a class already"),
        ("OK", "'ok' is a class already; choose it, or another name"),
        ("", "a class must be a name of 1 to 60 characters on one line; got ''"),
        ("a\nb", "on one line"),
        (7, "on one line; got 7"),
        ("x" * 61, "1 to 60 characters"),
    ):
        with pytest.raises(AnswerError, match=problem):
            first.add_class("Ann", name)
    with held(run_dir), pytest.raises(AnswerError, match="is in use by another process"):
        first.add_class("Ann", "rust")
    assert first.added == [("crack", "Ann")]
    apply_batch(first.batch)
    with pytest.raises(ClosedError):
        first.add_class("Ann", "rust")
    assert names(run_dir) == (*CLASSES, "crack")


def test_a_copy_of_a_batch_takes_no_classes(tmp_path: Path) -> None:
    session = Session(make_batch(tmp_path), ledger(tmp_path))
    assert not session.takes_classes
    with pytest.raises(AnswerError, match="classes are added where the run is"):
        session.add_class("Ann", "crack")


def test_a_merge_whose_own_name_was_answered_is_not_taken_back_before_these_are(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run_dir, "--merge", "dent,scratch=damage")
    ledger(run_dir).append([Answer(SAMPLE_IDS[2], "label", "Ann", "page", 0, label="damage")])
    assert main([str(run_dir), "--undo"]) == 1
    assert "answers with the label damage would have no class (1: 3); take them back first" in capsys.readouterr().err
    ledger(run_dir).revoke([3], "Ann", "undo")
    change(run_dir, "--undo")
    assert names(run_dir) == CLASSES


def test_all_answers_to_take_back_before_a_merge_is_are_in_the_printed_command(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run_dir, "--merge", "dent,scratch=damage")
    ledger(run_dir).append([Answer(SAMPLE_IDS[2], "label", f"P{n}", "page", 0, label="damage") for n in range(7)])
    assert main([str(run_dir), "--undo"]) == 1
    said = capsys.readouterr().err
    assert "(7: 3, 4, 5, 6, 7, and 2 more)" in said
    assert f"python -m assl_lightning.ingest {run_dir} --undo 3 4 5 6 7 8 9, and label" in said


def test_the_classes_and_their_changes_are_listed(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(run_dir)
    assert (
        capsys.readouterr().out
        == f"{run_dir}: 3 classes, ok, dent, scratch\n  from round 0 on: ok, dent, scratch at first\n"
    )
    change(run_dir, "--rename", "dent=bump")
    capsys.readouterr()
    change(run_dir)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("  from round 0 on: dent renamed to bump (20")
    assert lines[3] == "  answers with the label dent count as bump"
    assert "  classes    ok, bump, scratch (dent renamed to bump, from round 0 on)" in read_status(run_dir).lines()


def test_a_change_is_refused_while_a_round_trains_and_while_a_process_runs(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(run_dir):
        assert main([str(run_dir), "--rename", "dent=bump"]) == 1
    assert "is in use by another process" in capsys.readouterr().err
    apply_batch(waiting_batch(run_dir))
    assert main([str(run_dir), "--rename", "dent=bump"]) == 1
    assert (
        "does not wait for labels, and a round keeps the classes that it began with; go on" in capsys.readouterr().err
    )
    assert not (run_dir / "classes.json").exists()


@pytest.mark.e2e
def test_the_command_needs_neither_torch_nor_lightning(run_dir: Path) -> None:
    assert_imports_nothing_heavy("classes", str(run_dir), "--rename", "dent=bump")


def test_what_is_no_run_or_has_no_names_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--rename", "a=b"]) == 1
    assert "must be the directory of a run, but has no config.yaml" in capsys.readouterr().err
    write_config(tmp_path, {"data": {"source": {"root": "x"}}})
    assert main([str(tmp_path)]) == 1
    assert "has no data.source.class_names" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rename", "dent"], "'dent' must be OLD=NEW, or A,B=C to merge"),
        (["--rename", "dent="], "there must be names on both sides of a ="),
        (["--merge", ",dent=x"], "there must be names on both sides of a ="),
        (["--rename", "dent,ok=x"], "one class is renamed at a time; to make one of dent, ok, give --merge"),
        (["--undo", "--rename", "dent=x"], "give it without --add, --rename and --merge"),
        (["--add", " "], "class_names must be texts that are not empty"),
        (["--undo"], "no class was renamed or merged, so that there is nothing to take back"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    run_dir: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main([str(run_dir), *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_names_may_have_commas_and_equals_signs() -> None:
    assert split_pair('"a, b",c=d', ["c"]) == (("a, b", "c"), "d")
    assert split_pair("a=b=c=d", ["a=b"]) == (("a=b",), "c=d")


@pytest.mark.e2e
@pytest.mark.parametrize(
    "options", [["--merge", "dent,scratch=damage"], ["--rename", "dent=bump", "--rename", "ok=good"]]
)
def test_a_kill_at_any_write_leaves_the_classes_of_before_or_after_and_the_same_command_completes_them(
    run_dir: Path, options: list[str]
) -> None:
    command = [sys.executable, "-m", "tests.commands.classes_kills", str(run_dir), *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "")
    kills, changed = map(int, done.stdout.split())
    assert (kills, changed) == (8, 7), "before and after each of four files, of which the first is the change"
