"""Printed commands are ones that a shell takes, whatever a directory is called."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pytest

import assl_lightning
from assl_lightning.base.run_files import LEDGER
from assl_lightning.base.shell import command
from assl_lightning.commands import ingest, status
from assl_lightning.commands.label import main as label_main
from assl_lightning.data.answers import Answer
from assl_lightning.people.batch import LabelBatch
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.tools import LabelsByFile, LabelsByPage
from tests.people.batches import make_batch

AWKWARD = ("my run (1)", "it's $HOME & co", "-run", "a;b", "*?[x]", "ü\"quote'")
PACKAGE = Path(assl_lightning.__file__).parent


@pytest.mark.parametrize("name", AWKWARD)
def test_a_shell_takes_a_command_apart_as_it_was_put_together(name: str) -> None:
    words = shlex.split(command("ingest", Path(name), "--undo", "3"))
    assert words[:3] == ["python", "-m", "assl_lightning.ingest"]
    assert Path(words[3]) == Path(name)
    assert not words[3].startswith("-")
    assert words[4:] == ["--undo", "3"]


def printed_commands(text: str) -> list[list[str]]:
    """The words of each command in a message, as far as the run's directory."""
    found = []
    for part in text.split("python -m ")[1:]:
        words = shlex.shlex(part, posix=True, punctuation_chars=False)
        words.whitespace_split, words.commenters = True, ""
        found.append([next(words), next(words)])
    return found


@pytest.mark.parametrize("name", AWKWARD)
def test_whatever_is_printed_for_the_next_step_can_be_pasted(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / name
    batch = make_batch(run_dir)
    said = [LabelsByFile().offer(batch), LabelsByPage().offer(batch)]
    (run_dir / "config.yaml").write_text("rounds: 2\nname: photos\noracle: {conflicts: error}\n")
    assert status.main([str(run_dir)]) == 0
    said.append(capsys.readouterr().out)
    (run_dir / "config.yaml").unlink()
    said.append(farewell_of(batch, capsys))
    (tmp_path / "good.csv").write_text(f"sample_id,label,annotator\n{batch.samples[0].sample_id},dent,Ann\n")
    assert ingest.main([str(run_dir), str(tmp_path / "good.csv")]) == 0
    said.append(capsys.readouterr().out)
    for text in said:
        found = printed_commands(text.replace("RUN_DIR", shlex.quote(str(run_dir))))
        assert found, text
        assert {Path(words[1]) for words in found} == {run_dir}, text


def farewell_of(batch: LabelBatch, capsys: pytest.CaptureFixture[str]) -> str:
    """As `label` ends where all is answered, in a copy of the round's directory."""
    Ledger(batch.run_dir / LEDGER).append(
        [Answer(one.sample_id, "label", "Ann", "page", batch.round, "ok") for one in batch.samples]
    )
    assert label_main([str(batch.run_dir), "--done"]) == 0
    return capsys.readouterr().out


def test_every_command_with_a_path_comes_from_one_place() -> None:
    """A formatted text that begins a command by itself would not be quoted."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.JoinedStr):
                continue
            texts = [part.value for part in node.values if isinstance(part, ast.Constant)]
            after = [text.partition("python -m assl_lightning")[2] for text in map(str, texts)]
            found += [f"{path.name}:{node.lineno}" for text in after if text.endswith(" ") and text.count(" ") < 3]
    assert found == []
