"""`python -m assl_lightning.check …`: check a run before it begins."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from assl_lightning.base.command_line import Parser, as_command
from assl_lightning.base.interruption import Interrupted, Interruption
from assl_lightning.base.paths import path_argument
from assl_lightning.config.compose import KEY_NOT_OPTION, compose, conf_dir, with_config_dir
from assl_lightning.config.schema import Config, ConfigurationError

_DESCRIPTION = """\
Dry-run a command: check configuration, data, run_dir and disk, and estimate the time that the run takes.

  python -m assl_lightning.check                                the default run
  python -m assl_lightning.check +experiment=cifar10_resnet18   any arguments of python -m assl_lightning

The data are read (and downloaded if the run would download them); then a few steps are trained, tested and
queried in a temporary directory. Problems that are found: images that cannot be decoded; sizes, labels and
classes that are not as declared; classes without an example; test images in the pool; repeated images; a
run_dir that holds something else; too little disk. The only files that stay are downloads, decoded images
if data.source.cache is set, and the list of --unreadable.
"""

_EPILOG = """\
Times are measured on this machine under its present load. Exit code: 0 if there are no problems (remarks do
not count), 1 if there are.
"""


@as_command
def main(arguments: Sequence[str] | None = None) -> int:
    """Check the run of the command line `arguments` (default: this process's) and return the exit code."""
    options = _make_parser().parse_intermixed_args(arguments)
    config = _read(options)
    try:
        with Interruption():
            return _check(config, options.unreadable)
    except Interrupted as interrupted:
        saved = "nothing was left behind" if interrupted.is_to_be_printed else ""
        raise Interrupted(interrupted.signum, saved) from None


def _make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m assl_lightning.check",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        for_unknown=KEY_NOT_OPTION,
    )
    parser.add_argument("overrides", nargs="*", help="key=value, group=option, +experiment=NAME, +variant=NAME")
    parser.add_argument("--config-dir", "-cd", type=path_argument, metavar="DIR", help="also look for groups in DIR")
    parser.add_argument(
        "--unreadable",
        type=path_argument,
        metavar="FILE",
        help="list in FILE, a CSV, all images that cannot be decoded",
    )
    parser.add_argument("--multirun", "-m", action="store_true", help=argparse.SUPPRESS)
    return parser


def _read(options: argparse.Namespace) -> Config:
    if options.multirun:
        raise ConfigurationError("a check is of one run: leave -m out, and give each key one value")
    overrides = with_config_dir(options.overrides, options.config_dir)
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="assl_lightning"):
        return compose(GlobalHydra.instance().hydra, overrides)


def _check(config: Config, unreadable: Path | None) -> int:
    from rich.console import Console

    from assl_lightning.check.checking import check_run
    from assl_lightning.check.printing import print_report
    from assl_lightning.commands import messages
    from assl_lightning.data.sources.undecodable import check_place, write_undecodable

    messages.set_up_messages()
    if unreadable is not None:
        check_place(unreadable)
    _announce()
    report = check_run(config)
    if unreadable is not None:
        write_undecodable(unreadable, report.unreadable)
    print_report(report, Console())
    if unreadable is not None:
        Console().print(f"{unreadable} lists {len(report.unreadable):,}", soft_wrap=True, highlight=False, markup=False)
    return 1 if report.num_wrong else 0


def _announce() -> None:
    """Say on a terminal what takes a while."""
    if sys.stderr.isatty():
        sys.stderr.write("reading the data, then training a few steps to measure the time …\n")


if __name__ == "__main__":
    sys.exit(main())
