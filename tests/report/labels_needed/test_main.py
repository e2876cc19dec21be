"""The command: what it prints and writes."""

from __future__ import annotations

import re
import shutil
from base64 import b64decode
from pathlib import Path

import pytest
from PIL import Image

from assl_lightning.report.labels_needed.__main__ import main
from tests.report.conftest import Runs

FILES = {"curves.png", "labels_needed.png", "report.html", "results.csv", "tables.md"}
RANDOM = [[0.4, 0.5, 0.6], [0.5, 0.6, 0.7], [0.3, 0.5, 0.7], [0.4, 0.6, 0.6], [0.4, 0.4, 0.6]]
HERDING = [[0.5, 0.7, 0.8], [0.6, 0.7, 0.8], [0.4, 0.7, 0.8], [0.5, 0.7, 0.8], [0.6, 0.7, 0.7]]
LOW = [[0.1, 0.2, 0.3]] * 5


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs of three methods in two regimes; no test changes them."""
    runs = Runs(tmp_path_factory.mktemp("three") / "runs")
    for regime in ("first", "second"):
        for method, table in (("random", RANDOM), ("herding", HERDING), ("low", LOW)):
            changes = {"name": regime, "oracle.noise": 0.1 * (regime == "second")}
            runs.method(method, table, where=f"{regime}/{method}", changes=changes)
    return runs


def test_the_command_writes_beside_the_runs_and_prints_the_tables(
    three: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(three.root, tmp_path / "runs")
    assert main([str(tmp_path / "runs"), "--rule", "herding", "--title", "Fewer labels"]) == 0

    output = tmp_path / "runs" / "labels_needed"
    out = capsys.readouterr().out
    assert {path.name for path in output.iterdir()} == FILES
    assert out == f"{(output / 'tables.md').read_text()}\nreport: {output / 'report.html'}\n"
    assert out.startswith("# Fewer labels\n\n2 regimes, 5 seeds of each method.")
    assert (
        "herding. Against random: better in 2 of 2 regimes (first and second), worse in 0; not worse by more than 2 "
        "points is shown in 2." in out
    )
    assert "| first | 5 | 67.5 ± 1.8 | 52.0 ± 5.7 | +15.5 |" in out
    assert "| low | never [never, never] | never [never, never] |" in out
    assert "<title>Fewer labels</title>" in (output / "report.html").read_text()
    for name in ("labels_needed.png", "curves.png"):
        with Image.open(output / name) as image:
            assert image.format == "PNG"


def test_the_same_runs_give_the_same_bytes(three: Runs, tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert main([str(three.root), "--output", str(tmp_path / name)]) == 0
    for file in FILES:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_share_and_margin_are_in_per_cent(three: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([str(three.root), "--share", "80", "--margin", "1.5", "--output", str(tmp_path)]) == 0

    out = capsys.readouterr().out
    assert "80 % of the last accuracy of random" in out
    assert "lies above −1.5 points" in out


def test_the_methods_to_draw_may_be_fewer_than_those_of_the_tables(three: Runs, tmp_path: Path) -> None:
    for name, extra in (("all", []), ("two", ["--draw", "herding", "--draw", "random"])):
        assert main([str(three.root), *extra, "--output", str(tmp_path / name)]) == 0
    pages = {name: (tmp_path / name / "report.html").read_text() for name in ("all", "two")}
    drawn = {name: ["<!-- low -->" in figure for figure in _figures(page)] for name, page in pages.items()}

    assert drawn == {"all": [True, True], "two": [False, False]}
    assert "Drawn are 2 of 3 methods." in pages["two"]
    assert "Drawn are" not in pages["all"]
    assert (tmp_path / "two" / "tables.md").read_text() == (tmp_path / "all" / "tables.md").read_text()


def _figures(page: str) -> list[str]:
    return [b64decode(text).decode() for text in re.findall(r'image/svg\+xml;base64,([^"]+)', page)]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--rule", "best"], "error: --rule best: must be one of the methods: herding; low; random\n"),
        (["--draw", "low", "--draw", "best"], "error: --draw best: must be one of the methods: herding; low; random\n"),
        (["--baseline", "best"], "error: --baseline best: must be one of the methods: herding; low; random\n"),
        (["nowhere"], "error: nowhere does not exist; give a run's directory"),
    ],
)
def test_errors_are_one_line_and_write_nothing(
    three: Runs, extra: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([str(three.root), *extra, "--output", str(tmp_path / "report")]) == 1

    assert message in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("option", ["--share", "--margin"])
@pytest.mark.parametrize("value", ["0", "101", "much"])
def test_a_number_that_is_no_per_cent_is_refused(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([".", option, value]) == 1
    assert f"{option}: must be a number above 0 and at most 100; got '{value}'" in capsys.readouterr().err
