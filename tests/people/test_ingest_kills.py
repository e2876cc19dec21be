"""Whatever happens to an ingest, it leaves all of a file in the ledger or nothing; the same command completes it."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from assl_lightning.base.run_files import LEDGER
from assl_lightning.data.answers import Answer
from assl_lightning.people.ledger import Ledger
from tests.people.batches import make_batch

pytestmark = pytest.mark.e2e

ROWS = 300
IDS = [f"photographs/of a line/{number:06d}.png" for number in range(ROWS)]
COMMAND = [sys.executable, "-m", "assl_lightning.ingest"]
KILLS = Path(__file__).with_name("ingest_kills.py")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Of a run that asked for the labels of many images; beside it, files that answer."""
    make_batch(tmp_path / "run", sample_ids=IDS)
    for name, label in (("ann", "ok"), ("bo", "dent")):
        rows = [f"{sample_id},{label},{name}" for sample_id in IDS]
        (tmp_path / f"{name}.csv").write_text("\n".join(["sample_id,label,annotator", *rows]))
    return tmp_path / "run"


def standing(run_dir: Path) -> list[Answer]:
    return Ledger(run_dir / LEDGER).active_answers()


def begin(run_dir: Path, name: str, *options: str) -> subprocess.Popen[str]:
    command = [*COMMAND, str(run_dir), str(run_dir.parent / name), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and error."""
    _, error = process.communicate()
    return process.returncode, error


# --- kills -----------------------------------------------------------------------------------------------------------


def kill_at_statements(run_dir: Path, every: int, *before: Answer) -> tuple[int, list[int]]:
    Ledger(run_dir / LEDGER).append(before)
    command = [sys.executable, str(KILLS), str(run_dir), str(run_dir.parent / "ann.csv"), str(ROWS), str(every)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    kills, _, complete = done.stdout.partition(" ")
    return int(kills), [int(number) for number in complete.strip(" []\n").split(",") if number]


def assert_after_the_commit(complete: list[int]) -> None:
    """All was there before the connection was closed and for the few statements that read it again, never earlier."""
    assert complete
    assert complete[0] > ROWS
    assert len(complete) < 15


def test_a_kill_at_a_statement_leaves_all_or_nothing(run_dir: Path) -> None:
    kills, complete = kill_at_statements(run_dir, 100)
    assert kills > 24
    assert_after_the_commit(complete)


@pytest.mark.slow
@pytest.mark.parametrize("before", [[], [Answer(IDS[0], "label", "bo", "page", 0, "ok")]], ids=["new", "there"])
def test_a_kill_at_any_statement_leaves_all_or_nothing(run_dir: Path, before: list[Answer]) -> None:
    kills, complete = kill_at_statements(run_dir, 1, *before)
    assert kills > ROWS
    assert_after_the_commit(complete)


def kill_at_random(run_dir: Path, kills: int, luck: random.Random) -> int:
    """How many of them hit a command that had not ended."""
    hits = 0
    for number in range(kills):
        for path in run_dir.glob(f"{LEDGER}*"):
            path.unlink()
        process = begin(run_dir, "ann.csv")
        if number % 4:  # else anywhere, which is mostly in the imports
            while process.poll() is None and not (run_dir / LEDGER).exists():
                time.sleep(0.0002)
            time.sleep(luck.uniform(0, 0.03))
        else:
            time.sleep(luck.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        hits += end(process)[0] == -signal.SIGKILL
        assert len(standing(run_dir)) in (0, ROWS)
        assert end(begin(run_dir, "ann.csv")) == (0, "")
        assert [answer.sample_id for answer in standing(run_dir)] == IDS
    return hits


def test_a_kill_at_a_random_instant_leaves_all_or_nothing(run_dir: Path) -> None:
    assert kill_at_random(run_dir, 4, random.Random(0)) > 0


@pytest.mark.slow
def test_many_kills_at_random_instants_leave_all_or_nothing(run_dir: Path) -> None:
    assert kill_at_random(run_dir, 150, random.Random(1)) > 50


# --- two at once -----------------------------------------------------------------------------------------------------


def test_of_two_files_at_once_that_contradict_each_other_one_is_taken(run_dir: Path) -> None:
    ended = [end(process) for process in [begin(run_dir, "ann.csv"), begin(run_dir, "bo.csv")]]
    assert sorted(code for code, _ in ended) == [0, 1]
    (error,) = (error for code, error in ended if code)
    assert error.count("error: ") == ROWS
    assert error.endswith(f"\n{ROWS} errors; nothing was taken\n")
    assert len({answer.annotator for answer in standing(run_dir)}) == 1
    assert len(standing(run_dir)) == ROWS


def test_the_same_file_twice_at_once_is_taken_once(run_dir: Path) -> None:
    assert [end(process) for process in [begin(run_dir, "ann.csv"), begin(run_dir, "ann.csv")]] == [(0, "")] * 2
    assert [answer.sample_id for answer in standing(run_dir)] == IDS


# --- disks -----------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_one_line_and_leaves_nothing(run_dir: Path) -> None:
    # a measurement of coverage would have no room either
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    for kilobytes in (0, 2, 20):  # no ledger, half of one, no room for the rows
        process = subprocess.run(
            [*COMMAND, str(run_dir), str(run_dir.parent / "ann.csv")],
            check=False,
            capture_output=True,
            text=True,
            env=unmeasured,
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1000 * kilobytes, 1000 * kilobytes)),
        )
        assert process.returncode == 1, process.stdout + process.stderr
        assert process.stderr.startswith(f"error: {run_dir / LEDGER} must be a ledger of labels that can be read and")
        assert process.stderr.count("\n") == 1
        assert standing(run_dir) == []
    assert end(begin(run_dir, "ann.csv")) == (0, "")
    assert len(standing(run_dir)) == ROWS
