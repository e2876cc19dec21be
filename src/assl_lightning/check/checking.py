"""The check of one configuration: directory, data, trial, disk. It leaves no files behind."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from assl_lightning.base.command_line import line_of
from assl_lightning.check.directory import DirectoryState, nearest_existing, read_directory
from assl_lightning.check.estimate import Estimate, check_disk, extrapolate, remarks_on
from assl_lightning.check.findings import Finding, wrong
from assl_lightning.check.images import check_images
from assl_lightning.check.trial import Trial, run_trial
from assl_lightning.config import prepare
from assl_lightning.config.build import make_settings
from assl_lightning.config.class_list import plan_classes
from assl_lightning.config.precision import with_precision
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.undecodable import Row, rows_behind, rows_of


@dataclass(frozen=True)
class Report:
    """The results of a check; None for a part that an earlier problem prevented."""

    config: Config
    directory: DirectoryState
    free_bytes: int
    free_at: Path
    findings: tuple[Finding, ...]
    source: PoolSource | None = None
    trial: Trial | None = None
    estimate: Estimate | None = None
    unreadable: tuple[Row, ...] = ()

    @property
    def num_wrong(self) -> int:
        """The number of problems that must be fixed before the run."""
        return sum(finding.severity == "wrong" for finding in self.findings)


def check_run(config: Config) -> Report:
    """Check a run of `config`.

    Raises:
        ConfigurationError: a class does not accept its arguments in the configuration.
    """
    prepare.check(config)
    run_dir = Path(config.run_dir)
    free_at = nearest_existing(run_dir)
    of_data: list[Finding] = []
    source: PoolSource | None = None
    trial: Trial | None = None
    estimate: Estimate | None = None
    started = time.perf_counter()
    unreadable: list[Row] = []
    with _as_findings(of_data, "Reading the data"), _noting_rows(unreadable):
        config = with_precision(config)
        planned = plan_classes(config, prepare.read_class_names)
        config = planned.config
        source = prepare.load_source(config, planned.later)
        config = prepare.fill_from_data(config, source)
    read_seconds = time.perf_counter() - started
    directory = read_directory(run_dir, make_settings(config, source))
    findings = [*directory.findings, *of_data]
    if source is not None:
        unreadable += rows_of(source)
        may_exclude = config.data.unreadable == "exclude"
        settings = config.settings
        findings += check_images(source, settings.initial_labels, may_exclude=may_exclude, hold_out=settings.hold_out)
        if directory.complete_rounds <= settings.rounds and not directory.has_ended:
            trial = _try(config, source, findings)
    free = shutil.disk_usage(free_at).free
    if trial is not None:
        complete, is_warm = directory.complete_rounds, directory.is_warm
        estimate = extrapolate(config, trial, read_seconds, complete, is_warm=is_warm)
        findings += remarks_on(config, trial)
        findings += check_disk(max(estimate.most_bytes - directory.num_bytes, 0), free, free_at)
    return Report(config, directory, free, free_at, tuple(findings), source, trial, estimate, tuple(unreadable))


def _try(config: Config, source: PoolSource, findings: list[Finding]) -> Trial | None:
    """Run the trial; on an error, return None and add it to `findings`."""
    with _as_findings(findings, "A trial of a few steps"):
        return run_trial(replace(config, data=replace(config.data, unreadable="exclude")), source)
    return None


@contextmanager
def _noting_rows(rows: list[Row]) -> Iterator[None]:
    """Add the undecodable images behind an error of the block to `rows`."""
    try:
        yield
    except Exception as error:
        rows += rows_behind(error)
        raise


@contextmanager
def _as_findings(findings: list[Finding], what: str) -> Iterator[None]:
    """Turn an error of the block, which does `what`, into findings, so that the check goes on."""
    try:
        yield
    except ConfigurationError as error:
        findings += [wrong(f"{line}.") for line in error.lines]
    except SystemExit as error:
        findings.append(wrong(f"{what} ended itself with exit code {error.code}."))
    except Exception as error:
        findings.append(wrong(f"{what} failed: {line_of(error)}."))
