"""The training commands of documents, of the heads of experiments and variants, and of the Makefile compose."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from assl_lightning.config.compose import conf_dir
from assl_lightning.config.schema import Config

pytestmark = pytest.mark.e2e

Compose = Callable[..., Config]

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "cifar10_resnet18",
    "svhn_resnet18",
    "cifar100_resnet18",
    "mini_imagenet_resnet18",
    "cifar10_vit",
    "svhn_vit",
)
ABBREVIATIONS = {
    "M8": "random,entropy,coreset,badge,cdal,alfa_mix,assl,assl_div",
    "M6": "random,entropy,coreset,badge,cdal,alfa_mix",
}


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def last_of(override: str) -> str:
    """Return the override, or of several values the last; each must exist where a group's are swept."""
    (parsed,) = OverridesParser.create().parse_overrides([override])
    if not parsed.is_sweep_override():
        return override
    values = list(parsed.sweep_string_iterator())
    if (conf_dir() / parsed.key_or_group).is_dir():
        assert set(values) <= set(options(parsed.key_or_group))
    return f"{override.partition('=')[0]}={values[-1]}"


def compose_command(compose_run: Compose, words: list[str]) -> Config:
    """Return the configuration of a command's last job."""
    return compose_run(*map(last_of, words[words[0] == "-m" :]))


# --- the heads of the files ------------------------------------------------------------------------------------------


PYTHON_M = re.compile(r"python -m (assl_lightning[\w.]*) (.+)")
ADDED = [(group, name) for group in ("experiment", "variant") for name in options(group)]


def commands_in_head(path: Path) -> list[tuple[str, list[str]]]:
    """Return module and arguments of each command in a file's head."""
    lines = [line.removeprefix("#   ") for line in path.read_text().splitlines() if line.startswith("#   ")]
    assert [line for line in lines if not PYTHON_M.fullmatch(line)] == [], "an indented line of the head is a command"
    found = [match for match in map(PYTHON_M.fullmatch, lines) if match]
    return [(module, shlex.split(arguments)) for module, arguments in (match.groups() for match in found)]


@pytest.mark.parametrize(("group", "name"), ADDED)
def test_the_commands_in_a_files_head_are_valid_and_lead_to_the_report(
    compose_run: Compose, group: str, name: str
) -> None:
    given = commands_in_head(conf_dir() / group / f"{name}.yaml")
    trained = [arguments for module, arguments in given if module == "assl_lightning"]
    read = [arguments for module, arguments in given if module != "assl_lightning"]
    names = {compose_command(compose_run, arguments).name for arguments in trained}

    assert any(f"+{group}={name}" in arguments for arguments in trained)
    for arguments in read:
        directories = {Path(word).parts[1] for word in arguments if word.startswith("runs/")}
        without_variant = {written.removesuffix(f"_{name}") for written in names} if group == "variant" else set()
        assert directories <= names | without_variant
        assert directories & names
    assert read


# --- documents -------------------------------------------------------------------------------------------------------


def commands_in(document: str) -> list[str]:
    """Return the arguments of each training command: in docs/experiments.md also those without `python -m …` before."""
    text = re.sub(r"\\\n\s*", "", (ROOT / document).read_text())
    whole = re.findall(r"^(?:\w+=\S+ |srun )*python -m assl_lightning ([^#\n]+)", text, re.MULTILINE)
    short = re.findall(r"`((?:-m )?\+experiment=[^`]+)`", text)
    return [
        re.sub("M8|M6", lambda found: ABBREVIATIONS[found[0]], command.strip().replace("SETTING", setting))
        for command in [*whole, *short]
        for setting in (SETTINGS if "SETTING" in command else ("",))
    ]


DOCUMENTS = (
    "docs/runs.md",
    "docs/experiments.md",
    "docs/sweeps.md",
    "docs/long_runs.md",
    "README.md",
    "results/README.md",
)
DOCUMENTED = sorted({command for document in DOCUMENTS for command in commands_in(document)} - {"--help"})


@pytest.mark.parametrize("command", DOCUMENTED)
def test_a_command_of_the_documents_composes(compose_run: Compose, command: str) -> None:
    if "hydra/launcher=ray" in command:
        pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="its package asks for older ones of others")
    compose_command(compose_run, shlex.split(command))


def test_the_documents_have_their_commands() -> None:
    assert {document: len(commands_in(document)) >= 3 for document in DOCUMENTS[:3]} == dict.fromkeys(
        DOCUMENTS[:3], True
    )
    assert (
        "-m +experiment=svhn_vit +variant=al acquisition=random,entropy,coreset,badge,cdal,alfa_mix seed=0,1,2"
        in DOCUMENTED
    )


@pytest.mark.parametrize(("group", "name"), ADDED)
def test_docs_experiments_has_every_experiment_and_every_variant(group: str, name: str) -> None:
    text = (ROOT / "docs" / "experiments.md").read_text()

    assert f"`{name}`" in text or f"+{group}={name}" in text


# --- the Makefile ----------------------------------------------------------------------------------------------------


RUN_BY_A_SHELL = ("results-digits", "results-bald", "results-fashion-mnist", "results-instability", "results-picks")
PRINTED = ("compare-digits", "compare-fashion-mnist")  # not run: their last line copies a figure into docs/

NOTE = """#!{python}
import json, sys
print(json.dumps(sys.argv[1:]))
"""


def make(directory: Path, *arguments: str) -> str:
    """Return what make prints, with a program in Python's place that only prints what it is given."""
    directory.joinpath("bin").mkdir()
    directory.joinpath(".installed").touch()
    note = directory / "bin" / "python"
    note.write_text(NOTE.format(python=sys.executable))
    note.chmod(0o755)
    command = ["make", "--no-print-directory", "--silent", f"VENV={directory}", "-o", "pyproject.toml", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_commands_that_made_the_results_compose(compose_run: Compose, tmp_path: Path) -> None:
    given = [json.loads(line) for line in make(tmp_path, *RUN_BY_A_SHELL).splitlines()]
    configs = [compose_command(compose_run, words[2:]) for words in given if words[:2] == ["-m", "assl_lightning"]]

    assert {config.name for config in configs} == {
        *("digits_short", "digits_short_continue", "digits_short_supervised", "fashion_short", "instability_small")
    }
    assert len({config.run_dir for config in configs}) == len(configs) > 20


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_commands_that_made_the_readmes_tables_compose(compose_run: Compose, tmp_path: Path) -> None:
    printed = make(tmp_path, "--just-print", *PRINTED).replace("\\\n", " ")
    trained = [shlex.split(words) for words in re.findall(r"python -m assl_lightning (-m .+)", printed)]

    assert [compose_command(compose_run, words).name for words in trained] == [
        *("digits_supervised", "digits", "fashion_mnist")
    ]
