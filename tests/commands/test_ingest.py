"""The command that takes labels back from a file, as people type it."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from assl_lightning.base.run_files import CONFIG, LEDGER, TO_LABEL, round_directory
from assl_lightning.commands.ingest import configured_conflicts, default_files, main
from assl_lightning.data.answers import Answer
from assl_lightning.people.batch import LabelBatch
from assl_lightning.people.ledger import Ledger
from tests.people.batches import apply_batch, make_batch
from tests.shell import run_python
from tests.unprivileged import read_only

DOCUMENT = (Path(__file__).parents[2] / "docs" / "labels_by_file.md").read_text()
COMMANDS = re.findall(r"^python -m assl_lightning\.ingest (.+)$", DOCUMENT, re.MULTILINE)
GOOD = "sample_id,label,status\n00123.png,ok,\nsub/b 1.png,,skip\nsub/ü.png,,bad\nd.png,,\n"


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelBatch:
    """A run that waits for the labels of four images, as `run` in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGNAME", "ann")
    Path("good.csv").write_text(GOOD)
    return make_batch(Path("run"))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command prints, which must succeed; or with `code=1` the error of one that must fail."""

    def run_command(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        returned = main(["run", *arguments])
        printed = capsys.readouterr()
        assert (returned, bool(printed.err), bool(printed.out)) == (code, bool(code), not code), printed
        return printed.err if code else printed.out

    return run_command


def standing() -> list[Answer]:
    return Ledger(Path("run", LEDGER)).active_answers()


NEXT = """\
to go on: the command that began it
to take answers back: python -m assl_lightning.ingest run --history lists them, --undo ID takes back
"""


def test_it_says_what_was_taken_what_is_missing_and_what_to_do_next(said: Callable[..., str]) -> None:
    taken = "good.csv: 3 answers, taken: 3 (1 × ok, 1 × (skip), 1 × (bad))\n"
    missing = "  round 0: 1 of 4 images have no answer yet\n"
    assert said("good.csv") == taken + missing + NEXT
    assert [(one.sample_id, one.kind, one.annotator, one.source) for one in standing()] == [
        ("00123.png", "label", "ann", "good.csv, line 2"),
        ("sub/b 1.png", "skip", "ann", "good.csv, line 3"),
        ("sub/ü.png", "bad", "ann", "good.csv, line 4"),
    ]
    known = "in the ledger already, and not written again (good.csv, line 2; good.csv, line 3; good.csv, line 4)\n"
    assert said("good.csv") == f"good.csv: 3 answers, taken: 0\n  3 answers are {known}{missing}{NEXT}"
    assert len(standing()) == 3


def test_a_dry_run_says_the_same_and_writes_nothing(said: Callable[..., str]) -> None:
    dry = said("good.csv", "--dry-run").splitlines()
    assert dry[0] == "good.csv: 3 answers, to be taken: 3 (1 × ok, 1 × (skip), 1 × (bad))"
    assert dry[-1] == "this was a dry run: nothing was written"
    assert not Path("run", LEDGER).exists()


def test_all_that_is_wrong_is_told_and_nothing_is_taken(said: Callable[..., str]) -> None:
    Path("bad.csv").write_text("sample_id,label\n123.png,ok\nd.png,OK\n00123.png,ok\n")
    assert said("bad.csv", code=1).splitlines() == [
        "error: bad.csv, line 2: '123.png' is no sample that was asked for (did you mean '00123.png'?)",
        "error: bad.csv, line 3: 'OK' is none of the classes (did you mean 'ok'? its letters are the same but for "
        "their case, which counts)",
        "2 errors; nothing was taken",
    ]
    assert not Path("run", LEDGER).exists()


def test_who_labelled_is_the_files_the_options_or_the_login_name(said: Callable[..., str]) -> None:
    Path("two.csv").write_text("sample_id,label,annotator\n00123.png,ok,Bo\nd.png,ok,\n")
    said("two.csv", "--annotator", " Cy ")
    assert [one.annotator for one in standing()] == ["Bo", "Cy"]
    for name in ("", " ", "\udcff"):
        assert "--annotator must be a name; got" in said("two.csv", "--annotator", name, code=1)


def test_a_login_without_a_name_needs_the_annotators(said: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", no_name)
    assert said("good.csv", code=1) == "error: the login has no name here; give the annotator's with --annotator NAME\n"
    said("good.csv", "--annotator", "Ann")


def test_an_encoding_is_taken_by_name(said: Callable[..., str]) -> None:
    Path("excel.csv").write_bytes("sample_id;label\r\nsub/ü.png;dent\r\n".encode("cp1252"))
    assert "excel.csv, line 2: the bytes must be UTF-8; line 2 has 0xfc." in said("excel.csv", code=1)
    said("excel.csv", "--encoding", "cp1252")
    assert [one.sample_id for one in standing()] == ["sub/ü.png"]


# --- policies --------------------------------------------------------------------------------------------------------


def contradiction(said: Callable[..., str], *options: str) -> int:
    """Ann says ok, Bo says dent; returns the exit code."""
    Path("ann.csv").write_text("sample_id,label\nd.png,ok\n")
    Path("bo.csv").write_text("sample_id,label\nd.png,dent\n")
    said("ann.csv", "--annotator", "Ann")
    return main(["run", "bo.csv", "--annotator", "Bo", *options])


def test_without_a_configuration_a_contradiction_is_an_error(
    said: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert contradiction(said) == 1
    assert "error: bo.csv, line 2: 'Bo' says 'dent' of 'd.png', but 'Ann' 'ok' (ann.csv" in capsys.readouterr().err
    assert contradiction(said, "--conflicts", "latest") == 0


def test_what_people_differ_about_is_said_with_the_command_that_settles_it(
    said: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    contradiction(said, "--conflicts", "latest")
    settles = "and the run waits until python -m assl_lightning.label run --settle settles that\nto go on: "
    assert f"people differ about 1 image, {settles}" in capsys.readouterr().out
    assert "people differ" not in said("bo.csv", "--annotator", "Ann"), "Ann has corrected herself"


def test_the_configuration_says_what_a_contradiction_is(said: Callable[..., str]) -> None:
    Path("run/config.yaml").write_text("oracle:\n  _target_: x\n  conflicts: majority\n")
    assert contradiction(said) == 0
    assert contradiction(said, "--conflicts", "error") == 0, "for it is there already"
    assert [(one.annotator, one.label) for one in standing()] == [("Ann", "ok"), ("Bo", "dent")]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("oracle: {conflicts: latest}", "latest"),
        ("oracle: {_target_: x}", "error"),
        ("oracle: held_back", "error"),
        ("name: x", "error"),
        (None, "error"),
    ],
)
def test_the_policy_is_the_configurations(config: str | None, expected: str) -> None:
    if config is not None:
        Path("run/config.yaml").write_text(config)
    assert configured_conflicts(Path("run")) == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            "oracle: {conflicts: vote}",
            "oracle.conflicts must be one of error, latest, majority; got 'vote'. Give it with",
        ),
        ("oracle: {conflicts: [1]}", "oracle.conflicts must be one of error, latest, majority; got [1]. Give it with"),
        ("oracle: [", "config.yaml cannot be read ("),
    ],
)
def test_a_configuration_that_is_wrong_is_one_line(said: Callable[..., str], config: str, message: str) -> None:
    Path("run/config.yaml").write_text(config)
    error = said("good.csv", code=1)
    assert message in error
    assert error.count("\n") == 1
    assert "oracle.conflicts" not in config or said("good.csv", "--conflicts", "latest")


# --- the default place -----------------------------------------------------------------------------------------------


def test_a_file_beside_the_batch_need_not_be_named(said: Callable[..., str], run: LabelBatch) -> None:
    names = "labels.csv, labels.parquet, labels.json"
    directory = round_directory(Path("run"), 0) / TO_LABEL
    assert said(code=1) == (
        f"error: {directory} must hold one of {names}, or answers in to_label.csv; it holds none: fill the table in, "
        f"or name the file\n"
    )
    shutil.copy("good.csv", directory / "labels.csv")
    assert said().startswith(f"{directory}/labels.csv: 3 answers, taken: 3")
    assert {one.annotator for one in standing()} == {""}, "as when the run reads it by itself"
    assert said(str(directory / "labels.csv")).startswith(f"{directory}/labels.csv: 3 answers, taken: 0")
    assert default_files(Path("run")) == [directory / "labels.csv"]
    (directory / "labels.json").touch()
    assert said(code=1) == (
        f"error: {directory} must hold one of {names}; it holds labels.csv and labels.json: leave one, or name the "
        f"file\n"
    )
    (directory / "labels.json").unlink()
    table = directory / "to_label.csv"
    table.write_text(table.read_text().replace("d.png,,", "d.png,ok,"))
    assert said().startswith(f"{directory}/labels.csv and {table}: 4 answers, taken: 1 (1 × ok)")
    apply_batch(run)
    assert "error: run waits for no labels; start the run" in said(code=1)
    assert "with --annotator" not in said("good.csv")


# --- the ledger ------------------------------------------------------------------------------------------------------


def test_the_history_has_every_answer_and_what_became_of_it(said: Callable[..., str]) -> None:
    assert said("--history") == "id  time  time given  who  sample  answer  source  taken back by  replaced by\n"
    said("good.csv")
    said("--undo", "2")
    rows = [re.split(r"  +", line) for line in said("--history").splitlines()]
    header = ["id", "time", "time given", "who", "sample", "answer", "source", "taken back by", "replaced by"]
    assert rows[0] == header
    assert [[row[0], *row[2:]] for row in rows[1:]] == [
        ["1", "ann", "00123.png", "ok", "good.csv, line 2"],
        ["2", "ann", "sub/b 1.png", "(skip)", "good.csv, line 3", "4"],
        ["3", "ann", "sub/ü.png", "(bad)", "good.csv, line 4"],
    ]
    assert len({line.index("good.csv") for line in said("--history").splitlines()[1:]}) == 1, "in columns"


def test_the_history_shows_by_what_times_answers_count(said: Callable[..., str]) -> None:
    monday = "2026-02-02T10:00:00+02:00"
    Path("tuesday.csv").write_text("sample_id,label,annotator,at\nd.png,dent,Ann,2026-02-03T10:00:00Z\n")
    Path("monday.csv").write_text(f"sample_id,label,annotator,at\nd.png,ok,Ann,{monday}\n")
    said("tuesday.csv")
    assert "'ok' of 'd.png' was given at 2026-02-02T08:00:00.000+00:00, before 'dent'" in said("monday.csv")
    rows = [re.split(r"  +", line) for line in said("--history").splitlines()[1:]]
    assert [row[1:] for row in rows] == [
        [*["2026-02-03T10:00:00.000+00:00"] * 2, "Ann", "d.png", "dent", "tuesday.csv, line 2"],
        [*["2026-02-02T08:00:00.000+00:00"] * 2, "Ann", "d.png", "ok", "monday.csv, line 2", "1"],
    ]
    said("--undo", "1")
    assert [answer.label for answer in standing()] == ["ok"], "the answer before the one that is taken back"


def test_answers_are_taken_back_by_their_ids(said: Callable[..., str]) -> None:
    said("good.csv")
    told = "1 answer\n  1: 00123.png ok, ann, good.csv, line 2\n"
    assert said("--undo", "1", "--dry-run") == f"to be taken back: {told}this was a dry run: nothing was written\n"
    assert len(standing()) == 3
    assert said("--undo", "1") == f"taken back: {told}"
    assert [one.id for one in standing()] == [2, 3]
    for ids in (["1"], ["2", "9"], ["2", "1", "--dry-run"], [str(10**30)]):
        assert "that could be taken back; it was taken back before, or never was there" in said("--undo", *ids, code=1)
    assert [one.id for one in standing()] == [2, 3]
    said("good.csv")
    assert [one.sample_id for one in standing()] == ["sub/b 1.png", "sub/ü.png", "00123.png"]


def test_all_that_came_from_a_file_is_taken_back(said: Callable[..., str]) -> None:
    for name in ("good.csv", "good.csv, line 2.csv"):
        Path(name).write_text(GOOD)
        said(name, "--annotator", name)
    shutil.copy("good.csv", round_directory(Path("run"), 0) / TO_LABEL)
    assert "to be taken back: 3 answers" in said("--undo-file", "elsewhere/good.csv", "--dry-run")
    printed = said("--undo-file", "elsewhere/good.csv").splitlines()
    assert printed[0] == "taken back: 3 answers"
    assert printed[-1] == "run/round_00/to_label/good.csv is still there: correct it, or take it away"
    assert {one.source for one in standing()} == {f"good.csv, line 2.csv, line {number}" for number in (2, 3, 4)}
    assert said("--undo-file", "good.csv", code=1) == (
        "error: run/labels.sqlite has no answer from 'good.csv' that could be taken back; --history lists what it has, "
        "and from where\n"
    )


# --- odd input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["good.csv", "--history"], "FILE, --history, --undo and --undo-file are four commands; give one of them"),
        (
            ["--undo-file", "a", "--history"],
            "FILE, --history, --undo and --undo-file are four commands; give one of them",
        ),
        (
            ["none.csv"],
            "'none.csv' must be a file that can be read (No such file or directory); give its path",
        ),
        (["run"], "run must be a file of labels, named .csv, .tsv, .txt, .parquet or .json"),
    ],
)
def test_arguments_that_make_no_sense_are_one_line(
    said: Callable[..., str], arguments: Sequence[str], message: str
) -> None:
    assert said(*arguments, code=1).splitlines()[0] == f"error: {message}"


def test_a_run_that_waits_for_nothing_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("begun").mkdir()
    Path("begun", CONFIG).write_text("rounds: 1\n")
    assert main(["begun", "good.csv"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: begun waits for no labels; start the run")
    assert error.count("\n") == 1


@pytest.mark.parametrize("damage", ["batch", "ledger", "directory"])
def test_damaged_files_of_a_run_are_one_line(said: Callable[..., str], damage: str) -> None:
    if damage == "batch":
        Path("run/round_00/to_label/batch.json").write_text("{")
    elif damage == "ledger":
        Path("run", LEDGER).write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 30)
    else:
        Path("run", LEDGER).mkdir()
    for arguments in (["good.csv"], ["--history"], ["--undo", "1"]):
        if damage != "batch" or arguments == ["good.csv"]:
            error = said(*arguments, code=1)
            assert "estore it" in error
            assert error.count("\n") == 1


def test_names_that_would_move_the_cursor_are_written_out(said: Callable[..., str]) -> None:
    make_batch(Path("run"), 1, sample_ids=["\x1b[2J\n.png", "b.png"], class_names=["\x1b[1m", "dent"])
    Path("odd.json").write_text('[{"sample_id": "\\u001b[2J\\n.png", "label": "\\u001b[1m", "annotator": "\\u202e"}]')
    printed = said("odd.json") + said("--history") + said("odd.json") + said("--undo", "1")
    Path("odd.json").write_text('[{"sample_id": "b.png\\u001b", "label": "\\u009b"}]')
    printed += said("odd.json", code=1)
    assert all(letter.isprintable() or letter == "\n" for letter in printed)
    assert "\\x1b[2J\\n.png" in printed


def test_a_directory_that_may_not_be_written_is_one_line(
    shared_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = Path(shutil.copytree("run", shared_directory / "run"))
    file = str(shutil.copy("good.csv", shared_directory))
    with read_only(run_dir):
        assert main([str(run_dir), file]) == 1
        assert capsys.readouterr() == (
            "",
            f"error: {run_dir / LEDGER} must be a ledger of labels that can be read and written; SQLite: unable "
            f"to open database file. Restore it, or free what holds it\n",
        )
        assert main([str(run_dir), file, "--dry-run"]) == 0
        assert capsys.readouterr().err == ""
    assert not (run_dir / LEDGER).exists()


@pytest.mark.e2e
def test_a_terminal_without_these_letters_gets_them_written_out(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = run_python("-m", "assl_lightning.ingest", "run", "good.csv", "--annotator", "Ann", env=environment)
    assert "taken: 3 (1 \\xd7 ok" in done.stdout
    assert done.stderr == ""


@pytest.mark.e2e
def test_answers_are_taken_also_where_the_reader_of_the_output_has_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "assl_lightning.ingest", "run", "good.csv"]
    done = subprocess.run(command, check=False, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")  # as other tools that SIGPIPE ends
    assert len(standing()) == 3


@pytest.mark.e2e
def test_the_command_needs_neither_torch_nor_lightning() -> None:
    code = (
        "import sys; from assl_lightning.ingest import main; failed = main(sys.argv[1:]); "
        "heavy = {'torch', 'lightning', 'hydra', 'omegaconf', 'numpy', 'PIL', 'pyarrow'} & set(sys.modules); "
        "sys.exit(failed or ','.join(heavy) or 0)"
    )
    command = [sys.executable, "-c", code, "run", "good.csv"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# --- the document ----------------------------------------------------------------------------------------------------


def test_the_documents_commands_work_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```csv\n(.*?)```", DOCUMENT, re.DOTALL)
    names = [line.partition(",")[0] for line in example.splitlines()[1:]]
    run_dir = Path("runs/photos/seed_0")
    batch = make_batch(run_dir, 1, sample_ids=names, class_names=["ok", "dent"])
    Path("thursday.csv").write_text(example)
    (batch.directory / "labels.csv").write_text(example)
    assert len(COMMANDS) == 5
    for command in COMMANDS:
        assert main(shlex.split(command)) == 0, (command, capsys.readouterr())
    printed = capsys.readouterr().out
    assert printed.count("4 answers, taken: 4 (1 × ok, 1 × dent, 1 × (skip), 1 × (bad))") == 1
    assert "round 1: 1 of 5 images have no answer yet" in printed
    assert Ledger(run_dir / LEDGER).active_answers() == []
    columns, _, _ = DOCUMENT.partition("## What a line means")
    assert all(column in example.splitlines()[0] for column in re.findall(r"^\| `(\w+)`", columns, re.MULTILINE))
