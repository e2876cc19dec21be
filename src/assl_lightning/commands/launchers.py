"""The jobs of a sweep run by other launchers of Hydra (joblib, submitit, Ray, …).

This module adds what the launchers do not do: a job that is asked to end saves its state, in whichever process it runs;
a job whose process dies does not take the results of the others with it; and Ctrl-C reaches every job once.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig

from assl_lightning.base.atomic import write_text
from assl_lightning.base.interruption import Interrupted, Interruption
from assl_lightning.base.output import watched_output
from assl_lightning.base.paths import expanded
from assl_lightning.base.shell import quote
from assl_lightning.base.words import first_line
from assl_lightning.commands.jobs import Outcome, run_job
from assl_lightning.config.compose import one_line_errors, validate
from assl_lightning.config.hydra_keys import overrides_of
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.config.values import show

_SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher."
_JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
_HERE = (_JOBLIB, f"{_SUBMITIT}LocalLauncher")
"""Launchers whose jobs are processes of this machine, which end when the sweep does."""

_STOP, _PROCESS, _OUTCOME = "stop", "process", "outcome.json"
_POLL = 0.2  # seconds between two looks for a signal while jobs run in other processes


def runs_here(settings: DictConfig) -> bool:
    """True if the launcher's jobs are processes of this machine."""
    return settings.launcher._target_ in _HERE


def launch(
    hydra: Any, overrides: Sequence[str], settings: DictConfig, tasks: Sequence[list[str]], beside: Path
) -> list[Outcome]:
    """Run a job for each list of overrides in `tasks`, which have been checked, and return their results in order.

    Args:
        hydra: `GlobalHydra.instance().hydra`.
        overrides: those of the sweep, from the command line.
        settings: the composed configuration under `hydra`.
        beside: a directory that all machines see. It gets a temporary directory for jobs on other machines.

    Raises:
        ConfigurationError: the launcher refuses its own settings.
        Interrupted: Ctrl-C or SIGTERM came. Jobs on this machine were saved; those on other machines go on.
    """
    _check_tasks_per_node(settings)
    is_known = runs_here(settings) or settings.launcher._target_.startswith(_SUBMITIT)
    parent = beside if is_known and not runs_here(settings) else None
    with sweep_directory(settings, parent) as directory:
        _forget_earlier_jobs(directory.path)
        more = [f"hydra.sweep.dir={quote(str(directory.path))}"]
        with one_line_errors(hydra, overrides, RunMode.MULTIRUN):
            composed = hydra.compose_config("config", [*overrides, *more], RunMode.MULTIRUN, from_shell=False)
            launcher = _instantiate(hydra, composed, run_in_worker if is_known else run_composed)
        jobs = _SubmittedJobs(launcher, tasks, directory)
        return jobs.wait_here() if runs_here(settings) else jobs.wait()


def _check_tasks_per_node(settings: DictConfig) -> None:
    tasks = settings.launcher.get("tasks_per_node", 1)
    if runs_here(settings) and tasks != 1:
        raise ConfigurationError(
            f"{show('hydra.launcher.tasks_per_node', tasks)}: must be 1 on this machine, or several processes would "
            f"write one run; leave it out"
        )


def _forget_earlier_jobs(directory: Path) -> None:
    """Remove the files of an earlier sweep's jobs from a given directory: their process ids may be reused by now."""
    for pattern in (_STOP, f"*_{_PROCESS}", f"*_{_OUTCOME}"):
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)


def _instantiate(hydra: Any, composed: DictConfig, task: TaskFunction) -> Any:
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(composed))
    return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=composed)


@dataclass
class SweepDirectory:
    """The directory of the launchers' own files; `keep` it if they explain an error, or jobs still need them."""

    path: Path
    keep: bool = False


@contextmanager
def sweep_directory(settings: DictConfig, parent: Path | None = None) -> Iterator[SweepDirectory]:
    """Open `hydra.sweep.dir` if given, else a temporary directory, within `parent` if given."""
    if any(override.startswith("hydra.sweep.dir=") for override in overrides_of(settings)):
        yield SweepDirectory(expanded(settings.sweep.dir).absolute(), keep=True)
        return
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    name = "assl_lightning_" if parent is None else ".sweep_"
    directory = SweepDirectory(Path(tempfile.mkdtemp(prefix=name, dir=parent)))
    try:
        yield directory
    finally:
        if not directory.keep:
            shutil.rmtree(directory.path, ignore_errors=True)


# --- the sweep's process ---------------------------------------------------------------------------------------------


@dataclass
class _SubmittedJobs:
    """Jobs that a launcher runs."""

    launcher: Any
    tasks: Sequence[list[str]]
    directory: SweepDirectory
    outcomes: list[Outcome] = field(default_factory=list)

    def wait(self) -> list[Outcome]:
        """Wait for jobs that may outlive this process; a signal ends only the waiting."""
        try:
            with Interruption():
                self._launch()
        except Interrupted as interrupted:
            self.directory.keep = True
            saved = f"submitted jobs go on and need {self.directory.path}; the same command does not wait for them"
            raise Interrupted(interrupted.signum, saved) from None
        return self.outcomes

    def wait_here(self) -> list[Outcome]:
        """Wait for processes of this machine: pass a request to end on to them; a second Ctrl-C kills them."""
        thread = threading.Thread(target=self._launch_with_sigint_blocked, daemon=True)
        is_passed_on = False
        try:
            with Interruption() as interruption, interruption.deferred():
                thread.start()
                while thread.is_alive():
                    thread.join(_POLL)
                    if interruption.signum is not None and not is_passed_on:
                        is_passed_on = True
                        self._ask_to_end()
        except Interrupted:
            self._signal(signal.SIGKILL)
            raise
        if interruption.signum is not None:
            done = sum(not outcome.errors for outcome in self.outcomes)
            saved = f"{done} of {len(self.tasks)} jobs are done, and the same command goes on with the others"
            raise Interrupted(interruption.signum, saved)
        return self.outcomes

    def _launch_with_sigint_blocked(self) -> None:
        """Launch in a thread that blocks Ctrl-C; its processes inherit that, and `wait_here` passes Ctrl-C on."""
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._launch()

    def _launch(self) -> None:
        try:
            results = self.launcher.launch(self.tasks, initial_job_idx=0)
        except Exception as error:
            self._wait_for_processes()
            self.directory.keep = True
            line = f"it gave no answer ({first_line(error)}); see the launcher's files in {self.directory.path}"
            self.outcomes = [_read_outcome(self.directory.path, n) or Outcome((line,)) for n in range(len(self.tasks))]
        else:
            self.outcomes = [_outcome_of(result) for result in results]

    def _ask_to_end(self) -> None:
        (self.directory.path / _STOP).touch()  # for jobs that begin now: they look here after writing their process id
        self._signal(signal.SIGTERM)

    def _signal(self, signum: int) -> None:
        for process in _processes(self.directory.path):
            with suppress(ProcessLookupError):
                os.kill(process, signum)

    def _wait_for_processes(self) -> None:
        """Wait for the other jobs after one was lost: submitit's jobs are processes of their own."""
        while any(map(_is_alive, _processes(self.directory.path))):
            time.sleep(_POLL)


def _outcome_of(result: Any) -> Outcome:
    try:
        outcome: Outcome = result.return_value
    except ConfigurationError as error:
        return Outcome(error.lines)
    return outcome


def _read_outcome(directory: Path, number: int) -> Outcome | None:
    """Return the result that a job has written, for a launcher that lost it."""
    path = directory / f"{number}_{_OUTCOME}"
    return Outcome(tuple(json.loads(path.read_text()))) if path.exists() else None


def _processes(directory: Path) -> list[int]:
    """Return the ids of this machine's processes that run a job now."""
    found = []
    for path in directory.glob(f"*_{_PROCESS}"):
        with suppress(FileNotFoundError):
            host, process = json.loads(path.read_text())
            if host == socket.gethostname():
                found.append(process)
    return found


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


# --- a job's process -------------------------------------------------------------------------------------------------


def run_composed(composed: DictConfig) -> Outcome:
    """Run one job, in any process of a launcher; it has been checked before."""
    config = validate(composed, HydraConfig.get().overrides.task if HydraConfig.initialized() else ())
    try:
        refuse_more_processes(config)
    except ConfigurationError as error:
        return Outcome(error.lines)
    return run_job(config)


def run_in_worker(composed: DictConfig) -> Outcome:
    """Run one job in a process that runs nothing else, and that may be asked to end."""
    from assl_lightning.loop import slurm

    settings = HydraConfig.get()
    directory, number = Path(settings.sweep.dir), settings.job.num
    preemption = slurm.submitit_signal()
    try:
        signums = (signal.SIGINT, signal.SIGTERM, *([] if preemption is None else [preemption]))
        with Interruption(signums), watched_output(), _pid_file(directory, number):
            if (directory / _STOP).exists():
                return Outcome(("not begun",))
            outcome = run_composed(composed)
            write_text(directory / f"{number}_{_OUTCOME}", json.dumps(outcome.errors))
            return outcome
    except Interrupted as interrupted:
        return _return_to_queue(interrupted) if interrupted.signum == preemption else Outcome((str(interrupted),))


def _return_to_queue(interrupted: Interrupted) -> Outcome:
    """Call submitit's own handler, now that all is saved: it queues the job again, and exits."""
    try:
        signal.raise_signal(interrupted.signum)
    except Exception as error:
        return Outcome((f"{interrupted} ({error})",))
    return Outcome((str(interrupted),))


@contextmanager
def _pid_file(directory: Path, number: int) -> Iterator[None]:
    path = directory / f"{number}_{os.getpid()}_{_PROCESS}"
    write_text(path, json.dumps([socket.gethostname(), os.getpid()]))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def refuse_more_processes(config: Config) -> None:
    """Raise if Lightning would start further processes: it repeats the command line, which here is the launcher's."""
    from assl_lightning.commands import messages
    from assl_lightning.config import prepare

    messages.set_up_messages()
    processes = prepare.processes_to_start(config)
    if processes:
        raise ConfigurationError(
            f"{show('trainer.devices', config.trainer.get('devices'))}: a launcher's job has one process, and this one "
            f"would start {processes} more; leave hydra/launcher out, and the jobs run one after the other on all "
            f"devices, or use trainer.devices=1"
        )
