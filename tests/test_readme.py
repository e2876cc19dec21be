"""What README and docs/runs.md tell people to type is typed here, shortened where it would train for minutes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import assl_lightning
from assl_lightning.check.__main__ import main as check_main
from assl_lightning.commands.train import main
from assl_lightning.report.__main__ import main as report_main
from assl_lightning.report.picks import main as picks_main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RUNS = (ROOT / "docs" / "runs.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)[3:]
    for line in [*README.splitlines(), *RUNS.splitlines()]
    if line.startswith("python -m assl_lightning ")
]
SWEEP = next(command for command in COMMANDS if any("runs/mine" in word for word in command))
SHORT = ["rounds=1", "warm_up=none", "steps_per_round=2", "trainer.accelerator=cpu"]


def test_the_readme_has_its_commands() -> None:
    assert len(COMMANDS) >= 7
    for target in re.findall(r"^make ([a-z-]+)", README, re.MULTILINE):
        assert f"\n{target}: " in (ROOT / "Makefile").read_text()


@pytest.mark.e2e
@pytest.mark.parametrize("command", [command for command in COMMANDS if command is not SWEEP], ids=" ".join)
def test_a_command_of_the_readme_is_valid(
    command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wants_data = any(override.startswith(("+experiment=", "data=folder")) for override in command)
    if wants_data:
        assert main([*command, "--cfg", "job"]) == 0
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assl_lightning.commands.messages.set_up_messages", lambda: None)  # process-wide
        assert main([*[word for word in command if not word.startswith("rounds=")], *SHORT]) == 0, capsys.readouterr()
    if "--help" not in command:
        assert list(tmp_path.rglob("rounds.jsonl"))


@pytest.mark.e2e
def test_methods_are_compared_as_the_readme_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("assl_lightning.commands.messages.set_up_messages", lambda: None)
    (report,) = re.findall(r"^python -m assl_lightning\.report (.+)$", README, re.MULTILINE)
    (picks,) = re.findall(r"^python -m assl_lightning\.report\.picks (.+)$", README, re.MULTILINE)
    assert main([*[word for word in SWEEP if not word.startswith("rounds=")], *SHORT]) == 0
    assert "sweep: 6 of 6 jobs done" in capsys.readouterr().out
    assert report_main(shlex.split(report)) == 0
    assert "| herding (n = 2) |" in capsys.readouterr().out
    assert (tmp_path / "runs" / "mine" / "report" / "report.html").exists()
    picks_main(shlex.split(picks))
    assert "| seed | round | picked | in common % | by chance % | margin, s | herding, s |" in capsys.readouterr().out


def test_what_the_readme_imports_is_there() -> None:
    names = {
        name
        for line in re.findall(r"^from assl_lightning import (.+)$", README, re.MULTILINE)
        for name in line.split(", ")
    }
    assert names
    assert names <= set(assl_lightning.__all__)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_a_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


REGIMES = {
    "digits, 1 to 5": "digits_short",
    "digits, 1:20": "digits_tail20",
    "digits, 1:50": "digits_tail50",
    "digits, four fifths": "digits_near_copies",
    "digits, one answer": "digits_wrong10",
    "digits, two answers": "digits_wrong20",
    "digits, 6 to 30": "digits_wide",
    "MNIST, 1 to 5": "mnist_5k",
    "MNIST, 1:20": "mnist_5k_tail20",
    "MNIST, one answer": "mnist_5k_wrong10",
    "Fashion-MNIST, 1 to 5": "fashion",
    "Fashion-MNIST, 1:50": "fashion_tail50",
    "Fashion-MNIST, four fifths": "fashion_near_copies",
    "Fashion-MNIST, 6 to 30": "fashion_wide",
    "letters": "letters",
}


def cells(row: str) -> list[str]:
    """Return the cells of a row, without standard deviations."""
    return [cell.partition(" ±")[0].strip() for cell in row.split("|")]


def test_the_readme_has_every_regime_of_the_tables() -> None:
    tables = (ROOT / "results/fewer_labels/tables.md").read_text()
    assert int(tables.partition(" regimes,")[0].rpartition("\n")[2]) == len(REGIMES)


@pytest.mark.parametrize(("name", "regime"), REGIMES.items())
def test_a_row_of_the_readmes_results_is_that_of_the_tables(name: str, regime: str) -> None:
    tables = (ROOT / "results/fewer_labels/tables.md").read_text().partition("## Rule: herding\n")[0]
    (shown,) = re.findall(rf"^\| {name}[^|]*(\|.+)$", README, re.MULTILINE)
    against_random, against_margin, labels = re.findall(rf"^\| {regime} (\|.+)$", tables, re.MULTILINE)
    _, _, ours, random, difference, interval, *_ = cells(against_random)
    margin, ratio = cells(against_margin)[3], cells(labels)[4]
    assert shown == f"| {random} | {margin} | **{ours}** | {difference} {interval} | {ratio} |"


class SomebodysFixMatch(LightningModule):
    """A module that returns its loss alone, and calls its network for weak, labelled and strong images in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential()
        self.model.add_module("body", nn.Flatten())
        self.model.add_module("fc", nn.Linear(64, 10))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (x, y), (u, _) = batch["labelled"], batch["unlabelled"]
        guess = self.model(u).detach().argmax(1)
        return F.cross_entropy(self.model(x), y) + F.cross_entropy(self.model(u + 0.3 * torch.randn_like(u)), guess)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_the_readmes_lines_of_python_score_the_samples_of_somebody_elses_trainer() -> None:
    """Around the lines stands what they take for granted: a module, loaders, a pool and who is labelled."""
    (block,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    digits = load_digits()
    pool = TensorDataset(torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target))
    labelled, unlabelled = torch.arange(0, 200, 2), torch.arange(1, len(pool), 2)

    def make_trainer(**settings: Any) -> Trainer:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 1}
        return Trainer(**(settings | quiet), enable_model_summary=False, accelerator="cpu", log_every_n_steps=5)

    def make_loaders(pool: Any) -> dict[str, DataLoader[Any]]:
        parts = {"labelled": labelled, "unlabelled": unlabelled}
        return {name: DataLoader(Subset(pool, part.tolist()), batch_size=32) for name, part in parts.items()}

    names: dict[str, Any] = {
        "Trainer": make_trainer,
        "module": SomebodysFixMatch(),
        "pool": pool,
        "make_loaders": make_loaders,
        "labelled": labelled,
        "unlabelled": unlabelled,
    }
    exec(block, names)  # our own README
    to_label = names["to_label"].tolist()
    assert len(set(to_label)) == 100
    assert all(index % 2 == 1 for index in to_label)


@pytest.mark.e2e
def test_a_run_is_checked_as_the_readme_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its images are not in the package, and that is what the check says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("assl_lightning.commands.messages.set_up_messages", lambda: None)
    (check,) = re.findall(r"^python -m assl_lightning\.check (.+)$", RUNS, re.MULTILINE)
    assert (
        check_main([*shlex.split(check, comments=True), "data.source.download=false", "trainer.accelerator=cpu"]) == 1
    )
    assert "wrong:  data.root=" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
