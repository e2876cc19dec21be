"""Where a run is, told without torch."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from assl_lightning.commands.status import main, wait_for_answers
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.people.batch import find_batches
from assl_lightning.people.label_studio.exchange import labels_by_label_studio
from tests import test_warm_up
from tests.people.label_studio.fake_server import LEGACY, FakeLabelStudio, serving
from tests.people.label_studio.test_server import Server
from tests.people.test_oracle import SETTINGS, fill_in, label_all, run, say, to_the_end
from tests.shell import run_python
from tests.test_resuming import Stopped, stopped_run
from tests.test_warm_up import StopWarmUpAt


def told(capsys: pytest.CaptureFixture[str], run_dir: Path) -> dict[str, str]:
    """What is printed, by its first word."""
    capsys.readouterr()
    assert main([str(run_dir)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith(str(run_dir))
    return {line.split()[0]: line.strip().partition(" ")[2].strip() for line in lines}


def test_each_run_below_a_directory_is_told_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b/seed_0", "a/seed_1", "a/seed_0"):
        directory = tmp_path / name
        directory.mkdir(parents=True)
        (directory / "config.yaml").write_text("rounds: 1\nname: sweep\n")
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path), str(tmp_path / "b" / "seed_0"), str(tmp_path / "empty")]) == 1
    printed = capsys.readouterr()
    heads = [line for line in printed.out.splitlines() if not line.startswith("  ")]
    assert heads == [f"{tmp_path / name} (sweep)" for name in ("a/seed_0", "a/seed_1", "b/seed_0", "b/seed_0")]
    assert printed.err.startswith(f"error: {tmp_path / 'empty'} must be the directory of a run, but has no config.yaml")


@pytest.mark.e2e
def test_a_run_is_told_at_each_of_its_stations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "run"
    run(run_dir)
    before = told(capsys, run_dir)
    assert before["round"] == "0 of 2: waits for labels"
    assert before["answers"] == "0 of 6"
    assert before["later"] == "8 more to label, 4 in each of 2 rounds"
    assert before["next"].startswith(
        f"label {run_dir}/round_00/to_label, by python -m assl_lightning.label {run_dir} or"
    )
    assert "accuracy" not in before

    samples = label_all(run_dir, at_0=None, at_1="!").samples
    full = told(capsys, run_dir)
    assert full["answers"] == "6 of 6, 1 skipped, 1 bad"
    assert full["next"] == "give again the command that began it, and the run goes on"
    say(run_dir, {samples[2].sample_id: "narrow"}, annotator="Bo")
    say(run_dir, {samples[2].sample_id: "wide"}, annotator="Cy")
    disputed = told(capsys, run_dir)
    assert disputed["answers"] == "6 of 6, 1 skipped, 1 bad, people disagree about 1"
    command = f"python -m assl_lightning.label {run_dir} --settle"
    assert disputed["next"] == f"settle what people disagree about, on the page that {command} opens"

    for annotator in ("Ann", "Bo", "Cy"):
        say(run_dir, {samples[2].sample_id: "wide"}, annotator=annotator)
    run(run_dir)
    trained = told(capsys, run_dir)
    assert trained["round"] == "1 of 2: waits for labels", "as the directory and the page call it"
    assert trained["labels"] == "4 trained on, 4 asked for since"
    assert trained["later"] == "4 more to label, in the last round"
    assert trained["accuracy"].endswith("% (averaged weights, by round)")

    early = tmp_path / "early"
    shutil.copytree(run_dir, early)
    run(early, settings=replace(SETTINGS, rounds=0))
    assert told(capsys, early)["round"] == "0 of 0: finished"
    assert told(capsys, early)["labels"] == "4 trained on"

    to_the_end(run_dir)
    ended = told(capsys, run_dir)
    assert ended["round"] == "2 of 2: finished"
    assert len(ended["accuracy"].split("%")[0].split()) == 3
    assert ended["next"].startswith(f"python -m assl_lightning.report {run_dir}")
    assert f"python -m assl_lightning.predict {run_dir} tells the classes of all other images; " in ended["next"]


@pytest.mark.e2e
def test_a_warm_up_is_told_while_it_lasts_and_when_it_is_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    settings = replace(test_warm_up.SETTINGS, config={"warm_up": {"_target_": "a.SimCLR"}})
    with pytest.raises(Stopped):
        test_warm_up.run(run_dir, StopWarmUpAt(5), settings=settings)
    stopped = told(capsys, run_dir)
    assert stopped["round"] == "0 of 1: stopped (warming up, last saved at step 4)"
    assert "warm-up" not in stopped
    test_warm_up.run(run_dir, settings=settings)
    assert re.fullmatch(r"7 steps on 60 images, [\d.,]+ s", told(capsys, run_dir)["warm-up"])


def test_a_share_that_is_enough_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"oracle": {"min_fraction": 0.5, "conflicts": "latest", "tool": {"_target_": "x.label_studio.Y"}}}
    run(tmp_path / "run", settings=replace(SETTINGS, config=config))
    (batch,) = find_batches(tmp_path / "run")
    waiting = told(capsys, tmp_path / "run")
    assert waiting["answers"] == "0 of 6, 3 are enough"
    assert waiting["next"].endswith("in Label Studio")
    assert waiting["then"] == "give again the command that began it, and the run goes on"
    say(tmp_path / "run", {sample.sample_id: "wide" for sample in batch.samples[:3]})
    say(tmp_path / "run", {batch.samples[0].sample_id: "narrow"}, annotator="Bo")
    assert told(capsys, tmp_path / "run")["answers"] == "3 of 6, 3 are enough"
    assert told(capsys, tmp_path / "run")["next"] == "give again the command that began it, and the run goes on"


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("typed", "told_later"),
    [
        (["/bin/python3", "-m", "assl_lightning", "name=a b"], "python -m assl_lightning 'name=a b'"),
        (["python", "/opt/bin/assl-lightning", "seed=1"], "assl-lightning seed=1"),
        (["python", "train.py"], "the command that began it"),
        (["python"], "the command that began it"),
    ],
)
def test_the_command_that_began_a_run_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
    told_later: str,
) -> None:
    monkeypatch.setattr(sys, "orig_argv", typed)
    run(tmp_path / "run")
    label_all(tmp_path / "run")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "assl_lightning", "something=else"])
    run(tmp_path / "run")
    label_all(tmp_path / "run")
    assert told(capsys, tmp_path / "run")["next"] == f"give again {told_later}, and the run goes on"


def test_the_command_that_gave_a_run_more_rounds_is_told_from_then_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "assl_lightning", "rounds=1"])
    run(tmp_path / "run", settings=replace(SETTINGS, rounds=1))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "assl_lightning", "rounds=3"])
    run(tmp_path / "run", settings=replace(SETTINGS, rounds=3))
    expected = "give again python -m assl_lightning rounds=3, and the run goes on"
    assert told(capsys, tmp_path / "run")["then"] == expected


@pytest.mark.e2e
def test_a_run_that_was_stopped_and_one_that_runs_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    stopped_run(run_dir)
    stopped = told(capsys, run_dir)
    assert stopped["round"].startswith("0 of 1: stopped (training, last saved at step 8)")
    assert stopped["next"] == "give again the command that began it, and the run goes on"
    with RunDirectory(run_dir).held():
        running = told(capsys, run_dir)
    assert running["round"].startswith("0 of 1: training, last saved at step ")
    assert running["next"] == "nothing: a process runs it"


def test_what_is_no_run_is_a_line_and_the_others_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "run")
    assert main([str(tmp_path / "nothing"), str(tmp_path / "run")]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {tmp_path / 'nothing'} must be the directory of a run; there is no such")
    assert "waits for labels" in printed.out
    (tmp_path / "run" / "config.yaml").write_text("rounds: many\n")
    assert main([str(tmp_path / "run")]) == 1
    assert "must say how many rounds there are; got 'many'" in capsys.readouterr().err


@pytest.mark.e2e
def test_neither_torch_nor_lightning_is_waited_for() -> None:
    code = "import sys, assl_lightning.status; print({'torch', 'lightning', 'numpy', 'hydra'} & sys.modules.keys())"
    done = run_python("-c", code)
    assert done.stdout == "set()\n"


class TestWaiting:
    def wait(self, run_dir: Path, happens: list[Callable[[], object]]) -> list[str]:
        """Wait while one thing after the other happens; what was told."""
        told: list[str] = []
        asleep: list[float] = []

        def sleep(seconds: float) -> None:
            asleep.append(seconds)
            happens.pop(0)()

        wait_for_answers(run_dir, 7.0, lambda status: told.append(status.answered), sleep)
        assert not happens, "it came back too early"
        assert set(asleep) <= {7.0}
        return told

    def test_it_ends_when_enough_is_in_the_ledger(self, tmp_path: Path) -> None:
        run(tmp_path / "run")
        (batch,) = find_batches(tmp_path / "run")
        say_two = partial(say, tmp_path / "run", {sample.sample_id: "wide" for sample in batch.samples[:2]})
        told = self.wait(tmp_path / "run", [lambda: None, say_two, lambda: None, partial(label_all, tmp_path / "run")])
        assert told == ["0 of 6", "2 of 6", "6 of 6"]

    def test_it_ends_when_a_file_lies_beside_the_batch(self, tmp_path: Path) -> None:
        config = {"oracle": {"tool": {"_target_": "assl_lightning.people.LabelsByFile"}}}
        run(tmp_path / "run", settings=replace(SETTINGS, config=config))
        (batch,) = find_batches(tmp_path / "run")
        self.wait(tmp_path / "run", [lambda: None, (batch.directory / "labels.csv").touch])

    def test_it_ends_when_the_table_is_filled_in_where_it_lies(self, tmp_path: Path) -> None:
        run(tmp_path / "run")
        (batch,) = find_batches(tmp_path / "run")
        told = self.wait(tmp_path / "run", [partial(fill_in, batch, 2), lambda: None, partial(fill_in, batch, 6)])
        assert told == [
            f"0 of 6{more}" for more in ("", *(f", {n} more in to_label.csv, which the run takes over" for n in (2, 6)))
        ]

    def test_it_ends_when_the_tasks_in_label_studio_are_done(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with serving(FakeLabelStudio(document_root=tmp_path)) as fake:
            monkeypatch.setenv("LABEL_STUDIO_API_KEY", LEGACY)
            target = "assl_lightning.people.labels_by_label_studio"
            config = {"oracle": {"min_fraction": 0.5, "tool": {"_target_": target, "url": fake.url}}}
            run(tmp_path / "run", tool=labels_by_label_studio(fake.url), settings=replace(SETTINGS, config=config))
            server = Server(fake.url, LEGACY, tmp_path)
            first, second, third, *_ = server.task_numbers(1).values()
            answers: list[Callable[[], object]] = [
                partial(server.annotate, number, label) for (number,), label in ((first, "wide"), (second, None))
            ]
            self.wait(tmp_path / "run", [*answers, partial(server.annotate, third[0], "wide")])

    @pytest.mark.e2e
    def test_what_waits_for_nobody_is_told_at_once(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        to_the_end(tmp_path / "run")
        assert main([str(tmp_path / "run"), "--wait"]) == 0
        assert "finished" in capsys.readouterr().out
