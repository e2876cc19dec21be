"""Commands whose output is closed before its end, as by `… | head -1`: quiet, exit code 141, and nothing is lost."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from assl_lightning.base.command_line import as_command
from assl_lightning.base.interruption import Interrupted, Interruption
from assl_lightning.base.output import watched_output
from assl_lightning.check import __main__ as check
from assl_lightning.commands import classes, ingest, label, status, train
from assl_lightning.report import __main__ as report
from assl_lightning.report import picks
from assl_lightning.report.instability import __main__ as instability
from tests.people.test_oracle import label_all
from tests.people.test_oracle import run as run_with_people
from tests.same_run import differences_of_runs
from tests.test_resuming import run

SHORT = [
    "warm_up=none",
    "steps_per_round=2",
    "rounds=0",
    "initial_labels=12",
    "algorithm.batch_size=4",
    "trainer.accelerator=cpu",
]


@contextmanager
def closed_output() -> Iterator[None]:
    """Standard output is a pipe that nothing reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, redirect_stdout(stream):
        yield


@as_command
def write_much(lines: int, exit_code: int = 0) -> int:
    for number in range(lines):
        sys.stdout.write(f"{number:>100}\n")
    return exit_code


@as_command
def print_with_rich(lines: int) -> int:
    Console().print("\n".join(map(str, range(lines))))
    return 0


@pytest.mark.parametrize("lines", [1, 10_000])  # one is written when the command ends
def test_a_closed_output_ends_a_command_without_a_word(capsys: pytest.CaptureFixture[str], lines: int) -> None:
    for command in (write_much, partial(write_much, exit_code=1), print_with_rich):
        with closed_output():
            assert command(lines) == 141
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("command", [train, status, report, label, ingest, check, classes, picks, instability])
def test_a_help_whose_reader_has_gone_is_no_other_case(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with closed_output():
        assert command.main(["--help"]) == 141
    assert capsys.readouterr() == ("", "")


def test_an_output_that_is_read_is_written_and_its_exit_code_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert (write_much(2), write_much(1, exit_code=3)) == (0, 3)
    assert capsys.readouterr().out.split() == ["0", "1", "0"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_an_output_that_cannot_be_written_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Path("/dev/full").open("w") as full, redirect_stdout(full):
        assert write_much(1) == 1
    assert capsys.readouterr().err == "error: standard output cannot be written (No space left on device)\n"


def test_without_any_output_a_command_does_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as Python has it after >&-
    assert write_much(5) == 0
    assert print_with_rich(5) == 0


def test_what_is_to_be_saved_is_asked_for_as_by_a_signal() -> None:
    with closed_output(), watched_output(), Interruption() as interruption:
        with interruption.deferred():
            sys.stdout.write("x")
            sys.stdout.flush()
            sys.stdout.write("goes nowhere")
        assert interruption.signum == signal.SIGPIPE
        with pytest.raises(Interrupted, match="standard output was closed; step 4 is saved") as raised:
            interruption.raise_if_asked("step 4 is saved")
    assert (raised.value.exit_code, raised.value.is_to_be_printed) == (141, True)
    assert not Interrupted(signal.SIGPIPE).is_to_be_printed  # nothing was to be saved


class Printing(Callback):
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if trainer.global_step == 3:
            print("a line", flush=True)  # noqa: T201


@pytest.mark.e2e
def test_a_training_whose_output_is_closed_is_saved_and_goes_on(tmp_path: Path) -> None:
    run(tmp_path / "straight", Printing())
    with closed_output(), watched_output():
        with pytest.raises(Interrupted, match="standard output was closed; step 3 is saved, and the same command"):
            run(tmp_path / "run", Printing())
        run(tmp_path / "run", Printing())
    assert list(differences_of_runs(tmp_path / "straight", tmp_path / "run")) == []


@pytest.mark.e2e
def test_a_finished_run_whose_table_is_not_read_to_its_end_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main([*SHORT, "run_dir=run"]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    (tmp_path / "run" / "report" / "curve.png").unlink()
    capsys.readouterr()
    commands: list[tuple[Any, list[str]]] = [
        *((train, [*SHORT, "run_dir=run"]), (train, ["-m", *SHORT, "run_dir=run"])),
        *((status, ["run"]), (report, ["run"])),
    ]
    for command, arguments in commands:
        with closed_output():
            assert command.main(arguments) == 141
        assert capsys.readouterr() == ("", "")
    assert (tmp_path / "run" / "report" / "report.html").exists()
    after = {path: path.read_bytes() for path in before if path.exists()}
    assert {path.name for path in before if after.get(path) != before[path]} <= {"curve.png"}


def test_answers_are_taken_whoever_reads_what_is_said_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    run_with_people(run_dir)
    label_all(run_dir)
    capsys.readouterr()
    with closed_output():
        assert ingest.main([str(run_dir), "--history"]) == 141
    with closed_output():
        assert label.main([str(run_dir), "--csv", str(tmp_path / "answers.csv")]) == 141
    assert (tmp_path / "answers.csv").exists()
    assert capsys.readouterr().err == ""


@as_command
def greets() -> int:
    sys.stdout.write("müll\n")
    return 0


def test_letters_that_a_terminal_lacks_are_written_as_escapes() -> None:
    written = io.BytesIO()
    terminal = io.TextIOWrapper(written, encoding="ascii")
    with redirect_stdout(terminal):
        assert greets() == 0
    assert written.getvalue() == rb"m\xfcll" + b"\n"
