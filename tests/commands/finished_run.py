"""A finished run on images in files, which the commands that come after a run are tried on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from assl_lightning.commands import messages
from assl_lightning.commands.train import main as train

RUN = [
    *("data=folder", "data.root=photos", "data.image_size=[16,16]", "data.source.labels=labels.csv", "rounds=1"),
    "data.source.class_names=[blue,red]",
    *("hold_out=40", "initial_labels=8", "labels_per_round=8", "warm_up=none", "steps_per_round=30"),
    *("algorithm.batch_size=8", "trainer.accelerator=cpu", "network.width=4", "name=run"),
]
RUN_DIR = Path("runs/run/seed_0")
COUNT = 120


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with photos, red ones and blue ones, and a run on them."""
    root = tmp_path_factory.mktemp("made")
    for number in range(COUNT):
        path = root / "photos" / ("blue", "red")[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = ((30, number, 225 - number), (225 - number, number, 30))[number % 2]
        Image.new("RGB", (20, 30), colour).save(path)
    names = [f"{('blue', 'red')[number % 2]}/{number:03}.png" for number in range(COUNT)]
    rows = "".join(f"{name},{name.partition('/')[0]}\n" for name in names)
    (root / "labels.csv").write_text(f"sample_id,label\n{rows}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(messages, "set_up_messages", lambda: None)
        assert train(RUN) == 0
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of that directory, and make it the working directory."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    for command in ("audit", "export", "predict"):
        monkeypatch.setattr(f"assl_lightning.commands.{command}.set_up_messages", lambda: None)
    return tmp_path / "copy"
