"""A class that turns up while people label, from the command line."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assl_lightning.base.run_files import LEDGER
from assl_lightning.check.__main__ import main as check_main
from assl_lightning.commands import messages
from assl_lightning.commands.classes import main as classes_main
from assl_lightning.commands.train import main
from assl_lightning.config.classifier import load_classifier
from assl_lightning.config.instantiate import make_algorithm, make_network
from assl_lightning.data.answers import Answer
from assl_lightning.data.sample_names import read_samples
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.records import read_config, read_records
from assl_lightning.loop.run_config import RunConfig
from assl_lightning.loop.training import RoundTraining
from assl_lightning.people.batch import LabelBatch, find_batches
from assl_lightning.people.ledger import Ledger
from tests.test_growing_folder import environment

pytestmark = pytest.mark.e2e

RUN = (
    *("data=folder", "data.root=photos", "oracle=file", "run_dir=run", "network=small_cnn", "network.width=4"),
    *("data.channels=1", "data.image_size=[8,8]", "rounds=3", "initial_labels=4", "labels_per_round=3", "hold_out=4"),
    *("warm_up=none", "steps_per_round=3", "algorithm.batch_size=2", "algorithm.mu=2", "trainer.accelerator=cpu"),
    *("algorithm.weight_ema=0.8", "oracle.show_predictions=true"),
)
TIMEOUT = 240  # seconds, of a command that takes twenty
TWO, THREE = ("dark", "light"), ("dark", "light", "middle")
LEVELS = {"dark": 0, "light": 180, "middle": 90}


def named(names: tuple[str, ...]) -> str:
    return f"data.source.class_names=[{','.join(names)}]"


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty images of three levels of grey in the working directory; the name says the class."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)  # process-wide, not ours to change
    for number in range(30):
        draw("photos", number)
    return tmp_path / "photos"


def draw(root: str, number: int, level: int | None = None) -> Path:
    kind = THREE[number % 3]
    pixels = np.random.default_rng(number).integers(0, 40, (8, 8)) + (LEVELS[kind] if level is None else level)
    path = Path(root, f"{number * 37 % 100:02d}_{kind}.png")
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def class_of(sample_id: str, names: tuple[str, ...]) -> str:
    """What is shown; as long as nobody knows of grey, it is taken for dark."""
    shown = sample_id.rpartition("_")[2].removesuffix(".png")
    return shown if shown in names else "dark"


def label(names: tuple[str, ...]) -> LabelBatch:
    """Write labels.csv beside the newest batch."""
    batch = find_batches(Path("run"))[-1]
    with (batch.directory / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample_id", "label"])
        writer.writerows([one.sample_id, class_of(one.sample_id, names)] for one in batch.samples)
    return batch


def call(names: tuple[str, ...], *overrides: str) -> None:
    assert main([*RUN, named(names), *overrides]) == 0


def labels_of(number: int) -> dict[str, int]:
    """Sample id → its label's number while a round trains, of those that have one."""
    labels = RunDirectory(Path("run")).load_tensors(number, "pool.pt")["labels"].tolist()
    known = zip(read_samples(Path("run")).pool, labels, strict=True)
    return {name: label for name, label in known if label >= 0}


def weights_of(number: int, state: str = "current_model_state") -> dict[str, torch.Tensor]:
    content: dict[str, torch.Tensor] = RunDirectory(Path("run")).load_tensors(number, "final.ckpt")[state]
    return content


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The weights with which each training begins."""
    found: list[dict[str, torch.Tensor]] = []
    fit = RoundTraining._fit

    def watched(self: RoundTraining, trainer: Any, algorithm: Any, number: int) -> None:
        found.append({name: value.clone() for name, value in algorithm.state_dict().items()})
        fit(self, trainer, algorithm, number)

    monkeypatch.setattr(RoundTraining, "_fit", watched)
    return found


class Killed(BaseException):
    pass


@pytest.fixture
def killed_in_training(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A call that dies in its next training."""

    def dies(names: tuple[str, ...], *overrides: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(RoundTraining, "_fit", lambda *_: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                main([*RUN, named(names), *overrides])

    return dies


@pytest.mark.parametrize(
    ("init", "raw"),
    [
        pytest.param(
            ("init=continue", "acquisition=assl", "score.reset=false", "acquisition.unvisited=random"),
            True,
            id="continue",
        ),
        pytest.param(("init=continue", "continue_from=ema"), False, id="from the average", marks=pytest.mark.slow),
        pytest.param(
            ("init=continue", "algorithm=softmatch"), True, id="with running averages", marks=pytest.mark.slow
        ),
        pytest.param(
            ("init=continue", "algorithm.module.balanced_head=true"), True, id="with two heads", marks=pytest.mark.slow
        ),
        pytest.param((), None, id="rand", marks=pytest.mark.slow),
    ],
)
def test_a_class_that_is_new_joins_the_batch_that_waits_and_the_next_training(
    starts: list[dict[str, torch.Tensor]], init: tuple[str, ...], raw: bool | None
) -> None:
    call(TWO, *init)
    label(TWO)
    call(TWO, *init)
    batch = find_batches(Path("run"))[-1]
    first = batch.samples[0].sample_id
    Ledger(Path("run") / LEDGER).append([Answer(first, "label", "Ann", "page", 1, label="light")])
    assert load_classifier("run").class_names == TWO
    before = weights_of(0, "current_model_state" if raw else "state_dict")

    call(THREE, *init)  # while labels are waited for
    batch = find_batches(Path("run"))[-1]
    assert json.loads((batch.directory / "batch.json").read_text())["class_names"] == list(THREE)
    (note,) = read_config(Path("run"))["history"]["changes"]
    assert "data.source.class_names was ['dark', 'light'], now ['dark', 'light', 'middle']" in note["changes"]
    assert load_classifier("run").class_names == TWO, "what was trained knows no other"

    (batch.directory / "labels.csv").write_text(
        "sample_id,label\n" + "".join(f"{one.sample_id},middle\n" for one in batch.samples[1:])
    )
    earlier = next(name for name in labels_of(0) if name.endswith("middle.png"))
    Ledger(Path("run") / LEDGER).append([Answer(earlier, "label", "", "a correction", 0, label="middle")])
    old = labels_of(0)
    call(THREE, *init)
    new = labels_of(1)
    assert new == old | {earlier: 2, first: 1} | {one.sample_id: 2 for one in batch.samples[1:]}
    assert [record.num_classes for record in read_records(Path("run"))] == [2]
    assert weights_of(1)["network.head.weight"].shape[0] == 3
    assert load_classifier("run").class_names == THREE

    first_start, initial = starts
    of_heads = [name for name in initial if name.startswith(("network.head.", "judging_head."))]
    assert len(of_heads) == (4 if "algorithm.module.balanced_head=true" in init else 2)
    for name in of_heads:
        fresh = _initial_head(init)[name]
        assert torch.equal(initial[name][2], fresh[2]), "a new row is drawn by the seed alone"
        kept = fresh[:2] if raw is None else before[name]
        assert torch.equal(initial[name][:2], kept)
    assert first_start["network.head.weight"].shape[0] == 2


def _initial_head(init: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """A run that begins with three classes begins with these weights."""
    from hydra import compose, initialize_config_dir

    from assl_lightning.base.seeding import derive_key
    from assl_lightning.config.compose import conf_dir, validate

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = validate(compose("config", [*RUN, named(THREE), *init]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_key(config.settings.seed, "initial_weights"))
        return make_algorithm(config, make_network(config)).state_dict()


def test_a_round_keeps_its_classes_and_the_next_batch_offers_the_new_one_in_the_same_call(
    killed_in_training: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    call(TWO)
    label(TWO)
    killed_in_training(TWO)
    with caplog.at_level("INFO", "assl_lightning"):
        call(THREE)
    assert "classes that are new: middle; the round under way keeps its 2" in caplog.text
    assert "classes that are new: middle; round 1 is the first to train with them" in caplog.text
    assert weights_of(0)["network.head.weight"].shape[0] == 2
    assert find_batches(Path("run"))[-1].class_names == THREE
    label(THREE)
    call(THREE)
    assert weights_of(1)["network.head.weight"].shape[0] == 3


def test_a_class_may_be_new_before_the_first_training_and_after_the_last() -> None:
    call(TWO, "rounds=0")
    call(THREE, "rounds=0")
    label(THREE)
    call(THREE, "rounds=0")
    (record,) = read_records(Path("run"))
    assert record.num_classes == 3
    four = (*THREE, "odd")
    call(four, "rounds=1")  # queries, and asks
    assert find_batches(Path("run"))[-1].class_names == four
    label(four)
    call(four, "rounds=1")
    assert [record.num_classes for record in read_records(Path("run"))] == [3, 4]


def test_a_kill_between_the_two_files_is_made_good_by_the_same_command(monkeypatch: pytest.MonkeyPatch) -> None:
    call(TWO)
    with monkeypatch.context() as patch:
        patch.setattr(RunConfig, "_note", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            main([*RUN, named(THREE)])
    assert read_config(Path("run"))["data"]["num_classes"] == 2
    call(THREE)
    assert read_config(Path("run"))["data"]["num_classes"] == 3
    assert find_batches(Path("run"))[-1].class_names == THREE
    assert len(json.loads(Path("run/classes.json").read_text())["changes"]) == 2


def test_any_other_change_is_refused_in_one_line_that_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    call(TWO)
    capsys.readouterr()
    assert main([*RUN, named(("dark", "bright"))]) == 1
    assert capsys.readouterr().err == (
        "error: data.source.class_names=[dark, bright]: the run's classes are dark, light, but dark, bright were asked "
        "for; to rename one, python -m assl_lightning.classes run --rename light=bright; or choose another "
        "run_dir than run\n"
    )
    assert not Path("run/classes.json").exists()


def test_names_and_their_number_must_agree_and_the_number_follows(
    capsys: pytest.CaptureFixture[str], compose_run: Callable[..., Any]
) -> None:
    config = compose_run(*RUN, named(THREE))
    assert (config.data.num_classes, config.network["num_classes"]) == (3, 3)
    assert main([*RUN, named(THREE), "data.num_classes=2"]) == 1
    assert capsys.readouterr().err == (
        "error: data.num_classes=2, data.source.class_names=[dark, light, middle]: must be as many, but the names are "
        "3; give data.num_classes=3, or name 2 classes\n"
    )


def test_a_check_accepts_a_class_that_is_new_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    call(TWO)
    assert check_main([*RUN, named(THREE)]) == 0, capsys.readouterr()
    assert "holds this run, to go on with" in capsys.readouterr().out
    assert not Path("run/classes.json").exists()


# --- renaming and merging ---------------------------------------------------------------------------------------------


def test_a_merge_makes_the_head_smaller_and_taking_it_back_tells_the_classes_apart_again(
    starts: list[dict[str, torch.Tensor]],
) -> None:
    go_on, merged = ("init=continue", "seed=1"), ("dark", "other")
    call(THREE, *go_on)
    label(THREE)
    call(THREE, *go_on)
    before = weights_of(0)
    old = labels_of(0)
    assert {THREE[number] for number in old.values()} == {*THREE}
    assert classes_main(["run", "--merge", "light,middle=other"]) == 0
    batch = find_batches(Path("run"))[-1]
    text = "".join(f"{one.sample_id},{'dark' if 'dark' in one.sample_id else 'other'}\n" for one in batch.samples)
    (batch.directory / "labels.csv").write_text(f"sample_id,label\n{text}")
    call(merged, *go_on)
    assert {name: labels_of(1)[name] for name in old} == {name: min(label, 1) for name, label in old.items()}
    head = starts[-1]["network.head.weight"]
    assert torch.equal(head[0], before["network.head.weight"][0])
    torch.testing.assert_close(head[1], before["network.head.weight"][1:].mean(0))
    assert weights_of(1)["network.head.bias"].shape == (2,)
    assert load_classifier("run").class_names == merged

    others = [
        one.id for one in Ledger(Path("run") / LEDGER).active_answers() if one.label == "other" and one.round == 1
    ]
    Ledger(Path("run") / LEDGER).revoke([number for number in others if number is not None], "Ann", "undo")
    assert classes_main(["run", "--undo"]) == 0
    label(THREE)
    call(THREE, *go_on)
    assert {name: labels_of(2)[name] for name in old} == old, "people's answers are as they were given"
    assert [record.num_classes for record in read_records(Path("run"))] == [3, 2]
    assert weights_of(2)["network.head.bias"].shape == (3,)


def test_a_labels_file_may_say_the_old_name_of_a_class() -> None:
    names = sorted(path.name for path in Path("photos").iterdir())
    Path("known.csv").write_text(
        "sample_id,label\n" + "".join(f"{name},{class_of(name, THREE)}\n" for name in names[:6])
    )
    known = ("data.source.labels=known.csv", "initial_labels=0")
    call(THREE, *known)
    before = {name: THREE.index(class_of(name, THREE)) for name in names[:6]}
    assert classes_main(["run", "--rename", "dark=black", "--merge", "light,middle=other"]) == 0
    after = ("black", "other")
    batch = find_batches(Path("run"))[-1]
    text = "".join(f"{one.sample_id},{class_of(one.sample_id, THREE)}\n" for one in batch.samples)
    (batch.directory / "labels.csv").write_text(f"sample_id,label\n{text}")
    call(after, *known)
    found = labels_of(0)
    assert {name: found[name] for name in before} == {name: min(label, 1) for name, label in before.items()}


# --- class lists that the data have ----------------------------------------------------------------------------------

OPEN = (
    *RUN,
    "data=image_folder",
    "data.root=sorted",
    "hold_out=0",
    "data.source.test_root=test",
    "known_labels=hidden",
)


@pytest.fixture
def directories() -> None:
    """A directory for each of two classes, for the pool and for the test."""
    for number in range(30):
        if number % 3 < 2:
            draw("sorted", number).rename(_in_its_class("sorted", number))
            draw("test", number).rename(_in_its_class("test", number))


def _in_its_class(root: str, number: int) -> Path:
    path = Path(root, THREE[number % 3], f"{number}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.usefixtures("directories")
def test_a_new_directory_is_a_class_where_the_number_of_classes_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*OPEN, "data.num_classes=2"]) == 0
    for number in (2, 5):
        draw("sorted", number).rename(_in_its_class("sorted", number))
    capsys.readouterr()
    assert main([*OPEN, "data.num_classes=2"]) == 1
    error = capsys.readouterr().err
    assert "middle/ (2 images) is not among the classes" in error
    assert "; a new class joins with data.num_classes=3\n" in error
    assert main([*OPEN, "data.num_classes=4"]) == 1
    assert "the run has 2 classes, dark, light, and the data have middle besides" in capsys.readouterr().err
    assert main([*OPEN, "data.num_classes=3"]) == 0
    batch = find_batches(Path("run"))[-1]
    assert batch.class_names == THREE
    truth = {one.sample_id: one.sample_id.partition("/")[0] for one in batch.samples}
    text = "".join(f"{name},{kind}\n" for name, kind in truth.items())
    (batch.directory / "labels.csv").write_text(f"sample_id,label\n{text}")
    assert main([*OPEN, "data.num_classes=3"]) == 0
    assert read_config(Path("run"))["data"]["source"]["class_names"] == list(THREE)
    assert weights_of(0)["network.head.weight"].shape[0] == 3
    assert "middle/2.png" in read_samples(Path("run")).pool


def test_a_label_that_is_new_in_a_manifest_is_a_class_where_the_number_of_classes_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = ["path,label,split"]
    for number in range(27):
        kind = THREE[number % 3]
        test = "test" if number < 9 else "pool"
        known = kind if number < 12 else ""
        if kind != "middle":
            lines.append(f"photos/{number * 37 % 100:02d}_{kind}.png,{known},{test}")
    table = Path("images.csv")
    table.write_text("\n".join(lines) + "\n")
    manifest = (*RUN, "data=manifest", "data.root=null", "data.source.manifest=images.csv", "hold_out=0", "rounds=1")
    assert main([*manifest, "data.num_classes=2"]) == 0
    new = f"{29 * 37 % 100:02d}_middle.png"
    table.write_text("\n".join([*lines, f"photos/{new},middle,pool"]) + "\n")
    capsys.readouterr()
    assert main([*manifest, "data.num_classes=2"]) == 1
    assert "; a new class joins with data.num_classes=3\n" in capsys.readouterr().err
    assert main([*manifest, "data.num_classes=3"]) == 0
    batch = find_batches(Path("run"))[-1]
    text = "".join(f"{one.sample_id},{class_of(one.sample_id, THREE)}\n" for one in batch.samples)
    (batch.directory / "labels.csv").write_text(f"sample_id,label\n{text}")
    assert main([*manifest, "data.num_classes=3"]) == 0
    assert labels_of(0)[f"photos/{new}"] == 2
    assert weights_of(0)["network.head.weight"].shape[0] == 3


# --- two processes ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_two_processes_go_on_with_a_round_that_was_stopped_and_then_ask_with_the_new_class() -> None:
    ddp = ("trainer.devices=2", "trainer.strategy=ddp", "checkpoint.every_n_steps=1")

    def start(names: tuple[str, ...]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "assl_lightning", *RUN, named(names), *ddp]
        return subprocess.Popen(
            command,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    start(TWO).communicate(timeout=TIMEOUT)
    label(TWO)
    process = start(TWO)
    until = time.monotonic() + TIMEOUT
    while not any(Path("run/round_00/resume").glob("*.ckpt")) and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=TIMEOUT)
    process = start(THREE)
    printed, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, errors) == (0, "")
    assert printed.count("the round under way keeps its 2") == printed.count("round 1 is the first to train with") == 1
    label(THREE)
    start(THREE).communicate(timeout=TIMEOUT)
    assert weights_of(1)["network.head.weight"].shape[0] == 3
