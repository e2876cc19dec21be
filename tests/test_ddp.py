"""Whole runs of two processes (gloo, on the CPU), from Python and from the command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assl_lightning.loop.evaluation import read_evaluation
from assl_lightning.loop.records import read_records
from tests.ddp_run import SETTINGS
from tests.same_run import differences_of_runs
from tests.shell import run_python

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed"),
]

HERE = Path(__file__).parent
SMALL = (
    *("rounds=1", "labels_per_round=5", "warm_up=none", "steps_per_round=30", "steps_per_epoch=10", "network.width=4"),
    *("algorithm.batch_size=8", "algorithm.mu=2", "trainer.log_every_n_steps=5", "trainer.accelerator=cpu"),
)
DDP = ("trainer.devices=2", "trainer.strategy=ddp")
TIMEOUT = 120  # seconds, of a run that takes about ten


def environment(**changes: str) -> dict[str, str]:
    """Of a process: one thread, and none of the variables by which processes know their rank."""
    ours = {key: value for key, value in os.environ.items() if not key.endswith("RANK") and key != "WORLD_SIZE"}
    return ours | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"} | changes


def from_python(output: Path, devices: int, *launcher: str, **changes: str) -> subprocess.CompletedProcess[str]:
    output.mkdir(exist_ok=True)
    command = [*launcher, str(HERE / "ddp_run.py"), str(output), str(devices)]
    return run_python(*command, env=environment(**changes), timeout=TIMEOUT)


def start(run_dir: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "assl_lightning", *SMALL, f"run_dir={run_dir}", *overrides]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(), stdout=pipe, stderr=pipe, text=True, cwd=run_dir.parent)


def finish(run_dir: Path, *overrides: str) -> tuple[int, str]:
    process = start(run_dir, *overrides)
    _, errors = process.communicate(timeout=TIMEOUT)
    return process.returncode, errors


def wait_for(pattern: str, run_dir: Path) -> None:
    until = time.monotonic() + TIMEOUT
    while not any(run_dir.glob(pattern)):
        assert time.monotonic() < until, f"no {pattern} came"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What the same run left as one process and as two."""
    directory = tmp_path_factory.mktemp("ddp")
    for devices in (1, 2):
        from_python(directory / str(devices), devices)
    return {devices: directory / str(devices) for devices in (1, 2)}


@pytest.fixture(scope="module")
def ranks(outputs: dict[int, Path]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What the one process saw, and each of the two."""
    one = torch.load(outputs[1] / "rank_0.pt", weights_only=True)
    first, second = (torch.load(outputs[2] / f"rank_{rank}.pt", weights_only=True) for rank in (0, 1))
    return one, first, second


def test_the_batch_size_is_that_of_all_ranks_which_share_each_batch(ranks: tuple[dict[str, Any], ...]) -> None:
    one, first, second = ranks
    for name, size in (("labelled", 4), ("index", 12)):
        assert len(one[name]) == len(first[name]) == SETTINGS.steps_per_round * (SETTINGS.rounds + 1)
        for whole, half, other in zip(one[name], first[name], second[name], strict=True):
            assert len(half) == len(other) == size // 2
            assert torch.equal(torch.cat([half, other]), whole), "in the order of the ranks"


def test_statistics_are_the_same_on_all_ranks_and_those_of_one_process(ranks: tuple[dict[str, Any], ...]) -> None:
    """Gradients are summed in another order, so that weights and what comes of them differ in the last digits."""
    one, first, second = ranks
    assert len(one["tables"]) == 3
    for whole, half, other in zip(one["tables"], first["tables"], second["tables"], strict=True):
        assert torch.equal(whole["visits"], half["visits"])
        for name in ("uncertainty_mean", "uncertainty_variance", "inconsistency_mean", "inconsistency_variance"):
            assert torch.equal(half[name], other[name])
            torch.testing.assert_close(half[name], whole[name], atol=1e-5, rtol=1e-4)
            assert whole[name].max() > 1e-3, "or the tolerance would hide everything"
        of_one, of_first, of_second = (table["further"] for table in (whole, half, other))
        assert set(of_one) == {"forgetting", "view_variance", "mean_probabilities"}
        for name, columns in of_one.items():
            for column, values in columns.items():
                assert torch.equal(of_first[name][column], of_second[name][column])
                torch.testing.assert_close(of_first[name][column], values, atol=1e-5, rtol=1e-4)


def test_kept_features_are_the_same_on_all_ranks_and_those_of_one_process(ranks: tuple[dict[str, Any], ...]) -> None:
    labelled, tables = ranks[0]["pools"], [rank["features"] for rank in ranks]
    assert len(tables[0]) == 3
    for index, whole, half, other in zip(labelled, *tables, strict=True):
        assert torch.equal(half["values"], other["values"])
        assert torch.equal(half["seen"], other["seen"])
        assert torch.equal(half["seen"][:-1], whole["seen"][:-1])
        assert whole["seen"][index].all(), "24 draws of at most 12 labelled samples"
        torch.testing.assert_close(half["values"][:-1], whole["values"][:-1], atol=2e-3, rtol=2e-3)  # float16
        assert whole["values"][index].max() > 0.1, "or the tolerance would hide everything"


def test_every_rank_and_one_process_agree_on_the_picks(ranks: tuple[dict[str, Any], ...]) -> None:
    one, first, second = ranks
    assert one["queried"] == first["queried"] == second["queried"]
    assert [len(picks) for picks in one["queried"]] == [3, 3, 0]
    for whole, half, other in zip(one["pools"], first["pools"], second["pools"], strict=True):
        assert torch.equal(whole, half)
        assert torch.equal(whole, other)


def test_one_rank_writes_what_one_process_writes(outputs: dict[int, Path]) -> None:
    one, two = (
        sorted(path.relative_to(outputs[devices] / "run") for path in (outputs[devices] / "run").rglob("*"))
        for devices in (1, 2)
    )
    assert one == two
    records = [read_records(outputs[devices] / "run") for devices in (1, 2)]
    for mine, theirs in zip(*records, strict=True):
        assert mine.test_accuracy_ema == pytest.approx(theirs.test_accuracy_ema)
        assert mine.coverage == theirs.coverage
        tested, its = (
            read_evaluation(outputs[devices] / "run" / f"round_{mine.round:02d}" / "evaluation.npz")
            for devices in (1, 2)
        )
        assert tested is not None
        assert its is not None
        np.testing.assert_array_equal(its.position, range(30))
        for name in ("label", "predicted"):
            np.testing.assert_array_equal(getattr(its, name), getattr(tested, name))
        np.testing.assert_allclose(its.confidence, tested.confidence, atol=1e-4)
    config = (outputs[2] / "run" / "config.yaml").read_text()
    assert "devices: 2 × cpu" in config


@pytest.mark.slow
def test_two_processes_are_warmed_up_as_one(tmp_path: Path) -> None:
    for devices in (1, 2):
        from_python(tmp_path / str(devices), devices, DDP_RUN_WARM_UP="1")
    one = torch.load(tmp_path / "1" / "rank_0.pt", weights_only=True)
    ranks = [torch.load(tmp_path / "2" / f"rank_{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert len(one["warmed_up"]) == 5
    for whole, *halves in zip(one["warmed_up"], *(rank["warmed_up"] for rank in ranks), strict=True):
        assert torch.equal(torch.cat(halves), whole)
    for seen in ranks:
        assert seen["queried"] == one["queried"]
        for pool, its in zip(seen["pools"], one["pools"], strict=True):
            assert torch.equal(pool, its), "the first picks, too"
    weights, its = (
        torch.load(tmp_path / str(devices) / "run" / "warm_up.ckpt", weights_only=True)["state_dict"]
        for devices in (1, 2)
    )
    torch.testing.assert_close(its, weights, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_warm_up_of_two_processes_that_is_stopped_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    warm_up = ("warm_up=simclr", "warm_up.steps=12", "warm_up.batch_size=8", "rounds=0", *DDP)
    assert finish(tmp_path / "straight", *warm_up) == (0, "")
    process = start(tmp_path / "run", *warm_up, "checkpoint.every_n_steps=1")
    wait_for("warm_up/resume/step_0000000[4-9].ckpt", tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 143, errors
    assert finish(tmp_path / "run", *warm_up) == (0, "")
    assert list(differences_of_runs(tmp_path / "straight", tmp_path / "run")) == []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes from the command line."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    assert finish(run_dir, *DDP) == (0, "")
    return run_dir


@pytest.mark.slow
def test_sigterm_saves_a_run_of_two_processes_which_goes_on_to_the_last_bit(undisturbed: Path, tmp_path: Path) -> None:
    process = start(tmp_path / "run", *DDP, "checkpoint.every_n_steps=1")
    wait_for("round_00/resume/step_0000000[4-9].ckpt", tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 143, errors
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("error: terminated; step ")
    assert finish(tmp_path / "run", *DDP) == (0, "")
    assert list(differences_of_runs(undisturbed, tmp_path / "run")) == []


def children_of(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in text.split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
@pytest.mark.slow
@pytest.mark.parametrize("who", ["second", "first"])
def test_a_rank_that_dies_ends_the_run_which_then_goes_on(undisturbed: Path, tmp_path: Path, who: str) -> None:
    """Within half a minute: Lightning looks after its children every five seconds, gloo notices a lost connection."""
    process = start(tmp_path / "run", *DDP, "checkpoint.every_n_steps=1")
    wait_for("round_00/resume/step_0000000[4-9].ckpt", tmp_path / "run")
    (child,) = children_of(process.pid)
    os.kill(child if who == "second" else process.pid, signal.SIGKILL)
    process.communicate(timeout=30)  # also until the child has closed what it shares
    assert process.returncode != 0
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]
    assert finish(tmp_path / "run", *DDP) == (0, "")
    assert list(differences_of_runs(undisturbed, tmp_path / "run")) == []


@pytest.mark.slow
def test_a_sweep_of_runs_of_two_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "assl_lightning", "-m", *SMALL, *DDP, "seed=0,1"]
    done = subprocess.run(
        command, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sweep: 2 of 2 jobs done" in done.stdout
    picks = [read_records(tmp_path / f"runs/digits/seed_{seed}")[0].queried for seed in (0, 1)]
    assert picks[0] != picks[1]
    assert {path.name for path in (tmp_path / "runs/digits").iterdir()} >= {"seed_0", "seed_1", "sweep.csv"}
    assert finish(tmp_path / "alone", "seed=1", *DDP) == (0, "")
    assert list(differences_of_runs(tmp_path / "alone", tmp_path / "runs/digits/seed_1")) in ([], ["report/curve.png"])


@pytest.fixture
def port() -> int:
    """One that is free now."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        number: int = server.getsockname()[1]
    return number


def together(commands: list[list[str]], environments: list[dict[str, str]]) -> list[str]:
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True)
        for command, env in zip(commands, environments, strict=True)
    ]
    errors = [process.communicate(timeout=TIMEOUT)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    return errors


@pytest.mark.slow
def test_two_nodes_of_torchrun(outputs: dict[int, Path], tmp_path: Path, port: int) -> None:
    """Two nodes on one machine, a process each, in an empty run_dir, which both see."""
    place = ("--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}")
    script = (str(HERE / "ddp_run.py"), str(tmp_path), "1")
    torchrun = [sys.executable, "-m", "torch.distributed.run", *place]
    commands = [[*torchrun, f"--node-rank={node}", *script] for node in (0, 1)]
    together(commands, [environment(DDP_RUN_NODES="2")] * 2)
    for rank in (0, 1):
        mine = torch.load(tmp_path / f"rank_{rank}.pt", weights_only=True)
        theirs = torch.load(outputs[2] / f"rank_{rank}.pt", weights_only=True)
        assert mine["queried"] == theirs["queried"]
    assert list(differences_of_runs(outputs[2] / "run", tmp_path / "run")) == []


@pytest.mark.slow
def test_two_nodes_of_slurm(outputs: dict[int, Path], tmp_path: Path, port: int) -> None:
    """As srun starts them: what Lightning reads of SLURM's variables, set by hand."""
    of_job = {
        "SLURM_JOB_NAME": "train",
        "SLURM_JOB_ID": "77",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NNODES": "2",
        "SLURM_NODELIST": "localhost",
        "SLURM_LOCALID": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "DDP_RUN_NODES": "2",
    }
    command = [sys.executable, str(HERE / "ddp_run.py"), str(tmp_path), "1"]
    together([command] * 2, [environment(**of_job, SLURM_PROCID=str(n), SLURM_NODEID=str(n)) for n in (0, 1)])
    assert list(differences_of_runs(outputs[2] / "run", tmp_path / "run")) == []
    assert json.loads((tmp_path / "run" / "rounds.jsonl").read_text().splitlines()[0])["round"] == 0
