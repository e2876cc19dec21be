"""`python -m assl_lightning.query`: picks from a checkpoint of any trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from assl_lightning import ASSLScoreCallback, IndexedDataset, observe
from assl_lightning.commands.query import main
from tests.method.test_query import NAMES, TwoCalls
from tests.observe.fits import N, fit, pool
from tests.shell import run_python


def test_picks_by_a_further_statistic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = ASSLScoreCallback(observe=observe.forward("model", 0, 1), further=["view_variance"])
    trainer: Trainer = fit(TwoCalls(), DataLoader(IndexedDataset(pool()), batch_size=8), callback)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert main([str(tmp_path / "last.ckpt"), "--k", "3", "--by", "view_variance"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    variance = callback.statistics.further["view_variance"].rows(slice(None))
    assert [int(row.split(",")[1]) for row in rows] == variance.argsort(descending=True)[:3].tolist()
    assert [float(row.split(",")[3]) for row in rows] == pytest.approx(sorted(variance.tolist())[:-4:-1])
    assert main([str(tmp_path / "last.ckpt"), "--by", "forgetting"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: 'forgetting' was not kept: make the callback, or the table, with further=")


@pytest.fixture
def fitted(tmp_path: Path) -> tuple[Path, ASSLScoreCallback]:
    callback = ASSLScoreCallback(observe=observe.forward("model", 0, 1))
    trainer: Trainer = fit(TwoCalls(), DataLoader(IndexedDataset(pool()), batch_size=8), callback)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path / "last.ckpt", callback


def test_it_prints_the_picks_with_their_names(
    fitted: tuple[Path, ASSLScoreCallback], capsys: pytest.CaptureFixture[str]
) -> None:
    path, callback = fitted
    assert main([str(path), "--k", "3", "--names", str(path.with_name("names.txt"))]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "rank,index,name,score"
    assert [row.split(",")[:3] for row in rows] == [
        [str(rank), str(i), NAMES[i]] for rank, i in enumerate(callback.query(3).tolist(), start=1)
    ]


def test_candidates_labelled_factors_and_a_file(
    fitted: tuple[Path, ASSLScoreCallback], capsys: pytest.CaptureFixture[str]
) -> None:
    path, callback = fitted
    candidates, labelled, out = (path.parent / name for name in ("candidates.txt", "labelled.txt", "new/to_label.csv"))
    candidates.write_text("".join(f"{NAMES[i]}\n" for i in range(2, 20)))
    labelled.write_text("0\n1\n")
    options = [
        "--names",
        str(path.with_name("names.txt")),
        "--candidates",
        str(candidates),
        "--labelled",
        str(labelled),
    ]
    constants = ["--factors", "uncertainty", "--c-u", "0"]
    assert main([str(path), "--k", "4", *options, *constants, "--to", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 4 samples to label, best first\n"
    mean = callback.statistics.uncertainty_mean
    expected = sorted(range(2, 20), key=lambda i: -float(mean[i]))[:4]
    assert [int(line.split(",")[1]) for line in out.read_text().splitlines()[1:]] == expected


def test_names_that_look_like_numbers_are_names_where_there_are_names(
    fitted: tuple[Path, ASSLScoreCallback], capsys: pytest.CaptureFixture[str]
) -> None:
    path, callback = fitted
    names, candidates = path.with_name("numbers.txt"), path.with_name("candidates.txt")
    names.write_text("".join(f"{23 - i}\n" for i in range(24)))  # sample 0 is called 23
    candidates.write_text("23\n22\n21\n")
    assert main([str(path), "--k", "3", "--names", str(names), "--candidates", str(candidates)]) == 0
    picks = [int(row.split(",")[1]) for row in capsys.readouterr().out.splitlines()[1:]]
    assert picks == callback.query(3, candidates=[0, 1, 2]).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--k", "25"], "asked for 25 samples, but training visited only 24 of the 24 candidates"),
        (["--names", "short.txt"], "names must be as many as the samples of"),
        (["--candidates", "short.txt"], "candidates must be pool indices, which are whole numbers"),
        (["--labelled", "none.txt"], "none.txt"),
        (["--to", "last.ckpt"], "--to last.ckpt: must end in .csv, so that no other file is written over"),
        (["--to", "."], "--to .: must end in .csv"),
        (["--to", "new/out.txt"], "--to new/out.txt: must end in .csv"),
        (
            ["--callback", "other"],
            "has no state of an ASSLScoreCallback; the callbacks in it: assl_lightning.ASSLScoreC",
        ),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    message: str,
    fitted: tuple[Path, ASSLScoreCallback],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(fitted[0].parent)
    Path("short.txt").write_text("a\nb\n")
    assert main([str(fitted[0]), *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert message in line
    assert not Path("new").exists()


@pytest.mark.e2e
def test_help_comes_without_torch() -> None:
    code = (
        "import sys; from assl_lightning.commands.query import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print({'torch', 'lightning'} & sys.modules.keys())"
    )
    assert run_python("-c", code).stdout.splitlines()[-1] == "set()"
    assert torch.__version__
    assert len(NAMES) == N
