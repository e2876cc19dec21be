from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from assl_lightning.report.__main__ import main
from assl_lightning.report.output import default_output
from tests.shell import run_python

if TYPE_CHECKING:
    from tests.report.conftest import Runs

FILES = {"curves.png", "report.html", "results.csv", "tables.md"}


@pytest.fixture
def two(runs: Runs) -> Runs:
    runs.method("assl", [[0.5, 0.9], [0.6, 0.8], [0.55, 0.95]])
    runs.method("random", [[0.5, 0.8], [0.6, 0.78], [0.55, 0.81]])
    return runs


def test_the_command_writes_beside_the_runs_and_prints_the_tables(
    two: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(two.root), "--title", "Digits"]) == 0
    output = two.root / "report"
    assert {path.name for path in output.iterdir()} == FILES
    out = capsys.readouterr().out
    assert out == f"{(output / 'tables.md').read_text()}\nreport: {output / 'report.html'}\n"
    assert out.startswith("# Digits\n")
    assert "| assl (n = 3) | 55.0 ± 5.0 | 88.3 ± 7.6 |" in out
    assert "| assl | last round | 3 | +8.7 | [−6.5, +23.8] |" in out
    assert "<title>Digits</title>" in (output / "report.html").read_text()
    assert (output / "results.csv").read_text().count("\n") == 1 + 2 * 3 * 2
    with Image.open(output / "curves.png") as image:
        assert image.format == "PNG"


def test_the_same_runs_give_the_same_bytes(two: Runs, tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert main([str(two.root), "--output", str(tmp_path / name)]) == 0
    for file in FILES:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.e2e
def test_another_process_gives_the_same_page(two: Runs, tmp_path: Path) -> None:
    assert main([str(two.root), "--output", str(tmp_path / "here")]) == 0
    run_python("-m", "assl_lightning.report", two.root, "--output", tmp_path / "there")
    assert (tmp_path / "here/report.html").read_bytes() == (tmp_path / "there/report.html").read_bytes()


@pytest.mark.e2e
def test_the_command_needs_neither_torch_nor_lightning(two: Runs, tmp_path: Path) -> None:
    code = (
        "import sys; from assl_lightning.report.__main__ import main; failed = main(sys.argv[1:]); "
        "sys.exit(failed or ','.join({'torch', 'lightning', 'hydra'} & set(sys.modules)) or 0)"
    )
    assert run_python("-c", code, two.root, "--output", tmp_path / "out").stderr == ""


def test_names_and_samples_from_outside_are_escaped(runs: Runs) -> None:
    evil = "<script>\"'&$x$"
    run = runs.add(evil, 0, [0.5, 0.6], where="evil", queried_labels=[1])
    runs.write_sheet(run / "round_00" / "queried.png", [(1, 2, 3)])
    runs.write_queried(run / "round_00" / "queried.csv", [evil])
    runs.write_histograms(run / "round_00" / "histograms.json", {evil: {"edges": [0, 1], "pool": [1], "queried": [1]}})
    runs.add("random", 0, [0.5, 0.6])
    assert main([str(runs.root)]) == 0
    page = (runs.root / "report/report.html").read_text()
    assert "<script" not in page
    assert 'alt="&lt;script&gt;&#34;&#39;&amp;$x$"' in page
    assert "<script" not in (runs.root / "report/tables.md").read_text()


def test_settings_have_a_figure_each(runs: Runs) -> None:
    for init in ("rand", "continue"):
        runs.method("assl", [[0.5, 0.6]], where=f"assl_{init}", changes={"init": init})
    assert main([str(runs.root), "--settings"]) == 0
    found = {path.name for path in (runs.root / "report").iterdir()}
    assert found == {"curves_1.png", "curves_2.png", "report.html", "results.csv", "tables.md"}


def test_steps_have_a_report_of_their_own(runs: Runs) -> None:
    run = runs.add("assl", 0, [0.5])
    runs.write_metrics(run / "round_00" / "metrics.csv", {49: (0.4, 0.3), 99: (0.5, 0.4)})
    assert main([str(runs.root), "--steps"]) == 0
    found = {path.name for path in (run / "report").iterdir()}  # one run: in its own directory
    assert found == {"curves.png", "report.html", "steps.csv", "tables.md"}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--against", "best"], "error: --against best: must be one of the methods of digits smallcnn: assl; random\n"),
        (["nowhere"], "error: nowhere does not exist; give a run's directory"),
        (["--steps"], "metrics.csv is missing, but --steps reads the evaluations in it"),
        (["--steps", "--against", "assl"], "error: --against cannot be used with --steps"),
    ],
)
def test_wrong_arguments_are_one_line_and_write_nothing(
    two: Runs, extra: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(two.root), *extra]) == 1
    written = capsys.readouterr()
    assert message in written.err
    assert written.err.count("\n") == 1
    assert written.out == ""
    assert not (two.root / "report").exists()


def test_a_run_that_was_extended_is_compared_over_the_rounds_that_all_have(
    two: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    two.add("assl", 3, [0.5, 0.7, 0.9], changes={"rounds": 2})
    assert main([str(two.root)]) == 0
    said = "is over the first 2 trainings, which all runs have: assl with seed 3 has 3"
    printed = capsys.readouterr().out
    assert said in printed
    assert "mean ± s.d. over n seeds; over the first 2 trainings, which all runs have" in printed
    report = two.root / "report"
    assert said in (report / "report.html").read_text()
    assert said in (report / "tables.md").read_text()
    rows = list(csv.DictReader((report / "results.csv").read_text().splitlines()))
    newest = [row["test_accuracy_ema"] for row in rows if (row["method"], row["seed"]) == ("assl", "3")]
    assert newest == ["0.5", "0.7", "0.9"]


def test_runs_that_do_not_match_are_refused_with_what_differs(two: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    two.add("entropy", 0, [0.5, 0.6], changes={"initial_labels": 20})
    assert main([str(two.root)]) == 1
    error = capsys.readouterr().err
    assert "initial_labels=10" in error
    assert "20" in error
    assert "--settings" in error


def test_a_damaged_picture_is_one_line_and_writes_nothing(two: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = two.root / "assl/seed_0/round_00/queried.png"
    sheet.parent.mkdir()
    sheet.write_bytes(b"\x89PNG")
    assert main([str(two.root)]) == 1
    error = capsys.readouterr().err
    assert f"{sheet} is not a contact sheet" in error
    assert error.count("\n") == 1
    assert not (two.root / "report").exists()


def test_runs_without_a_common_directory_need_an_output(two: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [*two.setting().methods["assl"].runs.values()]
    assert default_output(found) == two.root.resolve() / "assl" / "report"
    monkeypatch.setattr("os.path.commonpath", lambda paths: Path(two.root).anchor)
    with pytest.raises(
        ValueError, match=r"only the root directory in common; name the directory to write to with --output DIR"
    ):
        default_output(found)
