"""A network, a module and data of the user's own in the loop: what docs/your_loop.md tells to write and to type."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]
from lightning.pytorch import LightningModule
from torch import nn

from assl_lightning.acquisition.random import RandomSampling
from assl_lightning.acquisition.uncertainty import Margin
from assl_lightning.commands import messages
from assl_lightning.commands.train import main
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.loop.records import read_records
from assl_lightning.loop.settings import RoundSettings
from tests import small_runs
from tests.stripes import CLASSES

pytestmark = pytest.mark.e2e

DOCUMENT = (Path(__file__).parents[1] / "docs" / "your_loop.md").read_text()
CODE = "\n\n".join(re.findall(r"^```python\n(.+?)^```", DOCUMENT, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^python -m assl_lightning (.+)$", DOCUMENT, re.MULTILINE)
SHORT = ["rounds=1", "warm_up=none", "steps_per_round=2", "algorithm.batch_size=4", "trainer.accelerator=cpu"]
SETTINGS = RoundSettings(rounds=1, initial_labels=6, labels_per_round=3, steps_per_round=4)


@pytest.fixture
def their(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The document's code, as a module that commands can import."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)  # process-wide, not ours to change
    Path("their.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("their", None)
    yield __import__("their")
    sys.modules.pop("their", None)


@pytest.mark.parametrize("command", COMMANDS, ids=["network", "module", "data"])
def test_a_command_of_the_document_works(their: Any, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([*shlex.split(command), *SHORT]) == 0, capsys.readouterr()
    name = command.rpartition("name=")[2]
    config = yaml.safe_load(Path("runs", name, "seed_0", "config.yaml").read_text())
    expected: dict[str, tuple[Any, Any]] = {
        "network": (config["network"], {"_target_": "their.Net", "num_classes": 10, "depth": 2}),
        "module": (
            config["algorithm"]["module"],
            {"_target_": "their.LabelSmoothing", "_partial_": True, "smoothing": 0.2},
        ),
        "data": (config["data"]["source"].get("pool"), {"_target_": "their.Patches", "count": 300}),
    }
    found, wanted = expected[name]
    assert found == wanted
    records = read_records(Path("runs", name, "seed_0"))
    assert len(records) == 2
    if name == "data":
        ids = Path("runs/data/seed_0/round_00/queried.csv").read_text()
        assert len(re.findall(r",patch-\d+,", ids)) == len(records[0].queried) > 0


def test_both_work_from_python_and_start_again_to_the_same_records(their: Any, tmp_path: Path) -> None:
    def run(name: str) -> Any:
        return small_runs.run(
            tmp_path / name,
            settings=SETTINGS,
            make_network=lambda: their.Net(CLASSES),
            make_algorithm=their.LabelSmoothing,
            acquisition=Margin(),
        )

    first, second = run("a"), run("b")
    assert [record.queried for record in first] == [record.queried for record in second]
    assert [record.test_accuracy_raw for record in first] == [record.test_accuracy_raw for record in second]
    assert run("a") == first


class Foreign(LightningModule):
    """A module as people have it, which knows nothing of the loop."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        images, labels = batch
        return nn.functional.cross_entropy(self.network(images), labels)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class OwnNames(Algorithm):
    """A test under other names, which was found only after the whole training."""

    produces = frozenset()

    def __init__(self, network: Any) -> None:
        super().__init__(network, optimizer=torch.optim.Adam)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return nn.functional.cross_entropy(self(batch["labelled_image"]), batch["label"])

    def on_validation_epoch_end(self) -> None:
        self.log("accuracy", 0.5)


class OwnNamesOfTrainer(OwnNames):
    def on_validation_epoch_end(self) -> None:
        self.log("accuracy", float(self.trainer.global_step))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"make_algorithm": Foreign}, "make_algorithm must return a subclass of .*; got Foreign, a LightningModule of"),
        ({"make_algorithm": OwnNames}, r"OwnNames\.on_validation_epoch_end must log test_accuracy_raw and"),
        ({"make_network": lambda: 3}, r"make_network must return an nn\.Module that gives logits; got int"),
        (
            {"make_network": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES), nn.Softmax(-1))},
            "Sequential must give the logits that its last linear layer 1 computes; in evaluation it gives their soft",
        ),
        ({"acquisition": "margin"}, r"acquisition must be an object with `requires` and acquire\(.*\); got str"),
        ({"oracle": [0, 1]}, r"oracle must be an object with answer\(request\); got list"),
        ({"datamodule": None}, r"datamodule must be an object with the pool's images; .*; got NoneType"),
    ],
)
def test_a_part_of_another_kind_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"settings": SETTINGS, "acquisition": RandomSampling()}
    with pytest.raises((TypeError, ValueError), match=message):
        small_runs.run(tmp_path / "run", **(arguments | changes))
    assert not (tmp_path / "run").exists()


def test_a_test_that_needs_the_trainer_and_logs_other_names_ends_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        RuntimeError, match=r"the test of the training logged no test_accuracy_raw; .* it logged accuracy"
    ):
        small_runs.run(
            tmp_path / "run", settings=SETTINGS, acquisition=RandomSampling(), make_algorithm=OwnNamesOfTrainer
        )


def test_a_foreign_module_is_refused_on_the_command_line_in_one_line(
    their: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("foreign.py").write_text("from tests.test_your_loop import Foreign\n")
    assert main(["algorithm.module._target_=foreign.Foreign", *SHORT]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: algorithm.module: make_algorithm must return a subclass of")
    assert not Path("runs").exists()
