"""The benchmark runs, at sizes that tell nothing of speed; nothing here looks at a time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import device_check, scale
from benchmarks.__main__ import main
from benchmarks.device.agreement import agreement
from benchmarks.device.guarding import Part, guarded
from benchmarks.figures import Figure, Target, as_markdown, number, this_machine
from benchmarks.measuring import in_turns, ratios
from tests.emulated_device import emulated_cuda_gpu
from tests.shell import run_python

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What `python -m benchmarks --quick` wrote: the JSON, read, and the Markdown."""
    output = tmp_path_factory.mktemp("benchmark")
    command = ["-m", "benchmarks", "--quick", "--device", "cpu", "--name", "quick", "--output", str(output)]
    run_python(*command, cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "ignore"}, timeout=300)
    return json.loads((output / "quick.json").read_text()), (output / "quick.md").read_text()


@pytest.mark.slow
def test_every_section_gives_figures_and_only_those_of_a_gpu_or_a_missing_package_are_not_measured(
    written: tuple[dict[str, Any], str],
) -> None:
    figures = written[0]["figures"]
    sections = {"step", "learners", "augmentation", "callback", "acquisition", "decoding", "paper_round", "start_up"}
    assert {figure["section"] for figure in figures} == sections
    for figure in figures:
        assert all(math.isfinite(value) and value >= 0 for value in figure["values"]), figure
        excused = figure["section"] in {"callback", "paper_round", "start_up"}
        lacks_package = figure["what"] == "scikit_activeml" and find_spec("skactiveml") is None
        assert figure["values"] or excused or lacks_package, figure


@pytest.mark.slow
def test_both_files_name_the_machine_and_hold_every_figure(written: tuple[dict[str, Any], str]) -> None:
    data, markdown = written
    assert data["machine"]["packages"]["torch"] in markdown
    assert data["machine"]["processor"] in markdown
    for figure in data["figures"]:
        assert f"| {figure['what']} | {figure['size']} |" in markdown


@pytest.mark.slow
def test_the_parts_of_a_step_are_all_there(written: tuple[dict[str, Any], str]) -> None:
    parts = {figure["what"] for figure in written[0]["figures"] if figure["section"] == "step"}
    names = {"draw indices", "gather and transfer", "weak augmentation", "strong augmentation", "forward", "backward"}
    names |= {"optimizer", "weight EMA", "score callback", "Lightning's loop and logging"}
    assert {f"part: {name}" for name in names} <= parts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stepp"], "no section 'stepp'; there are step, learners, augmentation"),
        (["--output", "a_file/results"], "--output a_file/results: cannot be made (Not a directory); name a directory"),
    ],
)
def test_nonsense_is_one_line_before_anything_is_measured(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "a_file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--device", "cuda"],
            "--device cuda: torch sees no CUDA device here; --device cpu --quick shows that the check",
        ),
        (
            ["--device", "cpu"],
            "a CPU takes hours for the paper's step: add --quick, or use a machine with a CUDA device",
        ),
        ([], "a CPU takes hours for the paper's step: add --quick"),
    ],
)
def test_the_check_of_a_device_says_in_one_line_what_it_needs(
    arguments: list[str], message: str, tmp_path: Path, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        device_check.main(["--output", str(tmp_path), *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")
def test_the_check_of_a_device_runs_without_one_and_measures_nothing_of_it(tmp_path: Path) -> None:
    command = ["-m", "benchmarks.device_check", "--quick", "--device", "cpu", "--output", str(tmp_path)]
    run_python(*command, cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "ignore"}, timeout=600)
    figures = json.loads((tmp_path / "device_check.json").read_text())["figures"]
    assert {figure["section"] for figure in figures} == set(device_check.PARTS)
    assert not any(figure["note"].startswith("Failed") for figure in figures)
    for figure in figures:
        needs_gpu = figure["section"] in ("kernels", "graph", "variants") or figure["what"].endswith(
            ("a step", "memory")
        )
        needs_gpu |= figure["size"] == "paper's step"
        assert bool(figure["values"]) is not needs_gpu, figure


@pytest.mark.slow
def test_the_check_compares_all_it_names_on_an_emulated_gpu() -> None:
    with emulated_cuda_gpu():
        figures = list(agreement(Part(torch.device("cuda", 0), quick=True, seconds=3_600)))
    missing = "scikit_activeml" if find_spec("skactiveml") is None else "none"
    for figure in figures:
        assert missing in figure.what or (figure.target is not None and figure.target.is_met(figure.median)), figure
    assert len(figures) > 25


def test_a_part_of_the_check_that_fails_or_hangs_is_a_row_after_the_figures_that_it_gave() -> None:
    figure, rest = Figure("step", "steps", "z", "1/s", (1.0, 2.0), Target("≥", 188)), Figure("step", "rest", "", "", ())
    line = f"figure: {json.dumps(asdict(figure))}"

    def ran(*words: str, seconds: float = 60) -> list[Figure]:
        return list(device_check.in_a_process([*words], seconds, rest))

    assert ran("printf", "%s\\n%s\\n", "a message", line) == [figure]
    failed = "Failed: its process ended with exit code 3; see its output above."
    assert ran("sh", "-c", f"echo '{line}'; exit 3") == [figure, replace(rest, note=failed)]
    ended = "Not measured: it was ended after 1 s."
    assert ran("sh", "-c", f"echo '{line}'; sleep 60", seconds=1) == [figure, replace(rest, note=ended)]


def test_an_error_in_a_part_is_a_row_after_the_figures_before_it() -> None:
    figure, rest = Figure("step", "steps", "z", "1/s", (1.0,)), Figure("step", "rest", "", "", ())

    def measure() -> Iterator[Figure]:
        yield figure
        raise RuntimeError("CUDA error:\nan illegal memory access")

    note = "Failed: RuntimeError: CUDA error: an illegal memory access"
    assert list(guarded(measure(), rest)) == [figure, replace(rest, note=note)]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton comes with torch's wheels for CUDA on Linux")
def test_the_kernels_compile_for_a_gpu_without_spills_and_with_products_and_sums_rounded_apart() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    table = run_python("-m", "benchmarks.compile_kernels", cwd=ROOT, env=environment, timeout=300).stdout
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert {row[0] for row in rows} == {"make_views", "score_rows", "visit_rows"}
    assert all(row[3:] == ["0", "0"] for row in rows)


def test_a_part_or_a_quick_look_leaves_the_files_of_a_whole_run(tmp_path: Path) -> None:
    whole = this_machine(torch.device("cpu")).name
    (tmp_path / f"{whole}.md").write_text("an hour of work")
    main(["augmentation", "--quick", "--device", "cpu", "--output", str(tmp_path)])
    assert (tmp_path / f"{whole}.md").read_text() == "an hour of work"
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{whole}.md",
        f"{whole}-augmentation-quick.md",
        f"{whole}-augmentation-quick.json",
    }


def test_a_figure_has_the_median_and_the_quartiles_of_its_repeats() -> None:
    figure = Figure("s", "w", "z", "s", (5.0, 1.0, 2.0, 4.0, 3.0))
    assert (figure.median, figure.spread) == (3.0, (2.0, 4.0))
    assert Figure("s", "w", "z", "s", (5.0, 1.0, 2.0)).spread == (1.0, 5.0)


@pytest.mark.parametrize(
    ("bound", "value", "met"),
    [("≤", 1.0, True), ("≤", 1.5, True), ("≤", 1.51, False), ("≥", 1.5, True), ("≥", 1.49, False)],
)
def test_a_target_is_met_up_to_its_bound_and_the_table_says_so(bound: Any, value: float, met: bool) -> None:
    figure = Figure("s", "w", "z", "×", (value,), Target(bound, 1.5))
    row = as_markdown(this_machine(torch.device("cpu")), [figure]).splitlines()[-1]
    assert row.endswith(": met |" if met else ": **missed** |")


def test_what_was_not_measured_says_so() -> None:
    row = as_markdown(this_machine(torch.device("cpu")), [Figure("s", "w", "z", "×", ())]).splitlines()[-1]
    assert row == "| w | z | not measured | | 0 |  |"


def test_ratios_are_of_one_turn_and_turns_alternate() -> None:
    assert ratios((6.0, 8.0), (2.0, 4.0)) == (3.0, 2.0)
    called: list[str] = []
    calls = {name: (lambda name=name: called.append(name)) for name in ("a", "b")}
    times = in_turns(calls, torch.device("cpu"), repeats=2, warm_up=1)
    assert called == ["a", "b", "a", "b", "a", "b"]
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}


def test_numbers_have_three_figures() -> None:
    assert [number(value) for value in (0.0123456, 1.25, 59612.3, 0)] == ["0.0123", "1.25", "59,600", "0"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("part", "size"), [("statistics", 2_000), ("loop", 3_000), ("names", 50), ("order", 50), ("store", 3)]
)
def test_each_part_of_the_scale_gives_seconds_and_memory(part: str, size: int) -> None:
    found = json.loads(scale.as_json(part, str(size)))
    assert found
    assert all(seconds >= 0 and grown >= 0 for seconds, grown in found.values())
