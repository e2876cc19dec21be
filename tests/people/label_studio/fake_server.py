"""A Label Studio in the test's own process, as far as this package and its tests use one.

It does what version 1.23.2 was seen to do: it takes the same task as often as it comes and any choice whatsoever, has
no skips in JSON-MIN, refuses a personal access token that was not exchanged, and serves no file below its document
root before a storage was registered. `test_server.py` holds the same scenario against it and against the real one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

LEGACY = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.c2lnbmF0dXJlLW9mLXRoZS1yZWZyZXNo"

Reply = tuple[int, dict[str, str], bytes]


def json_reply(code: int, content: Any) -> Reply:
    return code, {"Content-Type": "application/json"}, json.dumps(content).encode()


def refusal(code: int, detail: str) -> Reply:
    return json_reply(code, {"id": "495fc3b4", "status_code": code, "version": "1.23.2", "detail": detail})


@dataclass
class FakeLabelStudio:
    """The state of a server, and how it answers."""

    document_root: Path | None = None
    allow_legacy: bool = True
    release: str = "1.23.2"
    url: str = ""
    projects: dict[int, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[int, dict[str, Any]] = field(default_factory=dict)
    storages: list[Path] = field(default_factory=list)
    access: str = ""
    refreshed: int = 0
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path with query, Authorization
    faults: list[Reply | None] = field(default_factory=list)  # given in place of the next answers; None: the answer
    fault_after: dict[str, Reply] = field(default_factory=dict)  # "POST import" → what follows when it was done
    annotations: int = 0
    numbers: int = 0  # of tasks, which are not given again

    def answer(self, method: str, address: str, authorization: str, body: bytes) -> Reply:
        self.requests.append((method, address, authorization))
        if self.faults and (fault := self.faults.pop(0)) is not None:
            return fault
        parts = urlsplit(address)
        names = [name for name in parts.path.split("/") if name]
        query = parse_qs(parts.query)
        content = json.loads(body) if body else None
        reply = self._route(method, names, query, content, authorization)
        return self.fault_after.pop(f"{method} {names[-1]}", reply)

    def _route(
        self, method: str, names: list[str], query: dict[str, list[str]], content: Any, authorization: str
    ) -> Reply:
        if names == ["api", "version"]:
            return json_reply(200, {"release": self.release, "edition": "Community"})
        if names == ["api", "token", "refresh"]:
            return self._refresh(content)
        if not self._knows(authorization):
            given = "Invalid token." if authorization.startswith("Token") else "credentials were not provided."
            return refusal(401, f"Authentication {given}")
        match [method, *names]:
            case ["GET", "api", "projects"]:
                return self._project_list(query)
            case ["POST", "api", "projects"]:
                return self._create(content)
            case ["POST", "api", "storages", "localfiles"]:
                self.storages.append(Path(content["path"]))
                return json_reply(201, {"id": len(self.storages)})
            case ["POST", "api", "users"]:
                return json_reply(201, {"id": 2, "email": content["email"]})
            case ["GET", "api", "tasks"]:
                return self._task_list(query)
            case ["GET", "data", "local-files"]:
                return self._file(query["d"][0])
            case [_, "api", "tasks", number, *rest] if int(number) in self.tasks:
                return self._task(method, self.tasks[int(number)], rest, content)
            case [_, "api", "projects", number, *rest] if int(number) in self.projects:
                return self._project(method, int(number), rest, query, content)
            case [_, "api", "projects", _, *_]:
                return refusal(404, "No Project matches the given query.")
        return 404, {"Content-Type": "text/html; charset=utf-8"}, b"<!doctype html><title>Label Studio</title>"

    def _refresh(self, content: Any) -> Reply:
        if content != {"refresh": PERSONAL}:
            return refusal(401, "Token is invalid")
        self.refreshed += 1
        self.access = f"access.token.{self.refreshed:040d}"
        return json_reply(200, {"access": self.access})

    def _knows(self, authorization: str) -> bool:
        if authorization == f"Token {LEGACY}":
            return self.allow_legacy
        return bool(self.access) and authorization == f"Bearer {self.access}"

    def _project_list(self, query: dict[str, list[str]]) -> Reply:
        page, size = int(query["page"][0]), min(int(query["page_size"][0]), 100)
        everything = sorted(self.projects.values(), key=lambda one: -one["id"])
        some = everything[(page - 1) * size : page * size]
        rows = [{name: project[name] for name in query["include"][0].split(",")} for project in some]
        more = page * size < len(everything)
        return json_reply(
            200, {"count": len(everything), "next": f"{self.url}/more" if more else None, "results": rows}
        )

    def _create(self, content: dict[str, Any]) -> Reply:
        if not 3 <= len(content["title"]) <= 50:
            return refusal(400, "Validation error")
        number = len(self.projects) + 1
        self.projects[number] = {**content, "id": number, "parsed_label_config": self._parsed(content)}
        return json_reply(201, self.projects[number])

    @staticmethod
    def _parsed(content: dict[str, Any]) -> dict[str, Any]:
        choices = ElementTree.fromstring(content["label_config"]).find(".//Choices")
        labels = [] if choices is None else [one.get("alias") or one.get("value") for one in choices]
        return {"label": {"type": "Choices", "to_name": ["image"], "labels": labels}}

    def _project(self, method: str, number: int, rest: list[str], query: dict[str, list[str]], content: Any) -> Reply:
        if method == "POST" and rest == ["import"]:
            return self._import(number, content)
        if rest == ["export"]:
            return self._export(number, query)
        if method == "PATCH":
            return self._change(self.projects[number], content)
        return json_reply(200, self.projects[number])

    def _change(self, project: dict[str, Any], content: dict[str, Any]) -> Reply:
        """As the server does, which keeps what was answered."""
        parsed = self._parsed(content)
        annotations = [one for task in self.tasks.values() for one in task["annotations"]]
        used = {name for one in annotations for part in one["result"] for name in part["value"]["choices"]}
        if used - {*parsed["label"]["labels"]}:
            return refusal(400, f"These labels still exist in annotations: {', '.join(sorted(used))}")
        project.update({**content, "parsed_label_config": parsed})
        return json_reply(200, project)

    def _import(self, project: int, content: list[dict[str, Any]]) -> Reply:
        for task in content:
            self.numbers += 1
            number = self.numbers
            self.tasks[number] = {
                "id": number,
                "project": project,
                "data": task["data"],
                "meta": task.get("meta", {}),
                "predictions": task.get("predictions", []),
                "annotations": [],
            }
        return json_reply(201, {"task_count": len(content)})

    def _task_list(self, query: dict[str, list[str]]) -> Reply:
        page, size = int(query["page"][0]), int(query["page_size"][0])
        everything = [task for task in self.tasks.values() if task["project"] == int(query["project"][0])]
        some = everything[(page - 1) * size : page * size]
        if not some and page > 1:
            return refusal(404, "Invalid page.")
        rows = []
        for task in some:
            skipped = sum(one["was_cancelled"] for one in task["annotations"])
            counts = {
                "total_annotations": len(task["annotations"]) - skipped,
                "cancelled_annotations": skipped,
            }
            rows.append({name: (task | counts)[name] for name in query["include"][0].split(",")})
        return json_reply(200, {"total": len(everything), "tasks": rows})

    def _task(self, method: str, task: dict[str, Any], rest: list[str], content: Any) -> Reply:
        if rest != ["annotations"]:
            return json_reply(200, task)
        self.annotations += 1
        now = f"2026-11-23T03:27:{self.annotations:02d}.360928Z"
        annotation = {
            "id": self.annotations,
            "completed_by": content.get("completed_by", 1),
            "result": content["result"],
            "was_cancelled": content.get("was_cancelled", False),
            "ground_truth": False,
            "created_at": now,
            "updated_at": now,
            "lead_time": content.get("lead_time"),
        }
        task["annotations"].append(annotation)
        return json_reply(201, annotation)

    def _export(self, project: int, query: dict[str, list[str]]) -> Reply:
        wanted = {int(number) for number in query.get("ids[]", [])}
        tasks = [
            task for task in self.tasks.values() if task["project"] == project and (not wanted or task["id"] in wanted)
        ]
        if query["exportType"] == ["JSON"]:
            return json_reply(200, tasks)
        rows = [
            {
                **task["data"],
                "id": task["id"],
                "annotator": annotation["completed_by"],
                "annotation_id": annotation["id"],
                "lead_time": annotation["lead_time"],
            }
            for task in tasks
            for annotation in task["annotations"]
            if not annotation["was_cancelled"]
        ]
        return json_reply(200, rows)

    def _file(self, name: str) -> Reply:
        if self.document_root is None:
            return 403, {"Content-Type": "text/html"}, b"Serving local files can be dangerous"
        path = self.document_root / unquote(name)
        if not path.is_file() or not any(path.is_relative_to(storage) for storage in self.storages):
            return 404, {"Content-Type": "text/html"}, b""
        return 200, {"Content-Type": "image/png"}, path.read_bytes()


@contextmanager
def serving(fake: FakeLabelStudio) -> Iterator[FakeLabelStudio]:
    """Have it answer at `fake.url` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and content at once, which else wait for an acknowledgement

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            code, headers, content = fake.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET
        do_PATCH = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
