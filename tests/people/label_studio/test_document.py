"""What docs/labels_by_label_studio.md says to type works, and what it names is what the code has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from assl_lightning.commands import messages
from assl_lightning.commands.train import main
from assl_lightning.config.compose import conf_dir
from assl_lightning.people.label_studio import exchange, tasks
from tests.people.label_studio import real_server

DOCUMENT = real_server.DOCUMENT.read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m assl_lightning (.+)$", DOCUMENT, re.MULTILINE)
SHORT = ["rounds=1", "warm_up=none", "steps_per_round=2", "algorithm.batch_size=4", "trainer.accelerator=cpu"]


@pytest.mark.skipif(not (conf_dir() / "oracle" / "label_studio.yaml").exists(), reason="no oracle=label_studio yet")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_document_ends_where_labels_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)  # process-wide, not ours to change
    for number in range(40):
        for path in (Path("photos", ("dent", "ok")[number % 2], f"{number}.png"), Path("new", f"{number}.png")):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((20, 20), 40 + number).convert("RGB").save(path)
    assert main([*shlex.split(command), *SHORT]) == 0, capsys.readouterr()
    for name in (tasks.LABEL_CONFIG, tasks.TASKS):
        (found,) = tmp_path.glob(f"runs/**/to_label/{name}")
        assert str(found.name) in DOCUMENT


def test_the_document_has_the_names_of_the_code() -> None:
    for name in (exchange.EXPORT, exchange.TOKEN, tasks.LABEL_CONFIG, tasks.TASKS):
        assert f"`{name}`" in DOCUMENT
    assert "up to 2 MiB each and 100 MiB a batch" in DOCUMENT
    assert (tasks._MOST_OF_AN_IMAGE, tasks._MOST_OF_A_BATCH) == (2 * 2**20, 100 * 2**20)
    assert len(DOCUMENT.splitlines()) <= 80
    assert COMMANDS


def test_the_document_starts_a_server_that_is_nobody_elses() -> None:
    assert "--internal-host 127.0.0.1 " in real_server.START
    assert "COLLECT_ANALYTICS=false" in real_server.START
    assert "label-studio==1.23.2" in real_server.INSTALL
