"""Commands that install something, in documents, configuration and messages, work today: nothing is on an index yet."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from assl_lightning.base import extras
from assl_lightning.base.extras import install_command

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
TEXTS = (*DOCUMENTS, *sorted(ROOT.glob("conf/**/*.yaml")), *sorted(ROOT.glob("src/**/*.py")))
OF_OTHERS = {
    "torch torchvision --index-url https://download.pytorch.org/whl/cpu",
    "--quiet label-studio==1.23.2",
    "hydra-ray-launcher",
    "safetensors",
}
"""What is installed from elsewhere."""

COMMAND = re.compile(r"\bpip install ((?:'[^']*'|[\w.:/=-]+)(?: (?:'[^']*'|[\w.:/=-]+))*)")


def commands(text: str) -> list[str]:
    """What is given to `pip install`, wherever the text has a whole command."""
    return [given for given in COMMAND.findall(text) if given not in OF_OTHERS]


OURS = sorted({given for path in DOCUMENTS + TEXTS for given in commands(path.read_text()) if given[:2] == "-e"})


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_this_package_is_installed_from_its_checkout_with_an_extra_that_there_is(
    path: Path,
) -> None:
    text = path.read_text()
    assert re.findall(r"assl-lightning\[.*?\]", text) == []
    for given in commands(text):
        match = re.fullmatch(r"-e (?:\.|'\.\[([\w,]+)\]')", given)
        if path.name == "extras.py":
            continue  # makes commands
        assert match is not None, f"pip install {given}"
        extras = [] if match[1] is None else match[1].split(",")
        assert set(extras) <= set(PROJECT["optional-dependencies"]), f"pip install {given}"


def test_the_documents_install_in_several_ways() -> None:
    assert len(OURS) >= 8, OURS


def requirements(extra: str) -> list[str]:
    return sorted(PROJECT["optional-dependencies"][extra])


@pytest.mark.parametrize("extra", ["label", "label_studio", "parquet", "timm", "huggingface", "activeml"])
def test_a_message_names_the_packages_of_an_extra(extra: str) -> None:
    assert sorted(shlex.split(install_command(extra))[2:]) == requirements(extra)


def test_a_message_names_the_extra_of_a_checkout_that_was_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(extras, "requires", requires)
    assert install_command("label") == "pip install -e '.[label]'"


@pytest.mark.slow
@pytest.mark.parametrize("given", OURS)
def test_a_documents_command_is_taken_by_pip_as_written(given: str) -> None:
    """All but its last step: nothing is fetched, and nothing changes in this environment."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, *shlex.split(given)], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "does not provide the extra" not in done.stderr + done.stdout
    assert "Would install assl-lightning-" in done.stdout


def test_what_the_method_page_finds_in_a_file_is_defined_there() -> None:
    page = (ROOT / "docs" / "method.md").read_text()
    found = re.findall(r"((?:`[\w.]+`(?:, with | and )?)+) in \[[\w.]+\]\(\.\./([\w/.]+\.py)\)", page)
    named = {(name, file) for names, file in found for name in re.findall(r"[\w.]+", names) if name != "and"}
    assert len(named) >= 12
    for name, file in sorted(named):
        for part in name.split("."):
            assert re.search(rf"^ *(?:class|def) {part}\b", (ROOT / file).read_text(), re.MULTILINE), (name, file)
