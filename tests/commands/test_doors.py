"""All commands answer a wrong command line in one form: a line for each fault, exit code 1, and nothing is written."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

MODULES = {
    "": "commands.train",
    "check": "check.__main__",
    "report": "report.__main__",
    "report.picks": "report.picks",
    "report.labels_needed": "report.labels_needed.__main__",
    "report.instability": "report.instability.__main__",
}
"""The command, `assl_lightning` itself as "" → the module of its main; of others commands.NAME."""

NOWHERE = "photso must be the directory of a run; there is no such directory (did you mean 'photos'?)"
NO_RUN = "photos must be the directory of a run, but has no config.yaml; name the run_dir of one"
A_FILE = "photos/notes.txt must be the directory of a run, but is a file; name the run_dir of one"
GIVE_A_RUN = (
    "give a run's directory (with config.yaml and at least one round that is trained), or one with such directories "
    "below it"
)
NO_RUNS = f"photos holds no run; {GIVE_A_RUN}"
NO_RUNS_NOWHERE = f"photso does not exist (did you mean 'photos'?); {GIVE_A_RUN}"
A_KEY = "a key of the configuration is written without dashes, as"

LINES = {
    "": [
        ("--confg-dir=photos", "--confg-dir: there is no such option (did you mean '--config-dir'?); see"),
        ("--rounds 3", f"--rounds: there is no such option; {A_KEY} rounds=VALUE; see"),
        ("--batch-size=3 seed=1", f"--batch-size: there is no such option; {A_KEY} batch_size=VALUE; see"),
        ("seed=1 --config-dir", "--config-dir/-cd: needs a value; see"),
        ("--cfg jop", "--cfg/-c: must be one of job, hydra, all; got 'jop' (did you mean 'job'?); see"),
        ("--config-dir photso", "--config-dir photso: is not a directory; give one that exists"),
        ("photos", "photos: must be key=value"),
    ],
    "check": [
        ("--unreadabel=x.csv", "--unreadabel: there is no such option (did you mean '--unreadable'?); see"),
        ("--seed 3", f"--seed: there is no such option; {A_KEY} seed=VALUE; see"),
        ("--unreadable", "--unreadable: needs a value; see"),
        ("--config-dir photso", "--config-dir photso: is not a directory; give one that exists"),
        ("photos", "photos: must be key=value"),
    ],
    "label": [
        ("", "RUN_DIR is missing; see"),
        ("--no-brwoser", "--no-brwoser: there is no such option (did you mean '--no-browser'?); see"),
        ("photos --port http", "--port: must be a whole number from 0 to 65535; got 'http'; see"),
        ("photos --done=yes", "--done: takes no value; got 'yes'; see"),
        ("photos more", "more: 1 argument too many; see"),
        ("photso --no-browser", NOWHERE),
        ("photos --no-browser", NO_RUN),
        ("photos --audit", NO_RUN),
    ],
    "ingest": [
        ("", "RUN_DIR is missing; see"),
        ("photos --anotator Ann", "--anotator: there is no such option (did you mean '--annotator'?); see"),
        ("photos --undo last", "--undo: must be a whole number; got 'last'; see"),
        ("photos --undo", "--undo: needs a value, or several; see"),
        (
            "photos --conflicts latset",
            "--conflicts: must be one of error, latest, majority; got 'latset' (did you mean 'latest'?); see",
        ),
        ("photos a.csv b.csv c.csv", "b.csv, c.csv: 2 arguments too many; see"),
        ("photso a.csv", NOWHERE),
        ("photos/notes.txt a.csv", A_FILE),
        ("photos a.csv", NO_RUN),
        ("photos --history", NO_RUN),
    ],
    "classes": [
        ("", "RUN_DIR is missing; see"),
        ("photos --renmae a=b", "--renmae: there is no such option (did you mean '--rename'?); see"),
        ("photos --rename", "--rename: needs a value; see"),
        ("photso --add new", NOWHERE),
        ("photos --add new", NO_RUN),
    ],
    "status": [
        ("", "RUN_DIR is missing; see"),
        ("photos --wiat", "--wiat: there is no such option (did you mean '--wait'?); see"),
        ("photos --wait soon", "--wait: must be a number above 0; got 'soon'; see"),
        ("photos --wait -1", "--wait: must be a number above 0; got '-1'; see"),
        ("photso", NOWHERE),
        ("photos", NO_RUN),
    ],
    "audit": [
        ("", "RUN_DIR is missing; see"),
        ("photos --distnace 3", "--distnace: there is no such option (did you mean '--distance'?); see"),
        ("photos --distance 1.5", "--distance: must be a whole number from 0 to 16; got '1.5'; see"),
        ("photso", NOWHERE),
        ("photos", NO_RUN),
    ],
    "export": [
        ("", "RUN_DIR and --format are missing; see"),
        ("photos --fromat onnx", "--fromat: there is no such option (did you mean '--format'?); see"),
        (
            "photos --format onx",
            "--format: must be one of onnx, torch_export, safetensors, labels, folder; got 'onx' (did you mean 'onnx'?)"
            "; see",
        ),
        ("photso --format onnx", NOWHERE),
        ("photos --format labels", NO_RUN),
    ],
    "predict": [
        ("", "RUN_DIR is missing; see"),
        ("photos --outptu=new table.csv", "--outptu: there is no such option (did you mean '--output'?); see"),
        ("photos --above high", "--above: must be a number above 0 and at most 1; got 'high'; see"),
        ("photso", NOWHERE),
        ("photos", NO_RUN),
    ],
    "query": [
        ("", "CHECKPOINT is missing; see"),
        ("last.ckpt --candidtaes x", "--candidtaes: there is no such option (did you mean '--candidates'?); see"),
        ("last.ckpt --k 0", "--k: must be a whole number of at least 1; got '0'; see"),
        ("last.ckpt --c-u nan", "--c-u: must be a number; got 'nan'; see"),
        ("photos", "photos is a directory; give the file in it that Lightning's ModelCheckpoint wrote"),
        (
            "photso",
            "there is no checkpoint photso (did you mean 'photos'?); give the file that Lightning's ModelCheckpoint "
            "wrote",
        ),
    ],
    "report": [
        ("", "DIRECTORY is missing; see"),
        ("photos --aganst random", "--aganst: there is no such option (did you mean '--against'?); see"),
        ("photos --settings --steps", "--steps: cannot be given together with --settings; see"),
        ("photos --out page", "--out: there is no such option (did you mean '--output'?); see"),
        ("photos --output", "--output: needs a value; see"),
        ("photso", NO_RUNS_NOWHERE),
        ("photos", NO_RUNS),
    ],
    "report.picks": [
        ("photos", "OTHER is missing; see"),
        ("photos photos --hepl", "--hepl: there is no such option (did you mean '--help'?); see"),
        ("photso photos", NO_RUNS_NOWHERE),
        ("photos photos", NO_RUNS),
    ],
    "report.labels_needed": [
        ("", "DIRECTORY is missing; see"),
        ("photos --basline random", "--basline: there is no such option (did you mean '--baseline'?); see"),
        ("photos --margin two", "--margin: must be a number above 0 and at most 100; got 'two'; see"),
        ("photso", NO_RUNS_NOWHERE),
        ("photos", NO_RUNS),
    ],
    "report.instability": [
        ("", "RUN_DIR is missing; see"),
        ("photos --outptu x", "--outptu: there is no such option (did you mean '--output'?); see"),
        ("photos photos --output", "--output: needs a value; see"),
        ("photso", NOWHERE),
        (
            "photos photos",
            "photos holds no snapshots (no round_*/snapshots); name a run that was trained with the callback "
            "PoolSnapshots, such as that of +experiment=instability_small",
        ),
    ],
}
"""The command → command lines, and what each is answered with; a line that ends with "; see" also names the help."""


def program(door: str) -> str:
    return f"python -m assl_lightning{'.' if door else ''}{door}"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: it has a directory without a run, `photos`, and nothing called `photso`."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.txt").write_text("no run\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("door", "arguments", "line"), [(door, *case) for door, cases in LINES.items() for case in cases]
)
def test_a_wrong_command_line_is_answered_in_one_line(
    directory: Path, capsys: pytest.CaptureFixture[str], door: str, arguments: str, line: str
) -> None:
    before = sorted(directory.rglob("*"))
    main = import_module(f"assl_lightning.{MODULES.get(door, f'commands.{door}')}").main

    assert main(arguments.split()) == 1

    asks = f" {program(door)} --help" if line.endswith("; see") else ""
    assert capsys.readouterr() == ("", f"error: {line}{asks}\n")
    assert sorted(directory.rglob("*")) == before


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("doors", "heavy"),
    [
        (["label", "ingest", "classes", "status"], {"torch", "lightning", "hydra", "numpy", "PIL", "matplotlib"}),
        ([door for door in LINES if door.startswith("report")], {"torch", "lightning", "hydra"}),
        (["", "check", "audit", "export", "predict", "query"], {"torch", "lightning", "matplotlib"}),
    ],
    ids=["label", "report", "check"],
)
def test_help_says_what_the_options_are_and_waits_for_no_heavy_import(doors: list[str], heavy: set[str]) -> None:
    modules = [f"assl_lightning.{MODULES.get(door, f'commands.{door}')}" for door in doors]
    code = (
        "import sys; from importlib import import_module\n"
        f"for module in {modules}:\n"
        "    try: import_module(module).main(['--help'])\n"
        "    except SystemExit as done: assert not done.code, module\n"
        f"sys.exit(', '.join({heavy} & sys.modules.keys()) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    missing = [door for door in doors if f"usage: {program(door)} [" not in done.stdout and door]
    assert missing == []
