from __future__ import annotations

import csv
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from assl_lightning.base import command_line
from assl_lightning.base.interruption import Interrupted
from assl_lightning.commands import jobs, messages, running
from assl_lightning.commands.train import main
from assl_lightning.config import prepare
from assl_lightning.config.compose import conf_dir
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.loop.records import RoundRecord, read_records, write_record
from tests.shell import run_python

pytestmark = pytest.mark.e2e


class Runs:
    """Stands in for `running`: notes what was run, and raises what a test wants."""

    def __init__(self) -> None:
        self.configs: list[Config] = []
        self.errors: dict[int, BaseException] = {}  # by seed
        self.environment: list[str | None] = []

    def run(self, config: Config) -> list[Any]:
        self.environment.append(os.environ.get(jobs.RUN_IN_CHILD))
        self.configs.append(config)
        if config.settings.seed in self.errors:
            raise self.errors[config.settings.seed]
        return [SimpleNamespace(test_accuracy_ema=0.25), SimpleNamespace(test_accuracy_ema=0.75)]

    @property
    def run_dirs(self) -> list[str]:
        return [config.run_dir for config in self.configs]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    """`running` replaced, an empty working directory, and no variable of a parent process."""
    recorded = Runs()
    monkeypatch.setattr(running, "run", recorded.run)
    monkeypatch.setattr(prepare, "check", lambda config: None)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)
    monkeypatch.setattr("assl_lightning.commands.jobs.gc", SimpleNamespace(collect=int))  # 0.2 s a job
    monkeypatch.chdir(tmp_path)
    for name in ("LOCAL_RANK", jobs.RUN_IN_CHILD, *command_line.SHOW_TRACEBACK):
        monkeypatch.delenv(name, raising=False)
    return recorded


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


# --- one run ---------------------------------------------------------------------------------------------------------


def test_no_argument_runs_the_digits(runs: Runs) -> None:
    assert main([]) == 0
    assert [(config.data.name, config.run_dir) for config in runs.configs] == [("digits", "runs/digits/seed_0")]


def test_groups_keys_and_an_experiment_are_overridden_in_any_order(runs: Runs) -> None:
    assert main(["seed=3", "+experiment=cifar10_vit", "network=wide_resnet", "score.c_u=1", "rounds=2"]) == 0

    (config,) = runs.configs
    assert (config.name, config.settings.seed) == ("cifar10_vit", 3)
    assert (config.settings.score.c_u, config.settings.rounds) == (1.0, 2)
    assert config.network["_target_"].endswith("WideResNet")
    assert config.run_dir == "runs/cifar10_vit/seed_3"


def test_a_strategys_file_may_still_say_what_its_class_requires(runs: Runs) -> None:
    file = Path("mine/acquisition/own.yaml")
    file.parent.mkdir(parents=True)
    file.write_text("defaults: [entropy, _self_]\nname: own\nrequires: [logits]\n")

    assert main(["--config-dir", "mine", "acquisition=own"]) == 0
    assert main(["--config-dir", "mine", "acquisition=own", "acquisition.requires=[features]"]) == 0

    first, second = runs.configs
    assert first.acquisition.name == "own"
    assert first == second


def test_options_may_stand_between_overrides(runs: Runs) -> None:
    assert main(["seed=1,2", "-m", "rounds=1"]) == 0
    assert [(config.settings.seed, config.settings.rounds) for config in runs.configs] == [(1, 1), (2, 1)]


REFUSED: list[tuple[list[str], list[str]]] = [
    (
        ["data=folder", "data.source.unreadable=exclude"],
        ["data.source has no key 'unreadable'", "; there is data.unreadable"],
    ),
    (["score.typo=1"], ["score.typo=1: score has no key 'typo'", "alpha, c_i, c_u, reset, variance"]),
    (["+score.typo=1"], ["score.typo=1: score has no key 'typo'"]),
    (
        ["acquisition=scikit_activeml", "acquisition.strategy.arguments.k=20"],
        [
            "acquisition.strategy.arguments has no keys yet; ",
            "add one with a plus, +acquisition.strategy.arguments.k=VALUE",
        ],
    ),
    (
        ["algorithm.balanced_head=true"],
        ["algorithm has no key 'balanced_head'", "; there is algorithm.module.balanced_head"],
    ),
    (
        ["threshold=0.8"],
        ["the configuration has no key 'threshold'", "; there is algorithm.module.threshold"],
    ),
    (["score.alhpa=1"], ["score.alhpa=1: ", "did you mean 'alpha'?"]),
    (
        ["acquisition.requires=[logits]"],
        ["acquisition.requires=[logits]: is not a key any more, since it follows from the class"],
    ),
    (
        ["algorithm.produces=[]"],
        ["algorithm.produces=[]: is not a key any more, since it follows from the class", "leave it"],
    ),
    (["scor.alpha=1"], ["scor is no group of keys (did you mean 'score'?)"]),
    (["algorithm.modul.threshold=1"], ["algorithm.modul is no group of keys (did you mean 'module'?)"]),
    (["data.root=photos"], ["data.root=photos: has no effect on data=digits", "data=folder", "data=image_folder"]),
    (["dta=digits"], ["dta=digits: ", "did you mean 'data'?"]),
    (["network.depht=1", "network=wide_resnet"], ["network.depht=1: ", "did you mean 'depth'?"]),
    (["rounds.x=1"], ["rounds.x=1: rounds is no group of keys"]),
    (["data=cifar11"], ["data=cifar11: there is no data 'cifar11'", "did you mean 'cifar10'?", "choose from cifar10"]),
    (["+experiment=svhn"], ["+experiment=svhn: there is no experiment 'svhn'", "svhn_resnet18"]),
    (["+experiment=svhn_vit_continue"], ["+experiment=svhn_vit_continue: ", "+experiment=svhn_vit +variant=continue"]),
    (
        ["+experiment=digits_short_al"],
        ["+experiment=digits_short_al: ", "+experiment=digits_short +variant=supervised"],
    ),
    (["+experiment=fig1_al_small"], ["+experiment=fig1_al_small: ", "+experiment=fig1_small +variant=supervised"]),
    (["+experiment=svhn_vit", "+variant=a"], ["+variant=a: there is no variant 'a'", "al, continue, supervised"]),
    (["variant=al"], ["variant=al: ", "+variant=al"]),
    (["+_suffx=_mine"], ["_suffx=_mine: the configuration has no key '_suffx'"]),
    (["experiment=svhn_vit"], ["experiment=svhn_vit: ", "+experiment=svhn_vit"]),
    (["trainer/logger=cvs"], ["trainer/logger=cvs: ", "did you mean 'csv'?", "tensorboard"]),
    (["trainer/loger=csv"], ["trainer/loger=csv: there is no group", "did you mean 'trainer/logger'?"]),
    (["data=5"], ["data=5: must name one option of the group data; choose from cifar10"]),
    (["+rounds=4"], ["+rounds=4: ", "leave the plus out"]),
    (["rounds=1,2"], ["rounds=1,2: several values; add -m"]),
    (["rounds"], ["rounds: must be key=value"]),
    (["score.alpha=["], ["score.alpha=[: '[' needs quotes; write score.alpha='\"[\"'"]),
    (["rounds=???"], ["rounds=???: has no value yet; give it with rounds=VALUE"]),
    (["~score.alpha"], ["score.alpha: is missing"]),
    (["rounds=${ruonds}"], ["rounds=${ruonds}: ", "'ruonds' not found"]),
    (["seed=${sede}"], ["seed=${sede}: ", "'sede' not found"]),  # which oracle.seed passes on
    (["rounds=2.5"], ["rounds=2.5: must be an integer"]),
    (["labels_per_round=0"], ["labels_per_round=0: must be at least 1"]),
    (["--rounds", "3"], ["--rounds: there is no such option", "as rounds=VALUE", "--help"]),
    (["--config-dir", "nowhere"], ["--config-dir nowhere: is not a directory"]),
    (["--cfg", "jobs"], ["--cfg", "'jobs'", "--help"]),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=lambda value: " ".join(value)[:50])
def test_what_is_refused_is_one_line_and_leaves_nothing(
    runs: Runs, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str], tmp_path: Path
) -> None:
    assert main(arguments) == 1

    (line,) = errors(capsys)
    assert line.startswith("error: ")
    assert [word for word in words if word not in line] == [], line
    assert runs.configs == []
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_key_in_an_experiment_file_is_refused(
    runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "wrong.yaml").write_text("# @package _global_\nscore:\n  alhpa: 0.5\n")

    assert main(["--config-dir", "mine", "+experiment=wrong"]) == 1
    assert errors(capsys) == [
        "error: score.alhpa=0.5: score has no key 'alhpa' (did you mean 'alpha'?); "
        "its keys are alpha, c_i, c_u, reset, variance"
    ]


@pytest.mark.parametrize(
    ("file", "content", "given", "line"),
    [
        (
            "mine/experiment/new.yaml",
            "rounds: 1\n",
            "--config-dir mine +experiment=new",
            "+experiment=new: its file must begin with the line # @package _global_, and have keys below",
        ),
        (
            "mine/experiment/new.yaml",
            "# @package _global_\n- rounds\n",
            "--config-dir mine +experiment=new",
            "+experiment=new: its file must have keys with values, such as rounds: 3; correct it",
        ),
        (
            "conf/experiment/new.yaml",
            "",
            "+experiment=new",
            "+experiment=new: there is no experiment 'new'; to use conf/experiment/new.yaml, give --config-dir conf "
            "+experiment=new",
        ),
        (
            "mine/experiment/new.yaml",
            "",
            "+experiment=mine/experiment/new.yaml",
            "+experiment=mine/experiment/new.yaml: there is no experiment 'mine/experiment/new.yaml'; to use "
            "mine/experiment/new.yaml, give --config-dir mine +experiment=new",
        ),
        (
            "mine/new.yaml",
            "",
            "--config-dir mine +experiment=new",
            "+experiment=new: there is no experiment 'new'; to use {here}/mine/new.yaml, move it to "
            "{here}/mine/experiment/new.yaml and give --config-dir {here}/mine +experiment=new",
        ),
        (
            "mine/experiment/new.yml",
            "",
            "--config-dir mine/experiment +experiment=new",
            "+experiment=new: there is no experiment 'new'; to use {here}/mine/experiment/new.yml, move it to "
            "{here}/mine/experiment/new.yaml and give --config-dir {here}/mine +experiment=new",
        ),
    ],
)
def test_an_experiment_file_that_cannot_be_used_is_one_line_that_says_where_it_must_be(
    runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str, content: str, given: str, line: str
) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(content)

    assert main(given.split()) == 1

    assert errors(capsys) == [f"error: {line.format(here=tmp_path)}"]
    assert runs.configs == []


def test_the_root_of_data_is_taken_where_a_file_refers_to_it(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "own.yaml").write_text(
        "defaults: [digits, _self_]\nname: own\nsource:\n  split_seed: ${oc.decode:${..root}}\n"
    )

    assert main(["--config-dir", "mine", "data=own", "data.root='3'"]) == 0
    assert runs.configs[0].data.source["split_seed"] == 3


def test_a_directory_of_ones_own_adds_options(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "my conf" / "experiment").mkdir(parents=True)
    (tmp_path / "my conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nrounds: 1\n")

    assert main(["--config-dir", "my conf", "+experiment=mine"]) == 0
    assert runs.configs[0].settings.rounds == 1


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (RuntimeError("a tensor\n  of the wrong shape"), "error: RuntimeError: a tensor of the wrong shape"),
        (ValueError("run_dir runs/x is not empty"), "error: run_dir runs/x is not empty"),
        (ConfigurationError("network.width=3: too few"), "error: network.width=3: too few"),
        (AssertionError(), "error: AssertionError"),
        (SystemExit(3), "error: the run ended itself with exit code 3"),
    ],
)
def test_whatever_a_run_raises_is_one_line(
    runs: Runs, capsys: pytest.CaptureFixture[str], raised: BaseException, line: str
) -> None:
    runs.errors[0] = raised

    assert main([]) == 1
    assert errors(capsys) == [line]


@pytest.mark.parametrize("variable", command_line.SHOW_TRACEBACK)
def test_a_traceback_is_printed_when_asked_for(
    runs: Runs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    runs.errors[0] = RuntimeError("wrong shape")

    assert main([]) == 1
    lines = errors(capsys)
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "error: RuntimeError: wrong shape"


def lightnings_exit() -> BaseException:
    """Lightning answers Ctrl-C with `sys.exit(1)` inside its `except KeyboardInterrupt`."""
    error = SystemExit(1)
    error.__context__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), lightnings_exit()], ids=["ours", "Lightning's"])
@pytest.mark.parametrize("arguments", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
def test_an_interrupt_ends_run_and_sweep_with_130(
    runs: Runs, capsys: pytest.CaptureFixture[str], interrupt: BaseException, arguments: list[str]
) -> None:
    runs.errors[0] = interrupt

    assert main(arguments) == 130
    assert errors(capsys)[0].startswith("error: interrupted; the same command goes on")
    assert len(runs.configs) == 1


@pytest.mark.parametrize("arguments", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
def test_a_request_to_terminate_ends_run_and_sweep_with_143(
    runs: Runs, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    runs.errors[0] = Interrupted(signal.SIGTERM, "step 7 is saved, and the same command goes on from there")

    assert main(arguments) == 143
    assert errors(capsys) == ["error: terminated; step 7 is saved, and the same command goes on from there"]
    assert len(runs.configs) == 1


# --- sweeps ----------------------------------------------------------------------------------------------------------


def test_a_sweep_runs_every_combination(runs: Runs) -> None:
    assert main(["-m", "seed=1,2", "acquisition=random,assl", "score.c_u=0.5"]) == 0
    assert sorted((config.settings.seed, config.acquisition.name) for config in runs.configs) == [
        (1, "assl"),
        (1, "random"),
        (2, "assl"),
        (2, "random"),
    ]


def test_a_wrong_job_does_not_change_the_directories_of_the_others(runs: Runs) -> None:
    assert main(["-m", "score.alpha=0.5,7"]) == 1
    assert main(["-m", "score.alpha=0.5,0.7"]) == 0
    assert runs.run_dirs[0] == runs.run_dirs[1] == "runs/digits/seed_0_score.alpha_0.5"


def test_references_in_a_sweep_are_those_of_each_job(runs: Runs) -> None:
    assert main(["-m", "seed=1,2", "acquisition=random,assl", "run_dir=runs/${acquisition.name}/${seed}"]) == 0
    assert sorted(runs.run_dirs) == ["runs/assl/1", "runs/assl/2", "runs/random/1", "runs/random/2"]


def test_a_sweep_understands_ranges_and_sweeper_params(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "sweep.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      seed: range(1,4)\n"
    )

    assert main(["--config-dir", ".", "+experiment=sweep", "rounds=1"]) == 0
    assert [config.settings.seed for config in runs.configs] == [1, 2, 3]


def test_what_the_command_line_gives_takes_the_place_of_the_experiments_values(runs: Runs) -> None:
    assert main(["-m", "+experiment=fig8_small", "seed=7", "score.c_u=0,3"]) == 0
    assert [(config.settings.seed, config.settings.score.c_u) for config in runs.configs] == [(7, 0), (7, 3)]


def test_wrong_jobs_are_told_before_the_first_one_trains_and_again_at_the_end(
    runs: Runs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[str]] = []

    def run(config: Config) -> list[Any]:
        told.append(errors(capsys))
        return runs.run(config)

    monkeypatch.setattr(running, "run", run)
    runs.errors[2] = RuntimeError("the disk is full")
    assert main(["-m", "score.alpha=0.5,2", "seed=1,2,3"]) == 1

    wrong = [f"error: job {n} (score.alpha=2 seed={n - 3}): score.alpha=2: must be in (0, 1]" for n in (4, 5, 6)]
    failed = "error: job 2 (score.alpha=0.5 seed=2): RuntimeError: the disk is full"
    assert told == [wrong, [], ["error: RuntimeError: the disk is full"]]
    assert [config.settings.seed for config in runs.configs] == [1, 2, 3]
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [failed, *wrong]
    assert captured.out.splitlines()[-1] == "sweep: 2 of 6 jobs done"


def test_what_a_class_refuses_is_found_before_the_first_job_trains(
    runs: Runs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(config: Config) -> None:
        assert runs.configs == []
        if config.settings.seed == 2:
            raise ConfigurationError("network.width=0: too narrow")

    monkeypatch.setattr(prepare, "check", check)

    assert main(["-m", "seed=1,2,3"]) == 1
    assert [config.settings.seed for config in runs.configs] == [1, 3]
    assert errors(capsys) == ["error: job 2 (seed=2): network.width=0: too narrow"] * 2


def test_a_sweep_without_a_valid_job_tells_each_error_once(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "seed=-1,-2"]) == 1
    assert len(errors(capsys)) == 2


@pytest.mark.parametrize(
    ("arguments", "run_dirs"),
    [
        (["seed=1,2"], ["seed_1", "seed_2"]),
        (["acquisition=random,assl"], ["seed_0_acquisition_random", "seed_0_acquisition_assl"]),
        (
            ["acquisition=random,assl", "seed=1,2", "rounds=1"],
            [f"seed_{seed}_acquisition_{name}" for name in ("random", "assl") for seed in (1, 2)],
        ),
        (
            ["algorithm.module.optimizer.lr=1e-3,0.1"],
            [f"seed_0_algorithm.module.optimizer.lr_{x}" for x in ("0.001", "0.1")],
        ),
        (["run_dir=runs/digits/a,runs/digits/b"], ["a", "b"]),
    ],
)
def test_jobs_that_would_share_a_directory_are_told_apart(
    runs: Runs, arguments: list[str], run_dirs: list[str]
) -> None:
    assert main(["-m", *arguments]) == 0
    assert runs.run_dirs == [f"runs/digits/{name}" for name in run_dirs]


def test_a_job_that_repeats_another_is_refused(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "seed=1,1"]) == 1
    assert runs.run_dirs == ["runs/digits/seed_1"]
    assert "run_dir=runs/digits/seed_1: job 1 writes there too" in errors(capsys)[0]


def register(plugin: type, monkeypatch: pytest.MonkeyPatch) -> str:
    """As if it came from an installed Hydra plug-in; the `_target_` to name it by."""
    plugin.__module__ = "hydra_plugins.of_this_test"
    module = ModuleType(plugin.__module__)
    setattr(module, plugin.__name__, plugin)
    monkeypatch.setitem(sys.modules, "hydra_plugins", ModuleType("hydra_plugins"))
    monkeypatch.setitem(sys.modules, plugin.__module__, module)
    Plugins.instance().register(plugin)
    return f"{plugin.__module__}.{plugin.__name__}"


class OtherLauncher(BasicLauncher):
    """Launches through Hydra, as joblib's and submitit's do."""


class OtherSweeper(Sweeper):
    """Chooses jobs by itself, one after the other, as Optuna's does."""

    alphas: ClassVar[list[float]] = []
    values: ClassVar[list[float]] = []

    def __init__(self, params: Any, max_batch_size: Any) -> None:
        super().__init__()

    def setup(self, *, hydra_context: HydraContext, task_function: Any, config: DictConfig) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        assert self.launcher is not None
        for number, alpha in enumerate(self.alphas):
            (result,) = self.launcher.launch([[*arguments, f"score.alpha={alpha}"]], initial_job_idx=number)
            self.values.append(result.return_value)


def test_another_launcher_is_given_the_valid_jobs_and_their_directories(
    runs: Runs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs.errors[2] = RuntimeError("the disk is full")
    target = register(OtherLauncher, monkeypatch)

    assert main(["-m", f"hydra.launcher._target_={target}", "seed=1,2,-3", "acquisition=random,assl"]) == 1
    assert runs.run_dirs == [f"runs/digits/seed_{n}_acquisition_{name}" for n in (1, 2) for name in ("random", "assl")]
    assert [line.partition(":")[2] for line in errors(capsys)[-4:]] == [
        f" job {n} (seed={seed} acquisition={name}): {line}"
        for n, seed, name, line in [
            (3, 2, "random", "RuntimeError: the disk is full"),
            (4, 2, "assl", "RuntimeError: the disk is full"),
            (5, -3, "random", "seed=-3: must be at least 0"),
            (6, -3, "assl", "seed=-3: must be at least 0"),
        ]
    ]
    assert list(tmp_path.iterdir()) == []


def test_another_sweeper_checks_each_job_when_it_comes_and_gets_the_mean_accuracy(
    runs: Runs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target = register(OtherSweeper, monkeypatch)
    monkeypatch.setattr(OtherSweeper, "alphas", [0.5, 0.6, 2])
    values: list[float] = []
    monkeypatch.setattr(OtherSweeper, "values", values)

    assert main(["-m", f"hydra.sweeper._target_={target}", "seed=3"]) == 1
    assert runs.run_dirs == [f"runs/digits/seed_3_seed_3_score.alpha_{alpha}" for alpha in (0.5, 0.6)]
    assert values == [0.5, 0.5]
    assert errors(capsys)[-1] == "error: job 3 (seed=3 score.alpha=2): score.alpha=2: must be in (0, 1]"
    assert list(tmp_path.iterdir()) == []


# --- what a sweep finds on disk --------------------------------------------------------------------------------------


def write_run(config: Config, rounds: int) -> None:
    """A run's directory with so many complete rounds, as far as a sweep looks at it."""
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True)
    content = OmegaConf.create({**config.as_dict(), "weight_ema": 0.98, "environment": {"torch": "2.6"}})
    (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(content))
    for number in range(rounds):
        write_record(run_dir, RoundRecord(number, 10 * (number + 1), 1287, 600, 0.5 + number / 10, 0.4))


def rows_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_a_finished_job_is_skipped_and_counts_in_the_table(
    runs: Runs, capsys: pytest.CaptureFixture[str], compose_run: Callable[..., Config]
) -> None:
    write_run(compose_run("seed=1"), rounds=4)

    assert main(["-m", "seed=1,2"]) == 0
    assert [config.settings.seed for config in runs.configs] == [2]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "job 1 of 2 (seed=1) → runs/digits/seed_1: finished before, skipped"
    assert printed[-1] == "sweep: 2 of 2 jobs done"
    (row,) = rows_of(Path("runs/digits/sweep.csv"))
    assert (row["n"], row["last_accuracy_ema_mean"], row["unfinished"]) == ("1", "0.8", "1")


@pytest.mark.parametrize(
    ("overrides", "rounds"), [(["score.alpha=0.5"], 4), (["trainer/logger=none"], 4), ([], 3)], ids=str
)
def test_a_job_whose_directory_holds_another_run_or_less_is_not_skipped(
    runs: Runs, compose_run: Callable[..., Config], overrides: list[str], rounds: int
) -> None:
    write_run(compose_run("seed=1", *overrides), rounds)

    assert main(["-m", "seed=1,2"]) == 0
    assert [config.settings.seed for config in runs.configs] == [1, 2]


def test_a_job_that_was_extended_counts_with_the_rounds_that_the_sweep_asks_for(
    runs: Runs, capsys: pytest.CaptureFixture[str], compose_run: Callable[..., Config]
) -> None:
    write_run(compose_run("seed=1", "rounds=4"), rounds=5)
    assert main(["-m", "seed=1"]) == 0
    assert runs.configs == []
    assert "finished before, skipped" in capsys.readouterr().out
    (row,) = rows_of(Path("runs/digits/sweep.csv"))
    assert (row["n"], row["last_accuracy_ema_mean"]) == ("1", "0.8")  # after the fourth training, not the fifth


@pytest.mark.parametrize("content", ["", "- a list", "rounds: [", None])
def test_a_job_whose_files_cannot_be_read_is_not_skipped(
    runs: Runs, compose_run: Callable[..., Config], content: str | None
) -> None:
    config = compose_run("seed=1")
    write_run(config, rounds=4)
    file = Path(config.run_dir, "config.yaml")
    file.unlink() if content is None else file.write_text(content)

    assert main(["-m", "seed=1"]) == 0
    assert [config.settings.seed for config in runs.configs] == [1]


def test_a_finished_sweep_waits_neither_for_torch_nor_for_lightning(
    compose_run: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(compose_run("seed=1", "acquisition=random"), rounds=4)
    code = """
import sys
from assl_lightning.commands.train import main
print(main(["-m", "seed=1", "acquisition=random"]), sorted({"torch", "lightning"} & sys.modules.keys()))
"""
    done = run_python("-c", code)

    assert done.stdout.splitlines()[-2:] == ["sweep: 1 of 1 jobs done", "0 []"]


CPU = "trainer.accelerator=cpu"
TINY = [
    CPU,
    "warm_up=none",
    "steps_per_round=4",
    "network.width=2",
    "algorithm.batch_size=4",
    "algorithm.mu=1",
    "trainer/logger=none",
    "acquisition=random",
]


def rounds_but_for_the_seconds(run_dir: Path) -> list[dict[str, Any]]:
    return [asdict(replace(record, seconds={})) for record in read_records(run_dir)]


def sweep_in(directory: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> int:
    """The exit code of a sweep that trains; messages of this process are left alone."""
    directory.mkdir(exist_ok=True)
    monkeypatch.chdir(directory)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)
    return main(["-m", *TINY, *overrides])


KILLED_AFTER_THE_FIRST_ROUND_OF_SEED_2 = """
import os, signal, sys
from assl_lightning.loop import directory as run_directory
from assl_lightning.commands.train import main

write_record = run_directory.write_record

def append_and_die(run_dir, record):
    write_record(run_dir, record)
    if run_dir.name == "seed_2":
        os.kill(os.getpid(), signal.SIGKILL)

run_directory.write_record = append_and_die
main(sys.argv[1:])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_a_killed_sweep_goes_on_where_it_was_and_ends_with_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    what = ["seed=1,2", "rounds=1"]
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    killed.mkdir()
    half_done = killed / "runs/digits/seed_2"
    run_python("-c", KILLED_AFTER_THE_FIRST_ROUND_OF_SEED_2, "-m", *TINY, *what, cwd=killed, code=-signal.SIGKILL)
    before = rounds_but_for_the_seconds(half_done)
    assert len(before) == 1

    assert sweep_in(killed, monkeypatch, *what) == 0
    printed = capsys.readouterr().out
    assert "→ runs/digits/seed_1: finished before, skipped" in printed
    assert "round 0/1" not in printed, "what was complete is not trained again"
    assert "round 1/1" in printed
    after = rounds_but_for_the_seconds(half_done)
    assert after[:1] == before
    assert sweep_in(undisturbed, monkeypatch, *what) == 0
    assert after == rounds_but_for_the_seconds(undisturbed / "runs/digits/seed_2")
    table = (killed / "runs/digits/sweep.csv").read_text()
    assert table == (undisturbed / "runs/digits/sweep.csv").read_text()
    assert table.splitlines()[1].startswith("2,"), "n"


def test_a_job_that_diverges_leaves_the_others_alone_and_is_listed_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep_in(tmp_path, monkeypatch, "rounds=0", "algorithm.module.optimizer.lr=1e30,0.03") == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == "sweep: 1 of 2 jobs done"
    line = captured.err.splitlines()[-1]
    assert line.startswith("error: job 1 (")
    assert "lr=1e+30" in line
    assert "was not finite" in line
    rows = rows_of(tmp_path / "runs/digits/sweep.csv")
    lr = "algorithm.module.optimizer.lr"
    assert [(row[lr], row["n"], row["failed"]) for row in rows] == [("1e+30", "0", "1"), ("0.03", "1", "0")]
    assert ["1e+30", "0", "–", "–", "1", "0"] in [line.split() for line in captured.out.splitlines()]


def test_a_small_figure_shortened_leaves_a_row_for_each_of_its_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)

    given = ["-m", "+variant=supervised", "+experiment=fig1_small", "seed=0", "rounds=1", "steps_per_round=4", CPU]
    assert main(given) == 0
    rows = rows_of(tmp_path / "runs/fig1_small_supervised/sweep.csv")
    assert [row["acquisition"] for row in rows] == ["random", "entropy", "pseudo_el2n"]
    assert all((row["n"], row["failed"], row["unfinished"]) == ("1", "0", "0") for row in rows)


# --- processes of other devices --------------------------------------------------------------------------------------


def test_another_devices_process_takes_the_configuration_from_its_parent(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["-m", "seed=5,6"]) == 0
    given = runs.environment[1]
    assert given is not None
    assert json.loads(given)["run_dir"] == "runs/digits/seed_6"
    assert jobs.RUN_IN_CHILD not in os.environ

    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv(jobs.RUN_IN_CHILD, given)
    assert main(["-m", "seed=5,6"]) == 0
    assert runs.configs[2:] == [runs.configs[1]]


def test_the_variables_of_a_jobs_processes_are_gone_when_the_next_one_starts(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    def run(config: Config) -> list[Any]:
        seen.append(os.environ.get("LOCAL_RANK"))
        monkeypatch.setenv("LOCAL_RANK", "0")  # Lightning's launcher leaves it behind
        return []

    monkeypatch.setattr(running, "run", run)

    assert main(["-m", "seed=1,2"]) == 0
    assert seen == [None, None]


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_help_lists_every_group_with_its_options_and_every_top_level_key(
    capsys: pytest.CaptureFixture[str], compose_run: Callable[..., Config]
) -> None:
    assert main(["--help"]) == 0

    text = capsys.readouterr().out
    groups = set()
    for path in conf_dir().rglob("*/*.yaml"):
        group = str(path.parent.relative_to(conf_dir()))
        groups.add(group)
        (line,) = (line for line in text.splitlines() if line.startswith(f"{group}: "))
        assert path.stem in line
    for key, value in compose_run().as_dict().items():
        assert isinstance(value, dict) or key in groups or f"\n  {key} " in text, key


def test_the_configuration_is_shown_with_and_without_references(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cfg", "job", "--package", "run_dir", "seed=4"]) == 0
    assert main(["--cfg", "job", "--package", "run_dir", "--resolve", "seed=4"]) == 0

    assert capsys.readouterr().out.splitlines() == ["runs/digits/seed_4"] * 2


def test_help_and_configuration_errors_wait_neither_for_torch_nor_for_lightning(tmp_path: Path) -> None:
    code = """
import sys
from assl_lightning.commands.train import main
codes = [main(arguments) for arguments in (["--help"], ["--cfg", "job"], ["--info", "defaults"], ["rounds=0.5"],
    ["data=nope"], ["+score.typo=1"], ["labels_per_round=5000"], ["algorithm.produces=[]"], ["-m", "seed=-1,-2"])]
print(codes, sorted({"torch", "lightning", "pytorch_lightning", "matplotlib", "sklearn"} & sys.modules.keys()))
"""
    done = run_python("-c", code, cwd=tmp_path)

    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 1, 1, 1, 1, 1, 1] []"
    assert list(tmp_path.iterdir()) == []


def test_the_module_can_be_run_and_its_exit_code_is_that_of_the_error(tmp_path: Path) -> None:
    done = run_python("-m", "assl_lightning", "init=never", cwd=tmp_path, code=1)

    assert done.stdout == ""
    assert done.stderr == "error: init=never: must be one of rand, continue\n"
