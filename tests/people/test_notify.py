"""The command that tells people of a batch: once, with the batch's directory, and without harm to the run."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import pytest

from assl_lightning.base.run_files import CONFIG
from assl_lightning.base.shell import command
from assl_lightning.people import notify as module
from assl_lightning.people.batch import LabelBatch
from assl_lightning.people.notify import notify
from tests.people.batches import make_batch


@pytest.fixture
def batch(tmp_path: Path) -> LabelBatch:
    """A batch in a directory whose name a shell would take apart and execute."""
    return make_batch(tmp_path / "$(touch evil); 'a' \"b\" ü", 3)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_command_knows_the_batch_by_its_environment_and_no_name_is_executed(batch: LabelBatch) -> None:
    names = '"$ASSL_BATCH" "$ASSL_RUN" "$ASSL_NAME" "$ASSL_ROUND" "$ASSL_IMAGES" "$ASSL_LABEL"'
    notify(f'printf "%s\\n" {names} > "$ASSL_RUN/told"', batch)
    expected = [str(batch.directory), str(batch.run_dir), "photos", "3", "4", command("label", batch.run_dir)]
    assert (batch.run_dir / "told").read_text().splitlines() == expected
    assert not Path("evil").exists()
    assert not (batch.run_dir / CONFIG).exists()


def test_each_batch_is_told_once(batch: LabelBatch, tmp_path: Path) -> None:
    for _ in range(3):
        notify('echo once >> "$ASSL_RUN/told"', batch)
    other = make_batch(batch.run_dir, 4)
    notify('echo other >> "$ASSL_RUN/told"', other)
    assert (batch.run_dir / "told").read_text().split() == ["once", "other"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("echo first >&2; printf 'no\\033[2J such host\\n'; exit 7", "exit code 7 (no\\x1b[2J such host)"),
        ("exit 3", "exit code 3;"),
        ("no_such_program_at_all", "exit code 127 ("),
    ],
)
def test_a_command_that_fails_is_one_line_and_is_not_repeated(
    batch: LabelBatch, caplog: pytest.LogCaptureFixture, given: str, problem: str
) -> None:
    notify(f'echo x >> "$ASSL_RUN/tries"; {given}', batch)
    notify(f'echo x >> "$ASSL_RUN/tries"; {given}', batch)
    (message,) = said(caplog)
    assert message.startswith("oracle.notify failed: the command ended with ")
    assert problem in message
    assert "\n" not in message
    assert (batch.run_dir / "tries").read_text().split() == ["x"]


def test_a_command_that_hangs_is_ended_with_what_it_started_and_one_that_leaves_something_running_is_not_waited_for(
    batch: LabelBatch, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    notify("sh -c 'sleep 1; touch \"$ASSL_RUN/late\"'; true", batch)
    assert said(caplog) == [
        "oracle.notify failed: the command did not end within 0.3 s, and was ended; the run goes on as without it, and "
        "does not repeat it"
    ]
    time.sleep(1)
    assert not (batch.run_dir / "late").exists()
    notify("sleep 2 &", make_batch(batch.run_dir, 4))
    assert len(said(caplog)) == 1


def test_a_batch_that_cannot_be_noted_is_not_told_over_and_over(
    batch: LabelBatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(batch.directory)
    notify('touch "$ASSL_RUN/told"', batch)
    (message,) = said(caplog)
    assert message.startswith("oracle.notify was not run, since ")
    assert not (batch.run_dir / "told").exists()
