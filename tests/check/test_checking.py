"""Whole checks: of the digits, of small sources given by `_target_`, and of files in a real format."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image

from assl_lightning.check import trial
from assl_lightning.check.__main__ import main
from assl_lightning.check.checking import check_run
from assl_lightning.commands import messages, running
from assl_lightning.commands.train import main as run_main
from assl_lightning.config.schema import Config
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.method.callback import ASSLScoreCallback
from assl_lightning.method.features import SampleFeatures

pytestmark = pytest.mark.e2e

Compose = Callable[..., Config]
SMALL = ("warm_up=none", "steps_per_round=4", "algorithm.batch_size=4", "trainer.accelerator=cpu")


class Outcome(NamedTuple):
    """What a check came to."""

    code: int
    lines: list[str]  # printed
    errors: list[str]

    def starting(self, label: str) -> list[str]:
        return [line.removeprefix(label).strip() for line in self.lines if line.startswith(label)]


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """The command, in an empty directory; nothing may be left there, nor among the temporary files."""
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)  # process-wide, not ours to change
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[load.__module__])

    def run(*arguments: str) -> Outcome:
        before = sorted(tmp_path.rglob("*"))
        code = main(list(arguments))
        assert sorted(tmp_path.rglob("*")) == before
        printed = capsys.readouterr()
        return Outcome(code, [line.rstrip() for line in printed.out.splitlines()], printed.err.splitlines())

    return run


def load(image_size: int, num_test: int, split_seed: int) -> PoolSource:
    """Noise in three classes; `num_test` says what is wrong with it."""
    images = torch.randint(256, (90, 1, 8, 8), generator=torch.Generator().manual_seed(split_seed)).byte()
    labels = torch.arange(90) % 3
    unreadable = torch.arange(0)
    if num_test == LEAKING:
        images[60:] = images[:30]
    if num_test == OUT_OF_RANGE:
        labels[70] = 3
    if num_test == UNREADABLE:
        unreadable = torch.tensor([2, 5])
    if num_test == MISSING:
        raise OSError(5, "Input/output error", "/mnt/images")
    return PoolSource(
        pool_images=images[:60],
        hidden_labels=labels[:60],
        test_images=images[60:],
        test_labels=labels[60:],
        class_names=("a", "b", "c"),
        sample_ids=tuple(f"image/{index}" for index in range(60)),
        unreadable=unreadable,
    )


WHOLE, LEAKING, OUT_OF_RANGE, UNREADABLE, MISSING = range(10, 15)


def of(kind: int) -> tuple[str, ...]:
    return (
        f"data.source._target_={__name__}.load",
        f"data.source.num_test={kind}",
        *("data.name=noise", "data.num_samples=60", "data.num_classes=3", "data.image_size=[8,8]"),
        *("initial_labels=20", "rounds=2", "labels_per_round=5", *SMALL),
    )


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_default_run_has_nothing_wrong_and_a_table_of_its_time_and_its_files(check: Callable[..., Outcome]) -> None:
    outcome = check("steps_per_round=600", "trainer.accelerator=cpu", "initial_labels=100")

    assert (outcome.code, outcome.errors) == (0, [])
    assert outcome.starting("run ") == ["digits, herding, seed 0: 4 trainings of 600 steps, 100 to 130 labels"]
    assert outcome.starting("data ") == [
        "digits: 1,297 images in the pool, 500 in the test set, 10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), 1 × 16 × 16"
    ]
    assert outcome.starting("run_dir ") == ["runs/digits/seed_0: new"]
    rows = {line.split("  ")[0]: line.split("  ")[1:] for line in outcome.lines}
    assert "2,400" in " ".join(rows["training step"])
    for name in ("test", "acquisition", "round that acquires", "last round", "row of metrics", "weights (final.ckpt)"):
        assert name in rows, name
    assert outcome.starting("wrong:") == []
    assert outcome.lines[-1] == "No problems found."


@pytest.mark.parametrize(
    ("kind", "overrides", "sentences"),
    [
        (WHOLE, [], []),
        (LEAKING, [], ["30 of the 30 test images (100.00 %) are in the pool too"]),
        (OUT_OF_RANGE, [], ["data.source: the test labels must lie in [0, 3)"]),
        (MISSING, [], ["data.source: ", "Input/output error"]),
        (
            UNREADABLE,
            [],
            ["2 of the pool's 60 images cannot be decoded (image/2, image/5); fetch them again, or leave"],
        ),
        (UNREADABLE, ["data.unreadable=exclude"], []),
        (UNREADABLE, ["data.unreadable=exclude", "initial_labels=49"], ["the pool of noise has 58 images (without 2"]),
        (WHOLE, ["data.image_size=[8,9]"], ["data.image_size=[8, 9]: must be what noise has once loaded"]),
        (WHOLE, ["data.num_classes=4"], ["data.num_classes=4: must be what noise has once loaded"]),
        (WHOLE, ["data.num_samples=null", "rounds=20"], ["rounds=20, labels_per_round=5, initial_labels=20: "]),
        (WHOLE, ["run_dir=file/below"], ["cannot be made, since"]),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence_and_the_exit_code(
    check: Callable[..., Outcome], kind: int, overrides: list[str], sentences: list[str]
) -> None:
    Path("file").touch()
    outcome = check(*of(kind), *overrides)

    found = outcome.starting("wrong:")
    assert outcome.code == bool(sentences)
    assert len(found) == bool(sentences), found
    assert [sentence for sentence in sentences if sentence not in found[0]] == []
    assert outcome.lines[-1] == ("1 problem to fix before the run." if sentences else "No problems found.")
    assert outcome.errors == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["score.alhpa=1"], ["score.alhpa=1: ", "did you mean 'alpha'?"]),
        (["rounds=-1"], ["rounds=-1: must be at least 0"]),
        (["network.widht=1"], ["network.widht=1: "]),
        (["+network.widht=1"], ["network.widht=1: SmallCNN takes no argument 'widht'"]),
        (["-m", "seed=1,2"], ["a check is of one run: leave -m out"]),
        (
            ["--rounds"],
            ["--rounds: there is no such option", "as rounds=VALUE; see python -m assl_lightning.check --help"],
        ),
        (["--config-dir", "nowhere"], ["--config-dir nowhere: is not a directory"]),
    ],
)
def test_a_wrong_configuration_is_one_line_as_everywhere(
    check: Callable[..., Outcome], arguments: list[str], words: list[str]
) -> None:
    outcome = check(*arguments)

    (line,) = outcome.errors
    assert outcome.code == 1
    assert outcome.lines == []
    assert [word for word in words if word not in line] == [], line


def test_help_tells_what_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "Exit code: 0 if there are no problems" in capsys.readouterr().out


def test_a_directory_of_groups_of_ones_own_is_searched(check: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text("# @package _global_\nname: my_own\n")
    outcome = check("--config-dir", str(tmp_path / "own"), "+experiment=mine", *of(WHOLE))
    assert (outcome.code, outcome.starting("run_dir ")) == (0, ["runs/my_own/seed_0: new"])


def test_a_trial_that_fails_is_told_and_leaves_nothing(
    check: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(self: object, *arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("assl_lightning.learning.fixmatch.FixMatch.training_step", explode)
    (found,) = check(*of(WHOLE)).starting("wrong:")
    assert found == "A trial of a few steps failed: OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."


def interrupt(*arguments: Any, **keywords: Any) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def terminate(*arguments: Any, **keywords: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def leave(*arguments: Any, **keywords: Any) -> None:
    raise SystemExit


INSIDE_A_FIT = "assl_lightning.learning.fixmatch.FixMatch.training_step"
BETWEEN_FITS = "assl_lightning.loop.rounds.query"


@pytest.mark.parametrize("place", [INSIDE_A_FIT, BETWEEN_FITS])
@pytest.mark.parametrize(
    ("end", "code", "line"),
    [
        (interrupt, 130, "error: interrupted; nothing was left behind"),
        (terminate, 143, "error: terminated; nothing was left behind"),
    ],
)
def test_a_check_that_is_stopped_leaves_nothing_and_is_no_success(
    check: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, place: str, end: Any, code: int, line: str
) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(place, end)
    outcome = check(*of(WHOLE))
    assert (outcome.code, outcome.errors) == (code, [line])
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_trial_that_leaves_is_no_success(check: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BETWEEN_FITS, leave)
    (found,) = check(*of(WHOLE)).starting("wrong:")
    assert found == "A trial of a few steps ended itself with exit code None."


def test_too_little_disk_is_wrong(check: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=100_000))
    (found,) = check(*of(WHOLE)).starting("wrong:")
    assert found.startswith("The run needs ")
    assert found.endswith("has 100 kB free; make room, or choose another run_dir.")


# --- against the run itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm_up", [[], ["warm_up=simclr", "warm_up.steps=20"]], ids=["cold", "warm"])
def test_the_files_of_a_run_weigh_what_the_check_said(compose_run: Compose, tmp_path: Path, warm_up: list[str]) -> None:
    of_run = ["rounds=3", *SMALL, f"run_dir={tmp_path}/run", "initial_labels=50", "trainer/logger=none"]
    config = compose_run(*of_run, *warm_up)
    estimate = check_run(config).estimate
    assert estimate is not None
    assert not (tmp_path / "run").exists()
    if warm_up:
        (step,) = (item for item in estimate.seconds if item.name == "warm-up step")
        assert (step.times, step.each > 0) == (20, True)
    running.run(config)
    (tmp_path / "run" / "report" / "curve.png").unlink()
    weight = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    # queried.csv and thumbnails differ by a few hundred bytes from round to round
    assert estimate.kept_bytes == pytest.approx(weight, rel=0.01)


def test_where_a_run_stands_is_told_and_a_finished_one_is_not_tried(
    check: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*arguments: Any, **keywords: Any) -> Any:
        raise RuntimeError("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assl_lightning.loop.rounds.contact_sheet", die)
        assert run_main([*of(WHOLE), "rounds=1"]) == 1
    begun = check(*of(WHOLE), "rounds=1")
    assert begun.code == 0
    assert begun.starting("run_dir ") == ["runs/noise/seed_0: holds this run, to go on with: in its first round"]
    assert run_main([*of(WHOLE), "rounds=1"]) == 0
    monkeypatch.setattr(trial, "run_rounds", die)
    finished = check(*of(WHOLE), "rounds=1")
    assert finished.code == 0
    assert "finished, all 2 rounds; the run would do nothing" in finished.starting("run_dir ")[0]
    other = check(*of(WHOLE), "rounds=1", "score.alpha=0.5")
    assert "score.alpha was 0.8, now 0.5" in other.starting("wrong:")[0]


def test_a_run_that_has_images_in_its_pool_that_cannot_be_decoded_any_more_is_wrong(
    check: Callable[..., Outcome],
) -> None:
    assert run_main([*of(WHOLE), "rounds=0"]) == 0
    Path("runs/noise/seed_0/rounds.jsonl").unlink()
    found = check(*of(UNREADABLE), "rounds=0", "data.unreadable=exclude").starting("wrong:")
    assert any("2 images in its pool that cannot be decoded any more, such as image/2" in line for line in found), found


class Looking(Callback):
    """A callback of a user's: what the trial's training was."""

    steps = 0

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        type(self).steps = trainer.global_step


def test_the_trial_runs_few_steps_with_the_runs_own_callbacks_and_says_that_they_are_not_counted(
    check: Callable[..., Outcome],
) -> None:
    outcome = check(*of(WHOLE), "steps_per_round=500", f"+trainer.callbacks=[{{_target_: {__name__}.Looking}}]")
    assert outcome.code == 0
    assert sys.modules[load.__module__].Looking.steps == 13
    assert any("trainer.callbacks" in sentence for sentence in outcome.starting("remark:"))


@pytest.mark.parametrize("features", ["inference", "training"])
def test_the_query_is_timed_with_as_many_candidates_as_the_run_will_have(
    compose_run: Compose, monkeypatch: pytest.MonkeyPatch, features: str
) -> None:
    """Four steps of eight see 32 of the 1,287 at most; a run of fifty steps sees 400."""
    from assl_lightning.method.assl_div import ASSLDiv

    asked: list[int] = []
    acquire = ASSLDiv.acquire

    def note(self: ASSLDiv, candidates: Any, *arguments: Any) -> Any:
        asked.append(len(candidates))
        if features == "training":
            assert (candidates.features.abs().sum(1) > 0).all()
        return acquire(self, candidates, *arguments)

    monkeypatch.setattr(ASSLDiv, "acquire", note)
    config = compose_run(
        *("acquisition=assl_div", f"acquisition.features={features}", "trainer.accelerator=cpu"),
        *("algorithm.batch_size=4", "algorithm.mu=2", "warm_up=none", "steps_per_round=50"),
    )
    monkeypatch.setattr(trial, "_STEPS", 4)
    found = check_run(config)
    assert [finding for finding in found.findings if finding.severity == "wrong"] == []
    (count,) = asked
    assert 400 <= count <= 400 + 32


def test_what_was_visited_keeps_its_numbers() -> None:
    score = ASSLScoreCallback(6)
    score.setup(SimpleNamespace(strategy=None, precision_plugin=SimpleNamespace(convert_input=None)), None, "fit")  # type: ignore[arg-type]
    score.statistics.update(torch.tensor([1, 4]), torch.tensor([0.5, 0.25]), torch.tensor([1.0, 2.0]))
    before = score.statistics.rows(torch.tensor([1, 4]))
    trial.mark_visited(score, torch.tensor([0, 1, 2]))
    assert score.statistics.visits.tolist() == [1, 1, 1, 0, 1, 0]
    after = score.statistics.rows(torch.tensor([1, 4]))
    assert all(torch.equal(one, other) for one, other in zip(vars(before).values(), vars(after).values(), strict=True))


def test_what_was_seen_keeps_its_features_and_all_others_have_some() -> None:
    features = SampleFeatures(6)
    features.update(torch.tensor([1, 4]), torch.tensor([[3.0, 1.0], [0.0, 0.0]]))
    trial.mark_seen(features, torch.tensor([1, 2, 4, 5]))
    assert features.seen(torch.arange(6)).tolist() == [False, True, True, False, True, True]
    assert features.rows(torch.tensor([1, 4])).tolist() == [[3.0, 1.0], [0.0, 0.0]]
    assert (features.rows(torch.tensor([2, 5])) != 0).all()


# --- files in a real format ------------------------------------------------------------------------------------------


def write_mini_imagenet(root: Path) -> list[Path]:
    """Three images of each class as tables and files; the files in the tables' order."""
    (root / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    files = []
    for split, count in {"train": 64, "val": 16, "test": 20}.items():
        lines = ["filename,label"]
        for own in range(count):
            for place in range(3):
                name = f"n{split}{own:02d}_{place}.jpg"
                files.append(root / "images" / name)
                Image.fromarray(generator.integers(0, 256, (84, 84, 3), dtype=np.uint8)).save(files[-1], quality=50)
                lines.append(f"{name},n{split}{own:02d}")
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return files


@pytest.fixture
def mini_imagenet(tmp_path: Path) -> tuple[tuple[str, ...], list[Path]]:
    overrides = (
        *("data=mini_imagenet", f"data.root={tmp_path}/mini", "data.num_samples=200"),
        *("data.source.images_per_class=3", "data.source.test_per_class=1", "initial_labels=100", *SMALL),
    )
    return overrides, write_mini_imagenet(tmp_path / "mini")


def test_damaged_files_of_a_real_format_are_listed_and_left_out_where_they_may_be(
    check: Callable[..., Outcome], mini_imagenet: tuple[tuple[str, ...], list[Path]]
) -> None:
    overrides, files = mini_imagenet
    for place in (1, 5):
        files[place].write_bytes(b"<html>")
    found = "2 of the pool's 200 images cannot be decoded (mini_imagenet/ntrain00/00001, mini_imagenet/ntrain01/00002)"
    failing = check(*overrides)
    assert failing.code == 1
    assert failing.starting("wrong:") == [
        f"{found}; fetch them again, or leave them out of the run with data.unreadable=exclude."
    ]
    assert any(line.startswith("training step") for line in failing.lines)

    excluding = check(*overrides, "data.unreadable=exclude")
    assert excluding.code == 0
    assert excluding.starting("data ")[0].startswith(
        "mini_imagenet: 200 images in the pool, 2 of which cannot be decoded, 100 in the test set"
    )
    assert f"{found} and will be left out of the run, since data.unreadable=exclude." in excluding.starting("remark:")

    files[3].write_bytes(b"")  # the first of its class is the test set's
    testing = check(*overrides, "data.unreadable=exclude")
    assert testing.code == 1
    assert "3 images cannot be decoded, 1 of the test set's and 2 of the pool's: " in testing.starting("wrong:")[0]
