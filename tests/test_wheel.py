"""The wheel holds conf/ and runs anywhere: built, installed into an environment of its own, run from elsewhere."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sys
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.shell import run, run_python

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[1]
SHORT = ["rounds=1", "warm_up=none", "steps_per_round=2", "algorithm.batch_size=4", "trainer.accelerator=cpu"]


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and an empty directory to run in."""

    path: Path
    directory: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        return run(self.path / "bin" / command[0], *command[1:], cwd=self.directory, env=clean)


def make_environment(path: Path) -> Environment:
    venv.create(path, with_pip=False)
    (path / "elsewhere").mkdir()
    return Environment(path, path / "elsewhere")


def install(environment: Environment, wheel: Path, *options: str) -> None:
    """With the home of whoever runs the tests, where pip's configuration and its cache are."""
    of_pip = {**os.environ, "HOME": pwd.getpwuid(os.getuid()).pw_dir}
    python = environment.path / "bin" / "python"
    run_python("-m", "pip", "--python", python, "install", "--quiet", *options, wheel, env=of_pip)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run_python("-m", "build", "--no-isolation", "--outdir", out, ROOT)
    (built,) = out.glob("*.whl")
    return built


def test_the_index_would_take_what_is_built(wheel: Path) -> None:
    """Its metadata are valid and its long description can be rendered."""
    pytest.importorskip("twine", reason="of the tools, not of the tests")
    done = run_python("-m", "twine", "--no-color", "check", "--strict", *sorted(wheel.parent.iterdir()))
    assert done.stdout.count("PASSED") == 2, done.stdout


def test_the_sdist_holds_what_the_tests_and_the_documents_need(wheel: Path) -> None:
    """The wheel is built from it, in a directory where nothing else is."""
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = ["Makefile", ".ci/run", "LICENSE", "tests/conftest.py", "src/assl_lightning/py.typed"]
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text())
    there = names | {str(parent) for name in names for parent in Path(name).parents}
    assert [path for path in wanted + linked if path.rstrip("/") not in there] == []


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel, with the dependencies of the running interpreter, whose own copy of the package is not seen."""
    environment = make_environment(tmp_path_factory.mktemp("environment"))
    site_packages = next((environment.path / "lib").glob("python*/site-packages"))
    dependencies = {path for path in sys.path if path.endswith("site-packages")}
    (site_packages / "dependencies.pth").write_text("\n".join(sorted(dependencies)) + "\n")
    install(environment, wheel, "--no-deps")
    return environment


def test_the_wheel_holds_every_yaml_file_and_the_marker_of_its_types(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    yaml_files = {f"assl_lightning/conf/{path.relative_to(ROOT / 'conf')}" for path in ROOT.glob("conf/**/*.yaml")}
    page = ROOT / "src/assl_lightning/people/page"
    page_files = {
        path.relative_to(ROOT / "src").as_posix()
        for kind in ("static", "templates")
        for path in (page / kind).iterdir()
    }

    assert yaml_files <= names
    assert page_files <= names
    assert {"page.js", "page.css", "page.html", "refused.html"} <= {Path(name).name for name in page_files}
    assert "assl_lightning/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "conf/"))]


def test_the_configuration_comes_from_the_wheel(installed: Environment) -> None:
    code = "from assl_lightning.config.compose import conf_dir; print(conf_dir())"
    found = Path(installed.run("python", "-c", code).stdout.strip())

    assert found.is_relative_to(installed.path)
    assert found.name == "conf"


def test_help_and_configuration_are_shown_from_another_directory(installed: Environment) -> None:
    assert "cifar10_resnet18" in installed.run("python", "-m", "assl_lightning", "--help").stdout
    assert "+experiment=" in installed.run("assl-lightning", "--help").stdout
    shown = installed.run("python", "-m", "assl_lightning", "+experiment=svhn_vit", "--cfg", "job", "-p", "run_dir")
    assert shown.stdout == "runs/svhn_vit/seed_0\n"
    assert list(installed.directory.iterdir()) == []


def test_a_run_from_another_directory_leaves_its_files_there(installed: Environment) -> None:
    done = installed.run("python", "-m", "assl_lightning", *SHORT)

    lines = (installed.directory / "runs/digits/seed_0/rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["labels"] for line in lines] == [10, 20]
    assert "accuracy against labels: runs/digits/seed_0/report/curve.png" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
def test_the_wheel_brings_what_it_needs_into_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "empty")
    install(environment, wheel)

    environment.run("python", "-m", "assl_lightning", *SHORT)
    assert (environment.directory / "runs/digits/seed_0/rounds.jsonl").exists()
