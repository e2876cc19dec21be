"""The jobs of a sweep.

Every job is checked before the first one trains; finished jobs are skipped, unfinished ones are resumed, and a job that
fails does not stop the others. At the end there is one table, whose numbers come from the jobs' directories.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from assl_lightning.base.command_line import line_of, print_errors
from assl_lightning.base.differences import differences
from assl_lightning.base.interruption import Interruption
from assl_lightning.base.paths import common_directory, expand
from assl_lightning.base.shell import quote
from assl_lightning.commands.jobs import Outcome, run_job
from assl_lightning.commands.launchers import launch, refuse_more_processes, runs_here, sweep_directory
from assl_lightning.config.compose import compose, one_line_errors, validate
from assl_lightning.config.hydra_keys import BASIC_LAUNCHER, BASIC_SWEEPER, overrides_of, refuse_without_effect
from assl_lightning.config.schema import Config, ConfigurationError, left_open
from assl_lightning.config.values import show
from assl_lightning.loop.records import RoundRecord, complete_records, read_config, trained_records

_FAILURES = "failed.txt"


@dataclass(frozen=True)
class Job:
    """One combination of a sweep: its overrides, and its configuration or errors."""

    number: int
    overrides: tuple[str, ...]
    config: Config | None  # None if there are `errors`
    errors: tuple[str, ...] = ()
    wanted_run_dir: str | None = None  # of a job without a configuration, if it is known
    of: int | None = None  # the number of jobs of the sweep, if it is known

    @property
    def run_dir(self) -> str | None:
        return self.wanted_run_dir if self.config is None else self.config.run_dir

    @property
    def title(self) -> str:
        return f"job {self.number} ({self._overrides_in_words})"

    @property
    def announcement(self) -> str:
        """The line that is printed before the job runs."""
        count = "" if self.of is None else f" of {self.of}"
        return f"job {self.number}{count} ({self._overrides_in_words}) → {self.run_dir}"

    @property
    def _overrides_in_words(self) -> str:
        typed = (override.removeprefix("++") for override in self.overrides)  # added where a class is replaced
        return " ".join(override for override in typed if not override.startswith("run_dir="))


def sweep(hydra: Any, overrides: Sequence[str]) -> int:
    """Check every job, run the valid ones, and return the exit code.

    Raises:
        Interrupted: Ctrl-C or SIGTERM came, also between two jobs; the launchers' jobs have been ended.
    """
    with Interruption():
        return _sweep(hydra, overrides)


def _sweep(hydra: Any, overrides: Sequence[str]) -> int:
    with one_line_errors(hydra, overrides, RunMode.MULTIRUN):
        settings = hydra.compose_config("config", list(overrides), RunMode.MULTIRUN, from_shell=False).hydra
        _check_groups(settings)
        refuse_without_effect(settings)
        str(settings.sweep.dir)  # raises if its references cannot be resolved here
        is_basic = settings.sweeper._target_ == BASIC_SWEEPER
        combinations = _expand(hydra, settings) if is_basic else []
    if not is_basic:
        return _sweep_adaptively(hydra, overrides, settings)
    prepared = [_prepare(hydra, number, job, settings) for number, job in enumerate(combinations, 1)]
    jobs = give_own_directories([replace(job, of=len(prepared)) for job in prepared])
    left = _left_to_run(jobs, refuse_more_processes if runs_here(settings) else None)
    wrong = [job for job in left if job.config is None]
    valid = [job for job in left if job.config is not None]
    if valid:  # else they are printed once, below
        _print_job_errors(wrong)
    run = _run_here if settings.launcher._target_ == BASIC_LAUNCHER else _launcher(hydra, overrides, settings)
    failed = sorted([*wrong, *run(valid)], key=lambda job: job.number)
    _show_table(jobs, {job.number for job in failed}, overrides)
    _say(f"sweep: {len(jobs) - len(failed)} of {len(jobs)} jobs done")
    _print_job_errors(failed)
    return 1 if failed else 0


def _left_to_run(jobs: Sequence[Job], also: Callable[[Config], None] | None = None) -> list[Job]:
    """Check and return the jobs that are not finished, and print those that are."""
    finished = {job.number for job in jobs if job.config is not None and is_finished(job.config)}
    for job in jobs:
        if job.number in finished:
            _say(f"{job.announcement}: finished before, skipped")
    left = [job for job in jobs if job.number not in finished]
    return _check_classes(left, also) if any(job.config is not None for job in left) else left


def _expand(hydra: Any, settings: DictConfig) -> list[list[str]]:
    """Return the combinations of a sweep, as Hydra's own sweeper makes them.

    Values of the command line replace those of `hydra.sweeper.params`, which an experiment file may have.
    """
    swept = [f"{key}={value}" for key, value in (settings.sweeper.params or {}).items()]
    given: Any = OmegaConf.to_container(settings.overrides.task, resolve=False)  # ${…} is resolved for each job
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    parsed = parser.parse_overrides([*swept, *map(str, given)])
    for override in parsed:
        _check_sweepable(override)
    (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return batch


def _check_groups(settings: DictConfig) -> None:
    for name in ("sweeper", "launcher"):
        if not isinstance(settings[name], DictConfig) or "_target_" not in settings[name]:
            raise ConfigurationError(
                f"{show(f'hydra.{name}', settings[name])}: must be a group of keys with a _target_; choose one with "
                f"hydra/{name}=OPTION"
            )


def _check_sweepable(override: Override) -> None:
    """Raise if an override cannot be expanded, or has no value: Hydra's sweeper does not name it, or makes no job."""
    try:
        batches = BasicSweeper.split_arguments([override], max_batch_size=None)
    except (HydraException, ValueError) as error:
        raise ConfigurationError(f"{override.input_line}: cannot be swept over ({line_of(error)})") from error
    if not any(batches):
        raise ConfigurationError(f"{override.input_line}: is a sweep over no value at all; give at least one")


def _prepare(hydra: Any, number: int, overrides: Sequence[str], settings: DictConfig) -> Job:
    of_hydra = [override for override in overrides_of(settings) if not override.startswith("hydra.mode")]
    try:
        return Job(number, tuple(overrides), compose(hydra, [*overrides, *of_hydra]))
    except ConfigurationError as error:
        return Job(number, tuple(overrides), None, error.lines, _run_dir_of(hydra, [*overrides, *of_hydra]))


def _run_dir_of(hydra: Any, overrides: Sequence[str]) -> str | None:
    """Return the run_dir of an invalid job, or None if it cannot be resolved."""
    try:
        with one_line_errors(hydra, overrides):
            return expand(str(hydra.compose_config("config", list(overrides), RunMode.RUN, from_shell=False).run_dir))
    except ValueError:
        return None


def _check_classes(jobs: Sequence[Job], also: Callable[[Config], None] | None) -> list[Job]:
    """Check the classes' arguments, and `also`, of all jobs before the first one trains."""
    from assl_lightning.commands import messages
    from assl_lightning.config import prepare

    messages.set_up_messages()
    checked = []
    for job in jobs:
        try:
            if job.config is not None:
                prepare.check(job.config)
                if also is not None:
                    also(job.config)
        except ConfigurationError as error:
            checked.append(replace(job, config=None, errors=error.lines))
        else:
            checked.append(job)
    return checked


def give_own_directories(jobs: Sequence[Job]) -> list[Job]:
    """Append to a `run_dir` that several jobs share the overrides in which they differ.

    Invalid jobs count too: once they are corrected, the others must find their directories again. A job that still
    shares its directory, because it equals another one, gets an error instead of its configuration.
    """
    sharing = Counter(job.run_dir for job in jobs)
    parted = []
    for job in jobs:
        if job.config is None or sharing[job.config.run_dir] == 1:
            parted.append(job)
            continue
        group = [other for other in jobs if other.run_dir == job.config.run_dir]
        common = set.intersection(*(set(other.overrides) for other in group))
        distinguishing = [override for override in job.overrides if override not in common]
        run_dir = _append(job.config.run_dir, distinguishing)
        parted.append(replace(job, config=replace(job.config, run_dir=run_dir)))
    first: dict[str, Job] = {}
    for position, job in enumerate(parted):
        if job.config is None:
            continue
        other = first.setdefault(job.config.run_dir, job)
        if other is not job:
            line = (
                f"run_dir={job.config.run_dir}: job {other.number} writes there too; "
                f"sweep over different values, or give run_dir the keys that differ"
            )
            parted[position] = replace(job, config=None, errors=(line,))
    return parted


def is_finished(config: Config) -> bool:
    """True if `run_dir` holds all rounds of this very run, or more; needs no torch.

    False in case of doubt: the run itself then reports what is wrong.
    """
    run_dir, now = Path(config.run_dir), config.as_dict()
    try:
        if not complete_records(run_dir, config.settings.rounds):
            return False
        before = read_config(run_dir)
    except (OSError, ValueError):
        return False
    return not any(differences({key: before.get(key) for key in now}, now, (*left_open(config), "rounds")))


def _append(run_dir: str, overrides: Sequence[str]) -> str:
    """Append overrides to `run_dir`, in letters, digits, dots, hyphens and underscores only.

    >>> _append("runs/digits/seed_1", ["acquisition=random", "score.c_u=0.5"])
    'runs/digits/seed_1_acquisition_random_score.c_u_0.5'
    """
    return "_".join([run_dir.rstrip("/"), *(re.sub(r"[^\w.\-]+", "_", override).strip("_") for override in overrides)])


def _run_here(jobs: Sequence[Job]) -> list[Job]:
    """Run the jobs one after the other, and return those that failed."""
    failed = []
    for job in jobs:
        assert job.config is not None
        _say(job.announcement)
        outcome = run_job(job.config)
        print_errors(outcome.errors)
        if outcome.errors:
            failed.append(replace(job, errors=outcome.errors))
    return failed


def _launcher(hydra: Any, overrides: Sequence[str], settings: DictConfig) -> Callable[[Sequence[Job]], list[Job]]:
    """Return a function that runs checked jobs by another launcher of Hydra (joblib, submitit, …)."""

    def run(jobs: Sequence[Job]) -> list[Job]:
        configs = [job.config for job in jobs if job.config is not None]
        if not configs:
            return []
        for job in jobs:
            _say(job.announcement)
        tasks = [[*job.overrides, f"run_dir={quote(str(job.run_dir))}"] for job in jobs]
        outcomes = launch(hydra, overrides, settings, tasks, _directory_of(configs) or Path.cwd())
        return [replace(job, errors=out.errors) for job, out in zip(jobs, outcomes, strict=True) if out.errors]

    return run


def _sweep_adaptively(hydra: Any, overrides: Sequence[str], settings: DictConfig) -> int:
    """Run a sweeper that chooses jobs as it goes (Optuna, …): each is checked when chosen, and has its own run_dir.

    A setting of the sweeper decides if a failed job ends the sweep.
    """
    lines: list[str] = []
    with sweep_directory(settings) as directory:
        arguments = [*overrides, f"hydra.sweep.dir={quote(str(directory.path))}"]
        try:
            hydra.multirun("config", mean_accuracy_of_composed, arguments, with_log_configuration=False)
        except Exception as error:
            lines = [line_of(error)]
        failures = directory.path / _FAILURES
        if failures.exists():
            lines = failures.read_text().splitlines()
    print_errors(lines)
    return 1 if lines else 0


def mean_accuracy_of_composed(composed: DictConfig) -> float:
    """Run a job of an adaptive sweeper, and return the mean test accuracy over its rounds, in [0, 1], to maximise."""
    of_job = HydraConfig.get()
    job = Job(of_job.job.num + 1, tuple(of_job.overrides.task), None, of=_trials(of_job.sweeper))
    try:
        config = validate(composed, of_job.overrides.task)
        config = replace(config, run_dir=_append(config.run_dir, of_job.overrides.task))
        if of_job.launcher._target_ != BASIC_LAUNCHER:
            refuse_more_processes(config)
        _say(replace(job, config=config).announcement)
        outcome = run_job(config)
    except ConfigurationError as error:
        outcome = Outcome(error.lines)
    if outcome.errors:
        lines = [f"{job.title}: {line}" for line in outcome.errors]
        with (Path(of_job.sweep.dir) / _FAILURES).open("a") as failures:  # this may run in another process
            failures.writelines(f"{line}\n" for line in lines)
        raise RuntimeError("; ".join(lines))
    return outcome.mean_accuracy


def _trials(sweeper: Any) -> int | None:
    """Return the number of jobs of an adaptive sweeper, under Optuna's key, or None."""
    trials = sweeper.get("n_trials")
    return trials if isinstance(trials, int) else None


def _show_table(jobs: Sequence[Job], failed: Collection[int], overrides: Sequence[str]) -> None:
    """Print the table of all jobs, and write it to the directory that holds theirs; nothing if no job is done."""
    done = {job.number: _rounds_of(job, failed) for job in jobs}
    so_far = {job.number: () if done[job.number] else _rounds_so_far(job, failed) for job in jobs}
    if not any(done.values()) and not any(so_far.values()):
        return
    from assl_lightning.commands import sweep_table  # imports SciPy, 0.5 s that --help need not wait for

    results = [
        sweep_table.Result(job.overrides, done[job.number], job.number in failed, so_far[job.number]) for job in jobs
    ]
    combinations = sweep_table.summarise(results)
    Console().print(sweep_table.terminal_table(combinations))
    directory = _directory_of(job.config for job in jobs if job.config)
    if directory is not None:
        command = shlex.join(["python", "-m", "assl_lightning", "-m", *overrides])
        sweep_table.write_table(combinations, directory, command)
        _say(f"table: {directory / sweep_table.CSV}")


def _directory_of(configs: Iterable[Config]) -> Path | None:
    """Return the deepest directory that holds all run directories, or None if that is the root."""
    return common_directory(Path(config.run_dir).resolve().parent for config in configs)


def _rounds_of(job: Job, failed: Collection[int]) -> tuple[RoundRecord, ...]:
    """Return all rounds of a finished job, and none of another."""
    if job.config is None or job.number in failed:
        return ()
    return complete_records(Path(job.config.run_dir), job.config.settings.rounds)


def _rounds_so_far(job: Job, failed: Collection[int]) -> tuple[RoundRecord, ...]:
    """Return the trained rounds of a job that waits for labels."""
    if job.config is None or job.number in failed:
        return ()
    return tuple(trained_records(Path(job.config.run_dir), job.config.settings.rounds))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


_MOST_ALIKE = 3


def _print_job_errors(jobs: Iterable[Job]) -> None:
    """Print a line for each job's error, or one line for an error that more than three jobs share."""
    errors = [(job, line) for job in jobs for line in job.errors]
    shared = Counter(line for _, line in errors)
    for job, line in errors:
        if shared[line] <= _MOST_ALIKE:
            print_errors([f"{job.title}: {line}"])
        elif job is next(first for first, other in errors if other == line):
            print_errors([f"{job.title} and {shared[line] - 1} more jobs: {line}"])
