from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from assl_lightning.commands import messages, sweep, train
from assl_lightning.commands.jobs import Outcome
from assl_lightning.config import compose, prepare
from assl_lightning.config.hydra_keys import WITHOUT_EFFECT
from assl_lightning.config.schema import Config

pytestmark = pytest.mark.e2e


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The run_dir of every job, none of which trains; in an empty working directory."""
    seen: list[str] = []

    def run_job(config: Config) -> Outcome:
        seen.append(config.run_dir)
        return Outcome()

    for module in (train, sweep):
        monkeypatch.setattr(module, "run_job", run_job)
    monkeypatch.setattr(prepare, "check", lambda config: None)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)
    monkeypatch.chdir(tmp_path)
    return seen


TAKEN = [
    "hydra.sweep.subdir=${hydra.job.num}",  # Hydra's own default, and the loop has its own directories
    "hydra.run.dir=.",
    "hydra.job.chdir=false",
    "hydra.output_subdir=null",
    "hydra/launcher=basic",
    "hydra.help.template=x",
]
REFUSED = [
    ("hydra.run.dir=outputs", "has no effect here; run_dir=… names the run's directory"),
    ("hydra.job.chdir=true", "has no effect here; a run stays in the working directory; run_dir=…"),
    ("hydra.output_subdir=.hydra", "has no effect here; a run's configuration is in its run_dir"),
    ("hydra.sweep.subdir=${hydra.job.id}", "has no effect here; run_dir=… names each run's directory"),
    ("hydra.sweep.subdir=${hydra:job.num}", "has no effect here; run_dir=… names each run's directory"),
    ("hydra.sweep.subdir='a,b'", "has no effect here; run_dir=… names each run's directory"),
    ("hydra.sweep.dir=multirun", "is for hydra/launcher=joblib or another"),
    ("hydra.sweep.dir=${hydra.job.num}", "is for hydra/launcher=joblib or another"),
    ("hydra.sweep.dirname=x", "hydra.sweep has no key 'dirname' (did you mean 'dir'?)"),
    ("+hydra.sweep.dirname=x", "has no effect here; leave it out"),
    ("+hydra.job.env_copy=[NO_SUCH_VARIABLE]", "'NO_SUCH_VARIABLE'"),
    ("hydra.job.num=3", "has no effect here"),
    ("hydra.launcher.n_jobs=2", "hydra.launcher has no key 'n_jobs'"),
    ("hydra/launcher=jolib", "did you mean 'joblib'?"),
    ("~hydra.run", "does not support deletion"),
    ("hydra.mode=nope", "expected one of [RUN, MULTIRUN]"),
    ("hydra.searchpath=[file://nowhere]", "there is no nowhere to look for groups in"),
    ("run_dir=x/${hydra:job.num}", "Hydra's own values are none of a run's"),
    ("run_dir=x/${hydra.job.num}", "Hydra's own values are none of a run's"),
]


@pytest.mark.parametrize("override", TAKEN)
def test_what_says_what_holds_anyway_is_taken(ran: list[str], override: str) -> None:
    assert train.main([override]) == 0
    assert train.main(["-m", "seed=0,1", override]) == 0
    assert ran == ["runs/digits/seed_0", "runs/digits/seed_0", "runs/digits/seed_1"]


@pytest.mark.parametrize(
    "arguments", [pytest.param([], marks=pytest.mark.slow, id="run"), pytest.param(["-m", "seed=0"], id="sweep")]
)
@pytest.mark.parametrize(("override", "words"), REFUSED, ids=[override for override, _ in REFUSED])
def test_what_would_do_nothing_is_refused_in_one_line_and_leaves_nothing(
    ran: list[str], capsys: pytest.CaptureFixture[str], arguments: list[str], override: str, words: str
) -> None:
    assert train.main([*arguments, override]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert ran == []
    assert list(Path.cwd().iterdir()) == []


def test_several_values_for_a_key_of_hydra_are_refused_with_the_words_that_would_do(
    ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["-m", "seed=0,1", "hydra.sweep.subdir=a,b"]) == 1
    assert capsys.readouterr().err == (
        "error: hydra.sweep.subdir=a,b: Hydra's own keys take one value; if the commas belong to it, write "
        "hydra.sweep.subdir='\"a,b\"'\n"
    )


def test_an_error_that_all_jobs_of_a_sweep_share_is_one_line(
    ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["-m", "seed=range(5)", "run_dir=x/${hydra:job.num}"]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: job 1 (seed=0) and 4 more jobs: run_dir=x/")


def test_a_key_without_effect_is_refused_in_a_file_too(
    ran: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\nhydra: {run: {dir: outputs}}\n")

    assert train.main(["--config-dir", "mine", "+experiment=own"]) == 1
    assert capsys.readouterr().err.startswith("error: hydra.run.dir=outputs: has no effect here; run_dir=… names")


def test_the_defaults_are_those_of_the_configuration() -> None:
    with initialize_config_dir(str(compose.conf_dir()), version_base="1.3", job_name="test"):
        hydra: Any = GlobalHydra.instance().hydra
        composed = hydra.compose_config("config", [], RunMode.RUN, from_shell=False)
    plain = OmegaConf.to_container(composed.hydra, resolve=False)

    def value(key: str) -> object:
        found: object = plain
        for part in key.split("."):
            assert isinstance(found, dict)
            found = found[part]
        return found

    assert {key: value(key) for key in WITHOUT_EFFECT} == {key: pair[0] for key, pair in WITHOUT_EFFECT.items()}


def test_the_groups_are_those_that_hydra_lists() -> None:
    with initialize_config_dir(str(compose.conf_dir()), version_base="1.3", job_name="test"):
        hydra: Any = GlobalHydra.instance().hydra
        groups = compose.list_groups(hydra)
        assert {"data", "trainer/logger", "hydra/launcher"} <= set(groups)
        assert sorted(groups) == sorted(hydra.list_all_config_groups())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status"], "python -m assl_lightning.status"),
        (["status", "runs/a b", "--wait"], "python -m assl_lightning.status 'runs/a b' --wait"),
        (["ingset", "runs/x", "labels.csv"], "python -m assl_lightning.ingest runs/x labels.csv"),
        (["check", "seed=1"], "python -m assl_lightning.check seed=1"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_another_command_is_told_apart_from_an_override(
    ran: list[str], capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert train.main(arguments) == 1
    assert capsys.readouterr().err == f"error: {arguments[0]}: is a command of its own; write {words}\n"


def test_every_command_is_known() -> None:
    package = Path(train.__file__).parents[1]
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__main__.py")
    }
    files = {name: package / name / "__main__.py" for name in modules} | {
        path.stem: path for path in package.glob("*.py")
    }
    commands = {name for name, file in files.items() if 'if __name__ == "__main__"' in file.read_text(encoding="utf-8")}

    assert commands - {"__main__", *train.COMMANDS} == set()


@pytest.mark.slow
def test_hydras_own_subdirectory_is_taken_through_joblib_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.chdir(tmp_path)
    small = [
        "rounds=0",
        "warm_up=none",
        "steps_per_round=1",
        "network.width=4",
        "algorithm.batch_size=4",
        "trainer.accelerator=cpu",
    ]
    through = ["-m", "hydra/launcher=joblib", "seed=0,1", *small]

    assert train.main([*through, "hydra.sweep.subdir=${hydra.job.num}"]) == 0
    assert train.main([*through, "hydra.sweep.dir=${hydra.job.num}"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "runs/digits").iterdir()) == [
        "seed_0",
        "seed_1",
        "sweep.csv",
        "sweep.md",
    ]


# --- values that need quotes -----------------------------------------------------------------------------------------

NASTY = [
    *("~/fotos", "写真", "lr=0.1", "it's", "R&D", "x#y", "a!b;c", "(1)<2>`", "[x", 'it\'s "a"', "C:\\müll\\"),
    *("ü\\'x\\\"", "ü $HOME", " ü", "a, b=c"),
]
PLAIN = ["me@home", "50%|a+b:c", "a b", "a\\b"]


@pytest.fixture
def said(ran: list[str], capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """What a run with this override says before it ends."""

    def run(override: str) -> str:
        assert train.main([override]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return run


def test_the_words_that_are_printed_for_a_value_are_taken_by_a_shell_and_by_hydra(
    said: Callable[[str], str], ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    words = [said(f"name={name}").rpartition("; write ")[2] for name in NASTY]
    script = "".join(f"printf '%s\\0' {one}\n" for one in words)
    typed = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.decode().split("\0")[:-1]
    assert len(typed) == len(NASTY)
    names: list[str] = []

    def note(config: Config) -> Outcome:
        names.append(config.name)
        return Outcome()

    monkeypatch.setattr(train, "run_job", note)

    assert [train.main([one]) for one in [*typed, *(f"name={name}" for name in PLAIN)]] == [0] * len([*NASTY, *PLAIN])
    assert names == [*NASTY, *PLAIN]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("data.root=~/fotos", "'~' needs quotes; write data.root='\"~/fotos\"'"),
        ("data.root=R&D", "'&' needs quotes; write data.root='\"R&D\"'"),
        ("data.root=lr=0.1", "'=' needs quotes; write data.root='\"lr=0.1\"'"),
        ("+data.source.class_names=[ok,müll]", "'ü' needs quotes; write +data.source.class_names='[ok,\"müll\"]'"),
        ("müll", "must be key=value"),
        ("mü=1", "must be key=value"),
    ],
)
def test_the_letter_that_needs_quotes_is_named(said: Callable[[str], str], override: str, line: str) -> None:
    assert said(override).startswith(f"error: {override}: {line}")


def test_in_a_sweep_the_values_that_need_quotes_have_them_alone(
    ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["-m", "name=ok,müll"]) == 1
    words = capsys.readouterr().err.rstrip().rpartition("; write ")[2]

    assert words == "name='ok,\"müll\"'"
    assert train.main(["-m", *shlex.split(words)]) == 0
    assert ran == ["runs/ok/seed_0", "runs/müll/seed_0"]
