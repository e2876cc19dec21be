"""The command: what it says, how it ends, and what it does without."""

from __future__ import annotations

import csv
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from assl_lightning.base.run_files import LEDGER
from assl_lightning.commands import label
from assl_lightning.data.answers import Answer
from assl_lightning.loop.records import write_config
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.page.serving import listen
from assl_lightning.people.page.session import Session
from assl_lightning.people.shares import Share
from tests.people.batches import CLASSES, SAMPLE_IDS, make_batch
from tests.people.page.pages import TOKEN, Page, page_of

DOCUMENT = Path(__file__).parents[3] / "docs" / "labels_by_page.md"
COMMANDS = re.findall(r"^python -m assl_lightning\.label (.+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
HEAVY = ("torch", "lightning", "pytorch_lightning", "hydra", "matplotlib", "numpy", "PIL")
COMMAND = f"""
import sys
from assl_lightning.label import main
code = main(sys.argv[1:])
print("imported:", [name for name in {HEAVY} if name in sys.modules])
sys.exit(code)
"""


@contextmanager
def started(*arguments: str | Path, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """The command, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, arguments), "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def address_from(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("open "):
            return line.removeprefix("open ").strip()
    raise AssertionError(process.communicate())


def answer_all(run_dir: Path, annotator: str = "Ann") -> None:
    Ledger(run_dir / LEDGER).append(
        [Answer(sample_id, "label", annotator, "page", 0, label="ok") for sample_id in SAMPLE_IDS]
    )


def open_and_interrupt(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have a browser end the command as Ctrl+C does; return the addresses that it opens."""
    opened: list[str] = []

    def browse(address: str) -> None:
        opened.append(address)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(webbrowser, "open", browse)
    monkeypatch.setenv("DISPLAY", ":0")
    return opened


@pytest.mark.e2e
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_a_line_and_nothing_heavy_was_imported(tmp_path: Path, signum: int, code: int) -> None:
    make_batch(tmp_path)
    with started(tmp_path, "--port", "0", "--host", "0.0.0.0" if signum == signal.SIGTERM else "localhost") as process:
        url = urlsplit(address_from(process))
        assert url.port is not None
        with page_of(tmp_path) as here:
            page = Page(url.port, here.session, here.finished, {"host": f"localhost:{url.port}"})
            reply = page.ask("GET", f"/?{url.query}")
            page.headers["cookie"] = reply.headers["set-cookie"].partition(";")[0]
            assert page.answer("d.png", "dent").status == 200
        process.send_signal(signum)
        out, error = process.communicate(timeout=20)
    assert process.returncode == code, out + error
    assert "answered: Ann 1 of 4; all of it is saved, and the same command goes on\nimported: []\n" in out
    assert len(url.query.removeprefix("token=")) >= 43, "256 bits"
    if signum == signal.SIGTERM:
        assert error.startswith("warning: with --host 0.0.0.0 other machines reach this page")
        assert error.count("\n") == 1
    else:
        assert error == ""


def test_it_opens_the_browser_and_ends_when_all_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_batch(tmp_path)
    (tmp_path / "config.yaml").write_text("rounds: 0\n")
    opened = []

    def browse(address: str) -> bool:
        opened.append(address)
        url = urlsplit(address)
        assert url.port is not None
        with page_of(tmp_path) as here:
            page = Page(url.port, here.session, here.finished)
            assert page.ask("GET", f"/?{url.query}").status == 200
            cookie = page.ask("GET", f"/?{url.query}").headers["set-cookie"].partition(";")[0]
            page.headers["cookie"] = cookie
            assert [page.answer(name, "ok").json["finished"] for name in SAMPLE_IDS] == [False, False, False, True]
        return True

    monkeypatch.setattr(webbrowser, "open", browse)
    monkeypatch.setenv("DISPLAY", ":0")
    assert label.main([str(tmp_path), "--port", "0", "--done", "--token", TOKEN]) == 0
    assert opened == re.findall("^open (.*)$", (out := capsys.readouterr()).out, re.MULTILINE)
    assert "photos, round 0: 4 images to label as one of 3 classes; nothing answered yet\n" in out.out
    assert out.out.endswith("answered: Ann 4 of 4; give again the command that began it, and the run goes on\n")
    assert out.err == ""


def test_without_a_screen_no_browser_takes_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "environ", {})
    assert not label._has_screen()
    monkeypatch.setattr(os, "environ", {"WAYLAND_DISPLAY": "wayland-0"})
    assert label._has_screen()


def test_a_copy_of_the_rounds_directory_is_enough_and_its_answers_travel_as_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_batch(tmp_path / "laptop")
    answer_all(tmp_path / "laptop")
    Ledger(tmp_path / "laptop" / LEDGER).append([Answer("d.png", "skip", "Bo", "page", 0, seconds=2.5)])
    table = tmp_path / "answers.csv"
    assert label.main([str(tmp_path / "laptop"), "--csv", str(table)]) == 0
    assert capsys.readouterr().out == f"5 answers: {table}\n"
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["sample_id"] for row in rows] == [*SAMPLE_IDS, "d.png"]
    assert [row["label"] + row["status"] for row in rows] == ["ok"] * 4 + ["skip"]
    assert [row["annotator"] for row in rows] == ["Ann"] * 4 + ["Bo"]


def test_all_answered_is_a_success_however_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_batch(tmp_path)
    answer_all(tmp_path)
    monkeypatch.setattr(webbrowser, "open", lambda _: signal.raise_signal(signal.SIGINT))
    monkeypatch.setenv("DISPLAY", ":0")
    assert label.main([str(tmp_path), "--port", "0"]) == 0
    assert f"python -m assl_lightning.label {tmp_path} --csv answers.csv" in capsys.readouterr().out


def test_each_share_is_a_page_and_a_success_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = make_batch(tmp_path)
    (tmp_path / "config.yaml").write_text("rounds: 1\noracle: {conflicts: error}\n")
    open_and_interrupt(monkeypatch)
    ports: list[int] = []

    def note_and_listen(host: str, port: int) -> socket.socket:
        ports.append(port)
        return listen(host, 0)

    monkeypatch.setattr("assl_lightning.people.page.serving.listen", note_and_listen)
    goes_on = "and the run goes on\n"
    for person, ends in ((1, "; 2 images of other shares to go, and then the run goes on\n"), (2, goes_on)):
        share, _ = Share(person, 2).split(batch)
        Ledger(tmp_path / LEDGER).append(
            [Answer(one.sample_id, "label", f"P{person}", "page", 0, label="ok") for one in share]
        )
        assert label.main([str(tmp_path), "--share", f"{person}/2"]) == 0
        told = capsys.readouterr().out
        assert f"2 images (share {person} of 2 of 4) to label as one of 3 classes; answered: P{person} 2 of 2\n" in told
        assert told.endswith(ends)
    assert ports == [label.PORT, label.PORT + 1]


def test_a_class_that_was_added_is_told_with_what_the_runs_command_has_from_now_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_batch(tmp_path)
    write_config(tmp_path, {"rounds": 1, "data": {"num_classes": 3, "source": {"class_names": list(CLASSES)}}})
    sessions: list[Session] = []

    def note(*arguments: Any) -> Session:
        sessions.append(Session(*arguments))
        return sessions[-1]

    def browse(_: str) -> None:
        sessions[0].add_class("Ann", "crack")
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(label, "Session", note)
    monkeypatch.setattr(webbrowser, "open", browse)
    monkeypatch.setenv("DISPLAY", ":0")
    assert label.main([str(tmp_path), "--port", "0"]) == 130
    assert (
        "'crack' was added to the classes by Ann\nfrom now on the run's command has "
        "'data.source.class_names=[ok,dent,scratch,crack]' data.num_classes=4\n"
        "nothing answered yet; the same command goes on\n"
    ) in capsys.readouterr().out


def test_what_people_differ_about_is_told_at_the_end_with_how_to_settle_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "my run"
    make_batch(run_dir)
    (run_dir / "config.yaml").write_text("rounds: 1\noracle: {conflicts: majority}\n")
    answer_all(run_dir)
    assert label.main([str(run_dir), "--settle"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("people differ about no image, so that there is nothing to settle\nanswered: Ann 4 of 4; ")
    assert "and the run goes on" in told
    ledger = Ledger(run_dir / LEDGER)
    ledger.append([Answer("d.png", "label", "Bo", "page", 0, label="dent")])
    ledger.append([Answer(name, "label", "Bo", "page", 0, label="ok") for name in SAMPLE_IDS[:-1]])
    assert label.main([str(run_dir), "--done"]) == 0
    told = capsys.readouterr().out
    assert told == (
        f"answered: Ann 4 of 4, Bo 4 of 4; people differ about 1 image, and the run waits until that is settled, as on "
        f"the page that python -m assl_lightning.label '{run_dir}' --settle opens\n"
    )


def test_the_page_opens_where_people_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_batch(tmp_path)
    answer_all(tmp_path)
    Ledger(tmp_path / LEDGER).append([Answer("d.png", "label", "", "labels.csv, line 2", 0, label="dent")])
    opened = open_and_interrupt(monkeypatch)
    assert label.main([str(tmp_path), "--port", "0", "--settle"]) == 130, "not all is settled"
    assert urlsplit(opened[0]).path == "/settle"
    told = capsys.readouterr().out
    assert told.startswith(
        "photos, round 0: people differ about 1 image, 1 of them to be settled; answered: Ann 4 of 4, no name 1 of 4"
    )


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error_of(*arguments: str) -> str:
        assert label.main([str(tmp_path / "run"), "--no-browser", *arguments]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        return error

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("rounds: 1\n")
    assert "waits for no labels" in error_of()
    batch = make_batch(tmp_path / "run")
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        error = error_of("--port", str(port))
    assert f"the page cannot listen on port {port} of 127.0.0.1 (" in error
    assert "give another with --port, or 0" in error
    assert "cannot listen on port 0 of no.such.host.invalid" in error_of(
        "--port", "0", "--host", "no.such.host.invalid"
    )
    assert "predictions of round 0 must not be shown" in error_of("--show-predictions", "--port", "0")
    nowhere = tmp_path / "nowhere"
    assert f"answers.csv: there is no directory {nowhere}; make it" in error_of("--csv", str(nowhere / "answers.csv"))
    assert "a.png: must end in .csv, so that no other file is written" in error_of("--csv", str(tmp_path / "a.png"))
    (batch.directory / "batch.json").write_text("{")
    assert "cannot be read" in error_of()


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_package_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    make_batch(tmp_path)
    for name in list(sys.modules):
        if name.startswith(("assl_lightning.people.page.", f"{missing}.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert label.main([str(tmp_path), "--no-browser"]) == 1
    assert capsys.readouterr().err == (
        f"error: the page needs {missing}, which is not installed; install it with pip install "
        f"'starlette>=0.40' 'uvicorn>=0.30'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "--port: must be a whole number from 0 to 65535; got '70000'"),
        (["--port", "-1"], "--port: must be a whole number from 0 to 65535; got '-1'"),
        (["--share", "3/2"], "a share is written 1/3, 2/3 or 3/3, for the first, second or third of three people; got"),
        (["--share", "0/3"], "got '0/3'"),
        (["--share", "half"], "got 'half'"),
        (["--share", "1/2", "--common", "10"], "a share of the batch is in [0, 1], such as 0.1; got '10'"),
        (["--token", "secret"], "a token has 16 to 128 letters, digits, - and _, and cannot be guessed; got 6"),
        (["--token", "a" * 15 + "/"], "a token has"),
    ],
)
def test_arguments_are_checked(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert label.main(["runs/photos", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_addresses_can_be_typed() -> None:
    assert label._address("127.0.0.1", 80, "t") == "http://127.0.0.1:80/?token=t"
    assert label._address("::1", 80, "t") == "http://[::1]:80/?token=t"
    assert "0.0.0.0" not in label._address("0.0.0.0", 80, "t")


@pytest.mark.e2e
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_document_works(tmp_path: Path, command: str) -> None:
    arguments = shlex.split(command)
    make_batch(tmp_path / arguments[0])
    answer_all(tmp_path / arguments[0], "Bo")
    differs = Answer("d.png", "label", "Cy", "page", 0, label="dent")
    Ledger(tmp_path / arguments[0] / LEDGER).append([differs])
    with started(*arguments, "--port", "0", cwd=tmp_path) as process:
        if "--csv" in arguments:
            assert process.wait(20) == 0
            assert (tmp_path / "answers.csv").read_text().count("\n") == 6
        else:
            assert ("/settle?token=" if "--settle" in arguments else "/?token=") in address_from(process)


def test_the_document_has_the_commands_and_figures_that_it_speaks_of() -> None:
    assert len(COMMANDS) == 8
    for figure in re.findall(r"\((figures/[^)]+)\)", DOCUMENT.read_text(encoding="utf-8")):
        assert (DOCUMENT.parent / figure).stat().st_size <= 150_000


def test_with_done_there_is_nothing_to_serve_where_all_is_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_batch(tmp_path)
    answer_all(tmp_path)
    assert label.main([str(tmp_path), "--done", "--no-browser"]) == 0
    assert capsys.readouterr().out.startswith("answered: Ann 4 of 4; ")
