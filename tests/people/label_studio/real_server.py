"""The real Label Studio, installed and started as docs/labels_by_label_studio.md says, and stopped again."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

SWITCH = "ASSL_LIGHTNING_LABEL_STUDIO"
"""The environment variable that asks for it: 1, or a directory in which the installation is kept."""

DOCUMENT = Path(__file__).parents[3] / "docs" / "labels_by_label_studio.md"
INSTALL, START = re.findall(r"^```bash\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
PATIENCE = 300.0  # seconds for the first start; 70 were measured


@dataclass(frozen=True)
class RealLabelStudio:
    url: str
    legacy: str
    document_root: Path


@contextmanager
def installed(asked: str) -> Iterator[Path]:
    """The directory of an installation, which takes three minutes and 1 GB: one that stays where `asked` names it."""
    if os.sep not in asked:
        with tempfile.TemporaryDirectory() as directory:
            yield _install(Path(directory))
        return
    yield _install(Path(asked).resolve())


@contextmanager
def running(directory: Path, data: Path) -> Iterator[RealLabelStudio]:
    """A server with new data, from the installation in `directory`; its process is ended however the block ends."""
    document_root = data / "documents"
    document_root.mkdir(parents=True)
    port = _free_port()
    server = RealLabelStudio(f"http://127.0.0.1:{port}", secrets.token_hex(20), document_root)
    script = START.replace("--port 8080", f"--port {port}").replace(
        "--data-dir label-studio-data", f"--data-dir {data}"
    )
    assert script.count(str(port)) == script.count(str(data)) == 1
    environment = {
        "LABEL_STUDIO_USERNAME": "ann@example.com",
        "LABEL_STUDIO_PASSWORD": secrets.token_hex(8),
        "LABEL_STUDIO_USER_TOKEN": server.legacy,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(document_root),
    }
    log = data / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-euc", script],  # which becomes the server, by its exec
            cwd=directory,
            env={"PATH": os.environ["PATH"], "HOME": str(data), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(server.url, process, log)
            yield server
        finally:
            _end(process)


def _install(directory: Path) -> Path:
    if not (directory / "label-studio" / "bin" / "label-studio").exists():
        directory.mkdir(parents=True, exist_ok=True)
        subprocess.run(["bash", "-euc", INSTALL], cwd=directory, check=True)
    return directory


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        try:
            if httpx.get(f"{url}/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(1)
    raise AssertionError(f"Label Studio did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
