"""`python -m assl_lightning`: compose with Hydra, validate, and only then import torch and run.

`hydra.main` is not used, because it makes directories before the configuration is checked, and prints errors over
several lines. Here an error is one line and exit code 1, and nothing is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from signal import SIGINT
from typing import Any

from hydra import __version__ as hydra_version
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from assl_lightning.base.command_line import Parser, as_command, print_errors
from assl_lightning.base.interruption import Interrupted
from assl_lightning.base.paths import path_argument
from assl_lightning.base.shell import command
from assl_lightning.base.version import __version__
from assl_lightning.base.words import closest
from assl_lightning.commands.jobs import run_in_child, run_job
from assl_lightning.commands.sweep import sweep
from assl_lightning.config.compose import KEY_NOT_OPTION, compose, conf_dir, in_order, one_line_errors, with_config_dir
from assl_lightning.config.schema import ConfigurationError


@as_command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: this process's) and return its exit code."""
    try:
        if (exit_code := run_in_child()) is not None:
            return exit_code
        _refuse_command(sys.argv[1:] if arguments is None else arguments)
        options = _make_parser().parse_intermixed_args(arguments)
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="assl_lightning"):
            return _dispatch(GlobalHydra.instance().hydra, options)
    except KeyboardInterrupt:
        raise Interrupted(SIGINT, "the same command goes on from where the run was last saved") from None


COMMANDS = ("audit", "check", "classes", "export", "ingest", "label", "predict", "query", "report", "status")
"""The modules that are commands of their own."""


def _refuse_command(arguments: Sequence[str]) -> None:
    """Raise for the name of another command, as in `assl_lightning status`, and show how to call it."""
    word = arguments[0] if arguments else ""
    if name := closest(word, COMMANDS, cutoff=0.75):
        raise ConfigurationError(f"{word}: is a command of its own; write {command(name, *arguments[1:])}")


def _make_parser() -> argparse.ArgumentParser:
    """Make a parser of Hydra's options, without those that would replace `conf/` or its entry point."""
    parser = Parser(prog="python -m assl_lightning", add_help=False, for_unknown=KEY_NOT_OPTION)
    parser.add_argument("overrides", nargs="*", help="key=value, group=option, +experiment=NAME, +variant=NAME")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument(
        "--version", action="version", version=f"assl-lightning {__version__}, hydra-core {hydra_version}"
    )
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--package", "-p")
    parser.add_argument("--run", "-r", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--config-dir", "-cd", type=path_argument)
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    info = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
    parser.add_argument("--info", "-i", const="all", nargs="?", choices=info)
    return parser


def _dispatch(hydra: Any, options: argparse.Namespace) -> int:
    overrides = options.overrides = in_order(with_config_dir(options.overrides, options.config_dir))
    if _show(hydra, options):
        return 0
    with one_line_errors(hydra, overrides):
        is_sweep = options.multirun or (not options.run and hydra.get_mode("config", overrides) == RunMode.MULTIRUN)
    if is_sweep:
        return sweep(hydra, overrides)
    outcome = run_job(compose(hydra, overrides))
    print_errors(outcome.errors)
    return 1 if outcome.errors else 0


def _show(hydra: Any, options: argparse.Namespace) -> bool:
    """Print the help, the configuration or the like, if that was requested; else return False."""
    overrides = options.overrides
    with one_line_errors(hydra, [] if options.shell_completion else overrides):
        if options.shell_completion:
            hydra.shell_completion("config", overrides)
        elif options.help:
            hydra.app_help("config", args_parser=_make_parser(), args=options)
        elif options.hydra_help:
            hydra.hydra_help("config", args_parser=_make_parser(), args=options)
        elif options.cfg is not None:
            hydra.show_cfg("config", overrides, options.cfg, options.package, options.resolve)
        elif options.info is not None:
            hydra.show_info(options.info, config_name="config", overrides=overrides)
        else:
            return False
    return True
