"""What the loop needs and the callback does not, told at the first use of the loop."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from assl_lightning.base import versions
from assl_lightning.base.versions import NEEDED, require_versions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

PROJECT: dict[str, Any] = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def floors(requirements: list[str]) -> dict[str, str]:
    return {match[1]: match[2] for text in requirements if (match := re.match(r"([\w-]+)>=([\d.]+)", text))}


def with_versions(monkeypatch: pytest.MonkeyPatch, **found: str) -> None:
    monkeypatch.setattr(versions, "version", {name.replace("_", "-"): text for name, text in found.items()}.__getitem__)


def test_the_extra_of_the_loop_has_the_versions_that_the_loop_asks_for() -> None:
    assert floors(PROJECT["optional-dependencies"]["loop"]) == NEEDED
    of_callback = floors(PROJECT["dependencies"])
    assert {name: of_callback[name] for name in NEEDED} == {"lightning": "2.4", "hydra-core": "1.3.2"}
    assert any("loop" in text for text in PROJECT["optional-dependencies"]["test"])


@pytest.mark.parametrize("found", ["2.6.6", "2.6.10", "2.7.0.dev1", "3.0"])
def test_a_version_that_is_new_enough_is_accepted(monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    with_versions(monkeypatch, lightning=found, hydra_core="1.3.8")
    require_versions("lightning", "hydra-core")


def test_an_older_version_is_one_sentence_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    with_versions(monkeypatch, lightning="2.4.0", hydra_core="1.3.2")
    begins = (
        r"the loop of rounds needs lightning>=2\.6\.6 and hydra-core>=1\.3\.8; installed is lightning 2\.4\.0 and "
        r"hydra-core 1\.3\.2, which is enough for ASSLScoreCallback alone; install what the loop needs with "
        r"pip install "
    )
    with pytest.raises(ImportError, match=begins):
        require_versions("lightning", "hydra-core")
    with pytest.raises(ImportError, match=r"the loop of rounds needs lightning>=2\.6\.6; installed is lightning 2"):
        require_versions("lightning")


def test_a_package_without_a_version_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(versions, "version", version)
    require_versions("lightning")


def test_the_loop_asks_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assl_lightning import run_rounds

    with_versions(monkeypatch, lightning="2.4.0", hydra_core="1.3.8")
    given: dict[str, Any] = dict.fromkeys(
        ("pool", "datamodule", "make_network", "make_algorithm", "make_trainer", "acquisition", "oracle", "settings")
    )
    with pytest.raises(ImportError, match="the loop of rounds needs lightning"):
        run_rounds(**given, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "check"])
def test_a_command_asks_before_it_composes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    from assl_lightning.check import __main__ as check
    from assl_lightning.commands import train

    with_versions(monkeypatch, lightning="2.6.6", hydra_core="1.3.2")
    main = {"train": train.main, "check": check.main}[command]
    assert main(["seed=1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the loop of rounds needs hydra-core>=1.3.8; installed is hydra-core 1.3.2, which")
