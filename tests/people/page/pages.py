"""A page that is served to the tests, and what they say to it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from assl_lightning.base.run_files import LEDGER
from assl_lightning.people.batch import waiting_batch
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.page.app import make_app
from assl_lightning.people.page.serving import listen, serving
from assl_lightning.people.page.session import Session
from assl_lightning.people.shares import Share

TOKEN = "token_of_these_tests"


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def json(self) -> Any:
        """Its content, which must be JSON."""
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.content)

    @property
    def error(self) -> str:
        """The sentence that says what is wrong."""
        error: str = self.json["error"]
        return error


@dataclass
class Page:
    """A page that is served, and a client that sends what it is told, proper or not."""

    port: int
    session: Session
    finished: threading.Event
    headers: dict[str, str] = field(default_factory=dict)  # of every request

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={TOKEN}"

    @property
    def ledger(self) -> Ledger:
        return self.session.ledger

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Send a request; a header's name has underscores for its hyphens, and no value takes it out."""
        named = {"host": f"127.0.0.1:{self.port}"} | self.headers
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if body is not None and "transfer-encoding" not in named:
                named["content-length"] = str(len(body))
            for name, value in named.items():
                if value:
                    connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def sign_in(self) -> Reply:
        """Open the address that is printed, and keep the cookie."""
        reply = self.ask("GET", f"/?token={TOKEN}")
        self.headers["cookie"] = reply.headers["set-cookie"].partition(";")[0]
        return reply

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def post(self, path: str, content: Mapping[str, Any]) -> Reply:
        return self.ask("POST", path, json.dumps(content).encode(), content_type="application/json")

    def answer(self, sample_id: str, label: str | None = None, annotator: str = "Ann", **more: Any) -> Reply:
        kind = "label" if label is not None else "skip"
        content = {"annotator": annotator, "sample_id": sample_id, "kind": kind, "label": label, **more}
        return self.post("/answers", content)

    def batch(self, annotator: str = "Ann") -> Any:
        return self.get(f"/batch?annotator={quote(annotator)}").json

    def answers(self) -> list[tuple[str, str | None]]:
        """What stands in the ledger, in its order: sample id and label, or kind where it has none."""
        return [(answer.sample_id, answer.label or answer.kind) for answer in self.ledger.active_answers()]


@contextmanager
def page_of(
    run_dir: Path, port: int = 0, host: str = "127.0.0.1", share: Share | None = None, **options: bool
) -> Iterator[Page]:
    """Serve the batch that a run waits for; `options` are `make_app`'s."""
    session = Session(waiting_batch(run_dir), Ledger(run_dir / LEDGER), share=share)
    finished = threading.Event()
    app = make_app(session, TOKEN, host, finished.set, **options)
    listener = listen("127.0.0.1", port)
    page = Page(listener.getsockname()[1], session, finished)
    with serving(app, listener, threading.Event()):
        yield page
