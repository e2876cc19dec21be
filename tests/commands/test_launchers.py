"""Sweeps through Hydra's other launchers, from the command line, with everything real."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from assl_lightning.base.interruption import Interrupted
from assl_lightning.commands import launchers
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.loop import slurm
from assl_lightning.loop.records import read_records
from tests.same_run import differences_of_runs

SMALL = (
    *(
        "rounds=1",
        "labels_per_round=5",
        "warm_up=none",
        "steps_per_round=120",
        "network.width=4",
        "checkpoint.every_n_steps=1",
    ),
    *("algorithm.batch_size=8", "algorithm.mu=2", "trainer.log_every_n_steps=5", "trainer.accelerator=cpu"),
)
PLUGINS = {"joblib": "hydra_plugins.hydra_joblib_launcher", "submitit_local": "hydra_plugins.hydra_submitit_launcher"}
DDP = ("trainer.devices=2", "trainer.strategy=ddp")
TIMEOUT = 180  # seconds, of a sweep that takes less than half a minute


def start(directory: Path, *overrides: str) -> subprocess.Popen[str]:
    """A sweep, as one would type it in `directory`."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SUBMITIT_"))}
    command = [sys.executable, "-m", "assl_lightning", "-m", *SMALL, *overrides]
    environment = ours | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    pipe = subprocess.PIPE
    directory.mkdir(exist_ok=True)
    return subprocess.Popen(command, env=environment, cwd=directory, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, list[str], list[str]]:
    """Exit code, lines on stdout, lines on stderr."""
    output, errors = process.communicate(timeout=TIMEOUT)
    return process.returncode, output.splitlines(), errors.splitlines()


def wait_for(found: Callable[[], bool]) -> None:
    until = time.monotonic() + TIMEOUT
    while not found():
        assert time.monotonic() < until, "what the test waits for did not come"
        time.sleep(0.02)


def is_training(directory: Path, seed: int) -> bool:
    return any((directory / f"runs/digits/seed_{seed}/round_00/checkpoints").glob("step_*.ckpt"))


def process_of(logs: Path, number: int) -> int:
    """The process that runs the job `number`, from 0."""
    (path,) = logs.glob(f"{number}_*_process")
    return int(json.loads(path.read_text())[1])


@pytest.fixture(params=PLUGINS)
def launcher(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(PLUGINS[request.param])
    return f"hydra/launcher={request.param}"


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two jobs that Hydra's own launcher ran, and a third, which is refused: its directory holds another run."""
    directory = tmp_path_factory.mktemp("basic")
    assert finish(start(directory, "seed=0,1"))[0] == 0
    shutil.copytree(directory / "runs/digits/seed_0", directory / "runs/digits/seed_2")
    assert finish(start(directory, "seed=0,1,2"))[0] == 1
    return directory


def table_of(directory: Path) -> str:
    """sweep.csv without the command that made it."""
    lines = (directory / "runs/digits/sweep.csv").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


@pytest.mark.slow
def test_a_sweep_ends_as_the_basic_launchers_whatever_became_of_it_before(
    launcher: str, basic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job is finished before, one was terminated with the sweep, one fails."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    mine = tmp_path / "mine"
    shutil.copytree(basic / "runs/digits/seed_0", mine / "runs/digits/seed_0")
    shutil.copytree(basic / "runs/digits/seed_0", mine / "runs/digits/seed_2")
    process = start(mine, launcher, "seed=0,1,2")
    wait_for(lambda: is_training(mine, 1))
    process.send_signal(signal.SIGTERM)
    code, _, errors = finish(process)
    assert code == 143
    assert errors[-1] == "error: terminated; 0 of 2 jobs are done, and the same command goes on with the others"
    assert read_records(mine / "runs/digits/seed_1") == []
    assert list((mine / "runs/digits/seed_1/round_00/checkpoints").iterdir())

    code, output, errors = finish(start(mine, launcher, "seed=0,1,2"))
    assert code == 1
    assert any(line.startswith("job 1 ") and line.endswith("finished before, skipped") for line in output)
    assert "sweep: 2 of 3 jobs done" in output
    (line,) = [line for line in errors if line.startswith("error: job ")]
    assert line.startswith("error: job 3 (")
    assert "seed" in line.partition(": job 3")[2]
    for seed in (0, 1):
        runs = [directory / f"runs/digits/seed_{seed}" for directory in (basic, mine)]
        assert list(differences_of_runs(*runs)) in ([], ["report/curve.png"])
    assert table_of(mine) == table_of(basic)
    assert {path.name for path in mine.iterdir()} == {"runs"}
    left = {path.name for path in (mine / "runs/digits").iterdir()}
    assert left == {"seed_0", "seed_1", "seed_2", "sweep.csv", "sweep.md"}
    assert [path.name for path in (tmp_path / "temporary").iterdir() if "assl" in path.name] == []


@pytest.mark.slow
def test_a_job_that_submitit_pre_empts_saves_is_queued_again_and_goes_on(basic: Path, tmp_path: Path) -> None:
    pytest.importorskip(PLUGINS["submitit_local"])
    process = start(tmp_path, "hydra/launcher=submitit_local", "hydra.sweep.dir=logs", "seed=1")
    wait_for(lambda: is_training(tmp_path, 1))
    os.kill(process_of(tmp_path / "logs", 0), signal.SIGUSR2)
    code, _, errors = finish(process)
    assert (code, errors) == (0, [])
    said = "".join(path.read_text() for path in (tmp_path / "logs/.submitit").rglob("*_log.*"))
    assert "Requeued job" in said
    assert said.count("Job completed successfully") == 1
    runs = [directory / "runs/digits/seed_1" for directory in (basic, tmp_path)]
    assert list(differences_of_runs(*runs)) in ([], ["report/curve.png"])


@pytest.mark.slow
def test_a_job_whose_process_is_killed_is_told_and_goes_on(launcher: str, basic: Path, tmp_path: Path) -> None:
    process = start(tmp_path, launcher, "hydra.sweep.dir=logs", "seed=0,1")
    wait_for(lambda: is_training(tmp_path, 1))
    os.kill(process_of(tmp_path / "logs", 1), signal.SIGKILL)
    code, output, errors = finish(process)
    assert code == 1
    told = [line for line in errors if "gave no answer" in line]
    assert told[-1].startswith("error: job 2 (")
    assert told[-1].endswith(f"see the launcher's files in {tmp_path / 'logs'}")
    if "submitit" in launcher:  # joblib ends all its processes with the one
        assert "sweep: 1 of 2 jobs done" in output
        assert len(told) == 1
        runs = [directory / "runs/digits/seed_0" for directory in (basic, tmp_path)]
        assert list(differences_of_runs(*runs)) in ([], ["report/curve.png"])


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_jobs_of_two_processes_are_refused_before_anything_is_written(launcher: str, tmp_path: Path) -> None:
    code, _, errors = finish(start(tmp_path, launcher, "seed=0,1", *DDP))
    assert (code, len(errors)) == (1, 2), errors
    assert "trainer.devices=2: a launcher's job has one process, and this one would start 1 more; " in errors[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_processes_that_lightning_would_start_are_refused_and_those_that_others_start_are_not(
    compose_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assl_lightning.commands.messages.set_up_messages", lambda: None)  # process-wide
    cpu = "trainer.accelerator=cpu"
    launchers.refuse_more_processes(compose_run(cpu))
    launchers.refuse_more_processes(compose_run(cpu, "trainer.strategy=ddp"))
    with pytest.raises(ConfigurationError, match=r"devices=2: .* leave hydra/launcher out"):
        launchers.refuse_more_processes(compose_run(cpu, *DDP))
    monkeypatch.setenv("LOCAL_RANK", "0")
    launchers.refuse_more_processes(compose_run(cpu, *DDP))


@pytest.mark.slow
def test_several_tasks_of_submitit_on_this_machine_are_refused(tmp_path: Path) -> None:
    pytest.importorskip(PLUGINS["submitit_local"])
    code, _, errors = finish(start(tmp_path, "hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2"))
    assert (code, len(errors)) == (1, 1)
    assert errors[0].startswith("error: hydra.launcher.tasks_per_node=2: must be 1 on this machine")
    assert list(tmp_path.iterdir()) == []


def test_submitit_has_a_signal_and_a_queue_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    of_slurm = {"SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "1"}
    for name in ("SUBMITIT_EXECUTOR", "SUBMITIT_PREEMPT_SIGNAL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in of_slurm.items():
        monkeypatch.setenv(name, value)
    assert slurm.preemption_signals() == (signal.SIGUSR1,)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert slurm.preemption_signals() == (signal.SIGUSR2,)
    assert slurm.requeue_signal() is None
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    assert slurm.preemption_signals() == (signal.SIGUSR1,)
    assert slurm.requeue_signal() is None


def test_an_interruption_survives_the_way_between_processes() -> None:
    sent = Interrupted(signal.SIGTERM, "step 3 is saved")
    came = pickle.loads(pickle.dumps(sent))
    assert (came.signum, str(came), came.exit_code) == (signal.SIGTERM, "terminated; step 3 is saved", 143)


def test_what_an_earlier_sweep_has_left_stops_no_job_and_no_process(tmp_path: Path) -> None:
    for name in ("stop", "0_99_process", "0_outcome.json", "kept.txt"):
        (tmp_path / name).touch()
    launchers._forget_earlier_jobs(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
