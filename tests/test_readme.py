"""What the README tells people to type is typed here, shortened where it would train for minutes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import assl_lightning
from assl_lightning.cli import main
from assl_lightning.report.__main__ import main as report_main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)[3:] for line in README.splitlines() if line.startswith("python -m assl_lightning ")
]
SHORT = ["rounds=1", "steps_per_round=2", "trainer.accelerator=cpu"]


def test_the_readme_has_its_commands() -> None:
    assert len(COMMANDS) >= 7
    for target in re.findall(r"^make ([a-z-]+)", README, re.MULTILINE):
        assert f"\n{target}: " in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_the_readme_is_valid(
    command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wants_data = any(override.startswith("+experiment=") for override in command)
    if wants_data:
        assert main([*command, "--cfg", "job"]) == 0
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assl_lightning.build.set_up_messages", lambda: None)  # process-wide, and not ours to change here
        assert main([*[word for word in command if not word.startswith("rounds=")], *SHORT]) == 0, capsys.readouterr()
    if "--help" not in command:
        assert list(tmp_path.rglob("rounds.jsonl"))


def test_methods_are_compared_as_the_readme_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("assl_lightning.build.set_up_messages", lambda: None)
    (sweep,) = (command for command in COMMANDS if any("runs/mine" in word for word in command))
    (report,) = re.findall(r"^python -m assl_lightning\.report (.+)$", README, re.MULTILINE)
    assert main([*sweep, *SHORT]) == 0
    capsys.readouterr()
    assert report_main(shlex.split(report)) == 0
    assert "| assl (n = 2) |" in capsys.readouterr().out
    assert (tmp_path / "curves.png").exists()


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
