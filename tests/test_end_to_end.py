"""The commands of the README on real images, in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assl_lightning.commands.train import main
from assl_lightning.loop.records import read_records
from tests.shell import run_python

pytestmark = pytest.mark.e2e

CPU = "trainer.accelerator=cpu"
DEBIAN_FILES = Path("/usr/share/datasets/fashion-mnist")


def command(*overrides: str, cwd: Path) -> str:
    result = run_python("-m", "assl_lightning", *overrides, CPU, cwd=cwd, timeout=1200)
    assert "Traceback" not in result.stderr
    return result.stdout


def test_the_default_run_shortened_leaves_a_table_records_queries_and_a_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["rounds=1", "warm_up=none", "steps_per_round=60", "steps_per_epoch=30"]
    printed = command(*short, cwd=tmp_path)
    run_dir = tmp_path / "runs" / "digits" / "seed_0"
    records = read_records(run_dir)
    assert [record.labels for record in records] == [10, 20]
    assert records[1].test_accuracy_ema > 0.2, "sixty steps on twenty digits are better than guessing"
    assert "round 1/1: 20 labels, test accuracy 0." in printed
    assert "EMA %" in printed
    assert len((run_dir / "round_00" / "queried.csv").read_text().splitlines()) == 11
    assert (run_dir / "report" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}, "Hydra leaves nothing of its own"

    before = (run_dir / "rounds.jsonl").read_bytes()
    monkeypatch.chdir(tmp_path)
    assert main([*short, CPU]) == 0
    assert "is finished; nothing to do" in capsys.readouterr().out
    assert (run_dir / "rounds.jsonl").read_bytes() == before


@pytest.mark.slow
def test_the_whole_default_run_learns_digits(tmp_path: Path) -> None:
    command(cwd=tmp_path)
    records = read_records(tmp_path / "runs" / "digits" / "seed_0")
    assert [record.labels for record in records] == [10, 20, 30, 40]
    assert records[-1].test_accuracy_ema > 0.6


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN_FILES.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_fashion_mnist_shortened_runs_from_debians_files(tmp_path: Path) -> None:
    command("+experiment=fashion_mnist", "rounds=1", "steps_per_round=100", "data.source.download=false", cwd=tmp_path)
    run_dir = tmp_path / "runs" / "fashion_mnist" / "seed_0"
    records = read_records(run_dir)
    assert [record.labels for record in records] == [50, 100]
    assert records[0].unlabelled == 60_000 - 50
    assert records[1].test_accuracy_ema > 0.4
    assert records[0].drawn_at_random == 0
    assert records[0].coverage == pytest.approx(100 * 128 / 59_950)
    first = json.loads((run_dir / "rounds.jsonl").read_text().splitlines()[0])
    assert len(first["queried"]) == 50
