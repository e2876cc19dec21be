"""Which commit a run is of: the package's, and never that of whatever repository it was started in."""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from assl_lightning import __version__
from assl_lightning.base.environment import commits, environment


def git(directory: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *arguments], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def make_repository(directory: Path, file: str) -> str:
    """A repository that tracks the file, and its commit."""
    (directory / file).parent.mkdir(parents=True, exist_ok=True)
    (directory / file).write_text(str(directory))
    git(directory, "init", "--quiet")
    git(directory, "add", file)
    git(directory, "commit", "--quiet", "--message", "first")
    return git(directory, "rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def _nothing_of_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assl_lightning.base.environment.distribution", origin(None))


def origin(content: str | None) -> object:
    return lambda name: SimpleNamespace(read_text=lambda file: content)


def test_a_checkout_is_of_its_commit_from_wherever_it_is_started(tmp_path: Path) -> None:
    commit = make_repository(tmp_path / "ours", "src/package/__init__.py")
    (tmp_path / "elsewhere").mkdir()
    for working_directory in (tmp_path / "elsewhere", tmp_path / "ours", tmp_path / "ours" / "src"):
        assert commits(tmp_path / "ours/src/package", working_directory) == {"git_commit": commit}


def test_a_package_in_another_projects_environment_is_not_of_that_projects_commit(tmp_path: Path) -> None:
    theirs = make_repository(tmp_path / "theirs", "train.py")
    package = tmp_path / "theirs/.venv/lib/package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert commits(package, tmp_path / "theirs") == {
        "git_commit": f"unknown (installed as version {__version__})",
        "git_commit_of_working_directory": theirs,
    }


def test_both_commits_are_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = make_repository(tmp_path / "ours", "package/__init__.py")
    theirs = make_repository(tmp_path / "theirs", "train.py")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs" / ".git"))  # as within a hook of git
    both = {"git_commit": ours, "git_commit_of_working_directory": theirs}
    assert commits(tmp_path / "ours/package", tmp_path / "theirs") == both


@pytest.mark.parametrize("content", ["{", "[]", '{"vcs_info": null}', '{"url": "file:///x", "dir_info": {}}', None])
def test_what_pip_did_not_write_down_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setattr("assl_lightning.base.environment.distribution", origin(content))
    assert commits(tmp_path, tmp_path) == {"git_commit": f"unknown (installed as version {__version__})"}


def test_what_pip_fetched_from_a_repository_is_of_the_commit_that_it_wrote_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.dumps({"url": "https://example.org/a.git", "vcs_info": {"vcs": "git", "commit_id": "abc123"}})
    monkeypatch.setattr("assl_lightning.base.environment.distribution", origin(content))
    assert commits(tmp_path, tmp_path) == {"git_commit": "abc123"}


def test_without_git_the_version_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commits(tmp_path, tmp_path) == {"git_commit": f"unknown (installed as version {__version__})"}


def test_the_versions_are_those_that_are_installed() -> None:
    found = environment()
    assert (found["assl-lightning"], found["torch"]) == (__version__, metadata.version("torch"))
    assert all(found.values())
