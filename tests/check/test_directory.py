from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from assl_lightning.check.directory import DirectoryState, nearest_existing, read_directory, weigh
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.records import RoundRecord, write_record
from assl_lightning.loop.settings import RoundSettings

SETTINGS = RoundSettings(rounds=2, config={"name": "mine", "score": {"alpha": 0.8}})


def as_written(settings: RoundSettings) -> dict[str, object]:
    own = {key: value for key, value in vars(settings).items() if key not in ("config", "score")}
    return {**own, "score": vars(settings.score), **settings.config}


def begin(run_dir: Path, complete: int) -> None:
    RunDirectory(run_dir).open(as_written(SETTINGS))
    for number in range(complete):
        write_record(run_dir, RoundRecord(number, 10, 50, 8, 0.5, 0.5))


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in directory.rglob("*")}


def read(run_dir: Path, settings: RoundSettings = SETTINGS) -> DirectoryState:
    """What `read_directory` finds; it must change nothing."""
    before = contents(run_dir.parent)
    state = read_directory(run_dir, settings)
    assert contents(run_dir.parent) == before
    return state


def refusal(state: DirectoryState) -> str:
    assert state.words == "cannot be used"
    (finding,) = state.findings
    assert finding.severity == "wrong"
    return finding.sentence


def test_a_directory_that_is_not_there_or_empty_is_new(tmp_path: Path) -> None:
    assert read(tmp_path / "a" / "b") == DirectoryState("new")
    (tmp_path / "empty").mkdir()
    assert read(tmp_path / "empty") == DirectoryState("new")
    (tmp_path / "empty" / ".config.yaml.1.tmp").touch()
    (tmp_path / "empty" / ".lock").touch()
    assert read(tmp_path / "empty") == DirectoryState("new")


@pytest.mark.parametrize(
    ("complete", "words"),
    [
        (0, "holds this run, to go on with: in its first round"),
        (1, "holds this run, to go on with: 1 of 3 rounds are complete"),
        (2, "holds this run, to go on with: 2 of 3 rounds are complete"),
        (3, "finished, all 3 rounds; the run would do nothing"),
    ],
)
def test_where_the_same_run_stands_is_told(tmp_path: Path, complete: int, words: str) -> None:
    begin(tmp_path / "run", complete)
    state = read(tmp_path / "run")
    assert (state.words, state.complete_rounds, state.findings) == (words, complete, ())
    assert state.num_bytes == sum(len(content) for content in contents(tmp_path / "run").values())


def test_another_configuration_is_refused_in_the_loops_words(tmp_path: Path) -> None:
    begin(tmp_path / "run", 1)
    sentence = refusal(read(tmp_path / "run", replace(SETTINGS, seed=3)))
    assert sentence == (
        f"run_dir {tmp_path}/run holds a run with another configuration (seed was 0, now 3); repeat its settings to go "
        f"on with it, or choose another run_dir."
    )


def test_what_holds_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").touch()
    assert "is not empty and holds no run (no config.yaml)" in refusal(read(tmp_path / "run"))
    assert "is not empty" not in refusal(read(tmp_path / "run" / "thesis.tex"))
    assert refusal(read(tmp_path / "run" / "thesis.tex" / "below")).startswith(
        f"run_dir {tmp_path}/run/thesis.tex/below cannot be made, since {tmp_path}/run/thesis.tex is a file"
    )


def test_damaged_files_are_told(tmp_path: Path) -> None:
    begin(tmp_path / "run", 1)
    (tmp_path / "run" / "rounds.jsonl").write_text("{")
    assert "rounds.jsonl, line 1 is not JSON" in refusal(read(tmp_path / "run"))
    (tmp_path / "run" / "config.yaml").write_text("a: [")
    assert "config.yaml" in refusal(read(tmp_path / "run"))


def test_a_run_that_another_process_runs_is_told(tmp_path: Path) -> None:
    begin(tmp_path / "run", 1)
    with (tmp_path / "run" / ".lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "is in use by another process" in refusal(read(tmp_path / "run"))
    assert read(tmp_path / "run").findings == ()


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    expected = f"run_dir {tmp_path}/run cannot be written, since "
    assert refusal(read(tmp_path / "run")).startswith(f"{expected}{tmp_path} belongs to others")
    monkeypatch.setattr("os.statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY | os.ST_NOSUID))
    assert refusal(read(tmp_path / "run")).startswith(f"{expected}the file system of {tmp_path} is read-only")


def test_the_nearest_directory_that_exists_is_found_from_a_relative_path_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert nearest_existing(Path("runs/digits/seed_0")) == tmp_path
    (tmp_path / "runs").mkdir()
    assert nearest_existing(Path("runs/digits/seed_0")) == tmp_path / "runs"
    assert nearest_existing(tmp_path) == tmp_path


def test_files_are_weighed_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"123")
    (tmp_path / "a" / "b" / "two").write_bytes(b"12345")
    assert weigh(tmp_path) == 8
