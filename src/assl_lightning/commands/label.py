"""`python -m assl_lightning.label RUN_DIR`: label images in a browser; needs neither torch nor Lightning."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from math import nan
from pathlib import Path

from assl_lightning.base.argument_types import whole_number_from
from assl_lightning.base.atomic import write_text
from assl_lightning.base.command_line import Parser, as_command
from assl_lightning.base.extras import install_command
from assl_lightning.base.interruption import Interrupted, Interruption
from assl_lightning.base.paths import check_file_to_write, path_argument
from assl_lightning.base.run_files import CONFIG, LEDGER
from assl_lightning.base.shell import command
from assl_lightning.base.words import counted
from assl_lightning.commands.ingest import configured_conflicts
from assl_lightning.data.answers import Conflicts, name_of
from assl_lightning.loop.class_history import as_override
from assl_lightning.loop.records import command_of, read_config
from assl_lightning.people.batch import LabelBatch, find_audits, require_batches, waiting_batch
from assl_lightning.people.judging import unanswered
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.page.session import Session
from assl_lightning.people.shares import Share, read_share

PORT = 8767
"""The page's port: always the same, so that answers which a browser could not save reach the same page again. The
second of several people who share a batch has the next one, and so on, so that all may label on one machine."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")

_DESCRIPTION = """\
Show the images that a run waits for on a local web page, and store the answers of people.

Each answer is in the run's ledger (labels.sqlite) before the page says that it is saved. Several people may
label, each under their own name; each sees their own answers only. The directory may be a copy that holds
only round_NN/to_label: the machine where people label needs no data and no GPU.
"""

_EPILOG = """\
Only this machine can open the page, and only with the token in its address. From another machine use a
tunnel: ssh -L 8767:localhost:8767 MACHINE. If others have accounts on this machine, use --no-browser: an
address that is handed to a browser shows in the list of processes.

Exit code: 0 if everything was answered (with --settle: settled), 130 after Ctrl-C before that, 1 after an
error.
"""


@as_command
def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until it is finished or interrupted, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with Interruption():
            return _run(options)
    except Interrupted as interrupted:
        return interrupted.exit_code  # before the page was there, or while it ended


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m assl_lightning.label",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run_dir", type=path_argument, metavar="RUN_DIR", help="the run's directory, or a copy with round_NN/to_label"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to listen on; default: 127.0.0.1, this machine alone"
    )
    parser.add_argument(
        "--port",
        type=whole_number_from(0, 65535),
        help=f"default: {PORT}, with --share 2/3 the next one, and so on; 0: any that is free",
    )
    parser.add_argument(
        "--token", type=_token, help="the token in the address; default: a new one, drawn at random, each time"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument(
        "--share",
        type=_share,
        metavar="2/3",
        help="show the second third of the batch only: three people label one each, with 1/3, 2/3 and 3/3",
    )
    parser.add_argument(
        "--common",
        type=_common,
        metavar="P",
        help="with --share: a share of the batch, in [0, 1], that all of them label, such as 0.1, which shows how far "
        "they agree; all give the same",
    )
    parser.add_argument(
        "--settle",
        action="store_true",
        help="show the images about which people differ, with their answers, and take decisions",
    )
    parser.add_argument(
        "--audit",
        action="store_true",
        help="show the images that python -m assl_lightning.audit asks for once more, in place of those of a round",
    )
    parser.add_argument(
        "--done", action="store_true", help="end when everything is answered, without the button Finish"
    )
    parser.add_argument(
        "--show-predictions",
        action="store_true",
        help="show the model's prediction for each image, if the run allows it",
    )
    parser.add_argument(
        "--csv",
        type=path_argument,
        metavar="FILE",
        help="write all answers to FILE instead, as a table to ingest",
    )
    return parser


def _share(text: str) -> tuple[int, int]:
    try:
        return read_share(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _common(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = nan
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"a share of the batch is in [0, 1], such as 0.1; got {text!r}")
    return share


def _token(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"a token has 16 to 128 letters, digits, - and _, and cannot be guessed; got {len(text)} characters"
        )
    return text


def _run(options: argparse.Namespace) -> int:
    if options.csv is not None:
        check_file_to_write("--csv", options.csv, ".csv")
    batch = _open_audit(options.run_dir) if options.audit else waiting_batch(options.run_dir)
    share = _requested_share(options)
    session = Session(batch, Ledger(options.run_dir / LEDGER), _policy(options.run_dir), share)
    if options.csv is not None:
        text = session.table()
        write_text(options.csv, text)
        sys.stdout.write(f"{counted(text.count(chr(10)) - 1, 'answer')}: {options.csv}\n")
        return 0
    if options.settle:
        nothing_to_do = not session.disputes()
        if nothing_to_do:
            sys.stdout.write("people differ about no image, so that there is nothing to settle\n")
    else:
        nothing_to_do = options.done and _is_done(session) and not session.unfinished()
    code = 0 if nothing_to_do else _serve(session, options)
    sys.stdout.write(_told_of_classes(session) + _farewell(session, options.run_dir))
    is_done = not session.unsettled() if options.settle else _is_done(session)
    return 0 if is_done else code


def _open_audit(run_dir: Path) -> LabelBatch:
    """Read the first batch of an audit that has images without an answer, or else the newest that is open."""
    require_batches(run_dir)
    audits = [audit for audit in find_audits(run_dir) if audit.is_open]
    if not audits:
        raise ValueError(
            f"{run_dir} has no audit that waits for answers; {command('audit', run_dir, '--ask')} looks for labels "
            f"that are probably wrong, and asks for them once more"
        )
    answers = Ledger(run_dir / LEDGER).active_answers()
    return next((audit for audit in audits if unanswered(audit, answers)), audits[-1])


def _requested_share(options: argparse.Namespace) -> Share | None:
    """Return the share that is labelled, or None for the whole batch; raise for options that contradict it."""
    if options.share is None:
        if options.common is not None:
            raise ValueError("--common: is for a batch that people share; add --share 1/3, for the first of three")
        return None
    for other in ("settle", "csv"):
        if getattr(options, other):
            raise ValueError(f"--share: is for labelling, and --{other} is about all answers; leave --share out")
    person, people = options.share
    return Share(person, people, options.common or 0.0)


def _policy(run_dir: Path) -> Conflicts:
    """Return the run's policy for people who differ; "error" if its configuration cannot be read."""
    try:
        return configured_conflicts(run_dir)
    except ValueError:  # the run reports it
        return "error"


def _is_done(session: Session) -> bool:
    """True if one annotator has answered everything."""
    return len(session.asked) in session.progress().values()


def _serve(session: Session, options: argparse.Namespace) -> int:
    """Serve the page until it is finished, or a signal comes, and return the exit code."""
    try:
        from assl_lightning.people.page.app import make_app
        from assl_lightning.people.page.guard import is_loopback
        from assl_lightning.people.page.serving import listen, serving
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise ValueError(
            f"the page needs {missing}, which is not installed; install it with {install_command('label')}"
        ) from None
    ending = threading.Event()
    token = options.token or secrets.token_urlsafe()
    app = make_app(
        session,
        token,
        options.host,
        ending.set,
        show_predictions=options.show_predictions,
        end_when_done=options.done,
    )
    port = options.port
    if port is None:
        port = PORT + (session.share.person - 1 if session.share else 0)
    listener = listen(options.host, port)
    if not is_loopback(options.host):
        sys.stderr.write(
            f"warning: with --host {options.host} other machines reach this page, and what is sent is not encrypted; "
            f"anybody who sees its address can label\n"
        )
    address = _address(options.host, listener.getsockname()[1], token, "settle" if options.settle else "")
    with serving(app, listener, ending):
        try:
            sys.stdout.write(_welcome(session, address, options.settle))
            sys.stdout.flush()
            if not options.no_browser and _has_screen():
                webbrowser.open(address)
            ending.wait()
        except Interrupted as interrupted:
            return interrupted.exit_code
    return 0


def _has_screen() -> bool:
    """True if a browser would open in a window, and not in this terminal."""
    return sys.platform in ("darwin", "win32") or any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _address(host: str, port: int, token: str, view: str = "") -> str:
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/{view}?token={token}"


def _welcome(session: Session, address: str, settles: bool) -> str:
    batch = session.batch
    share = f" ({session.share} of {len(batch.samples)})" if session.share else ""
    task = f"{counted(len(session.asked), 'image')}{share} to label as one of {len(batch.class_names)} classes"
    if settles:
        disputed = counted(len(session.disputes()), "image")
        task = f"people differ about {disputed}, {len(session.unsettled())} of them to be settled"
    return (
        f"{batch.name}, {batch.title}: {task}; {_progress(session)}\n"
        f"open {address}\n"
        f"each answer is saved at once; end with the page's Finish, or here with Ctrl-C\n"
    )


def _progress(session: Session) -> str:
    asked = len(session.asked)
    begun = [f"{name_of(who)} {answered} of {asked}" for who, answered in session.progress().items()]
    return f"answered: {', '.join(begun)}" if begun else "nothing answered yet"


def _told_of_classes(session: Session) -> str:
    """Return a line for each class that was added on the page, and what the run's settings must say from now on."""
    if not session.added:
        return ""
    lines = [f"{name!r} was added to the classes by {name_of(who)}" for name, who in session.added]
    names = session.refresh().class_names
    lines.append(f"from now on the run's command has {as_override(names)} data.num_classes={len(names)}")
    return "".join(f"{line}\n" for line in lines)


def _farewell(session: Session, run_dir: Path) -> str:
    progress, differing = _progress(session), len(session.unsettled())
    audit = ["--audit"] if session.batch.is_audit else []
    settle = command("label", run_dir, "--settle", *audit)
    left = unanswered(session.batch, session.ledger.active_answers())
    if session.share and _is_done(session) and left and (run_dir / CONFIG).exists():
        return f"{progress}; {counted(len(left), 'image')} of other shares to go, and then the run goes on\n"
    if not _is_done(session) and left:
        images = counted(differing, "image")
        so_far = f"; people differ about {images} so far, which {settle} shows" if differing else ""
        saved = "all of it is saved, and " if session.progress() else ""
        return f"{progress}; {saved}the same command goes on{so_far}\n"
    if differing:
        waits = "their labels stay" if audit else "the run waits"
        return (
            f"{progress}; people differ about {counted(differing, 'image')}, and {waits} until that is settled, as on "
            f"the page that {settle} opens\n"
        )
    if audit:
        return f"{progress}; the answers count as labels from now on, and the run's next round trains with them\n"
    if (run_dir / CONFIG).exists():
        return f"{progress}; give again {_command(run_dir)}, and the run goes on\n"
    return (
        f"{progress}; for a run elsewhere write {command('label', run_dir, '--csv', 'answers.csv')} here, "
        f"and there {command('ingest', 'RUN_DIR', 'answers.csv')}\n"
    )


def _command(run_dir: Path) -> str:
    """Return the command that began the run, or a description if it was not written down."""
    try:
        return command_of(read_config(run_dir))
    except ValueError:  # the run reports it
        return command_of({})


if __name__ == "__main__":
    sys.exit(main())
