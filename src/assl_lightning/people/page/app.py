"""The addresses of the page: the page itself, the batch, its images, and those that take answers."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from assl_lightning.base.templates import html_templates
from assl_lightning.base.words import one_line
from assl_lightning.data.answers import Answer, ResolvedLabel
from assl_lightning.people.page.guard import PAGES, POLICY, SECURITY, Guard
from assl_lightning.people.page.session import LONGEST_SECONDS, AnswerError, ClosedError, Session, annotator_of

_LARGEST_BODY = 16 * 1024  # bytes; an answer has a few hundred
_STATIC = Path(__file__).parent / "static"
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".svg": "image/svg+xml"}
_TYPES |= {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_REFUSED_STYLE = (_STATIC / "refused.css").read_text(
    encoding="utf-8"
)  # in the page itself: a refused request gets no other file
_REFUSED_POLICY = SECURITY[POLICY].replace(
    "style-src 'self'", f"style-src 'self' 'sha256-{b64encode(sha256(_REFUSED_STYLE.encode()).digest()).decode()}'"
)
_TEMPLATES = html_templates("assl_lightning.people.page")


def make_app(
    session: Session,
    token: str,
    host: str,
    finish: Callable[[], None],
    *,
    show_predictions: bool = False,
    end_when_done: bool = False,
) -> ASGIApp:
    """Make the page as an ASGI application.

    Args:
        session: the batch and its ledger.
        token: the token that every request needs.
        host: the host name that the page listens on.
        finish: is called, once or more often, when everything is answered and the page is to end.
        show_predictions: show the model's prediction of an image.
        end_when_done: finish as soon as every annotator who began has answered everything.

    Raises:
        ValueError: predictions are to be shown, and the batch does not allow it.
    """
    if show_predictions and not session.batch.show_predictions:
        raise ValueError(
            f"the predictions of round {session.batch.round} must not be shown, since oracle.show_predictions is false "
            f"in the run; leave --show-predictions out"
        )
    page = _Page(session, finish, show_predictions, end_when_done)
    app = Starlette(routes=page.routes(), exception_handlers={HTTPException: _plain_error})
    return Guard(app, token, host, _refusal)


class _Page:
    def __init__(
        self, session: Session, finish: Callable[[], None], show_predictions: bool, end_when_done: bool
    ) -> None:
        self._session = session
        self._finish = finish
        self._show_predictions = show_predictions
        self._end_when_done = end_when_done
        batch = session.batch
        self._images = {sample.image: batch.image_path(sample) for sample in batch.samples}
        self._static = {path.name: path for path in _STATIC.iterdir() if path.suffix in _TYPES}

    def routes(self) -> list[Route]:
        return [
            *(Route(path, self._index, methods=["GET"]) for path in PAGES),
            Route("/static/{name}", self._static_file, methods=["GET"]),
            Route("/images/{name}", self._image, methods=["GET"]),
            Route("/batch", self._batch, methods=["GET"]),
            Route("/state", self._state, methods=["GET"]),
            Route("/answers.csv", self._table, methods=["GET"]),
            Route("/labels.csv", self._labelled, methods=["GET"]),
            Route("/answers", _json_endpoint(self._answer), methods=["POST"]),
            Route("/undo", _json_endpoint(self._undo), methods=["POST"]),
            Route("/classes", _json_endpoint(self._add_class), methods=["POST"]),
            Route("/finish", _json_endpoint(self._end), methods=["POST"]),
        ]

    async def _index(self, request: Request) -> Response:
        batch = await run_in_threadpool(self._session.refresh)
        view = request.url.path.removeprefix("/") or "label"
        page = _TEMPLATES.get_template("page.html")
        shown = {"batch": batch, "share": self._session.share, "count": len(self._session.asked), "view": view}
        takes_classes = await run_in_threadpool(lambda: self._session.takes_classes)
        return HTMLResponse(page.render(**shown, takes_classes=takes_classes, longest=LONGEST_SECONDS))

    async def _static_file(self, request: Request) -> Response:
        return _file(self._static.get(request.path_params["name"]))

    async def _image(self, request: Request) -> Response:
        return _file(self._images.get(request.path_params["name"]))

    async def _batch(self, request: Request) -> Response:
        views = {"settle": self._describe_disputes, "grid": self._describe_groups}
        describe = views.get(request.query_params.get("view", ""), self._describe)
        return await _respond(describe, request.query_params.get("annotator"))

    async def _state(self, request: Request) -> Response:
        return await _respond(self._look, None)

    def _look(self, _: object) -> Mapping[str, Any]:
        batch = self._session.refresh()
        disputes = len(self._session.unsettled())
        return {"open": batch.is_open, "classes": list(batch.class_names), "disputes": disputes}

    async def _table(self, request: Request) -> Response:
        try:
            annotator = annotator_of(request.query_params.get("annotator"))
        except AnswerError as error:
            return _json({"error": str(error)}, 422)
        text = await run_in_threadpool(self._session.table, annotator)
        return _download(text, f"answers_round_{self._session.batch.round:02d}.csv")

    async def _labelled(self, _: Request) -> Response:
        try:
            text = await run_in_threadpool(self._session.labelled_table)
        except (ValueError, OSError) as error:
            return _json({"error": one_line(error)}, 503)
        return _download(text, "labels.csv")

    def _describe(self, annotator: object) -> Mapping[str, Any]:
        name = annotator_of(annotator)
        batch = self._session.refresh()
        samples = [
            {"id": sample.sample_id, "image": f"images/{sample.image}", "again": sample.again}
            | ({"prediction": sample.prediction} if self._show_predictions else {})
            for sample in self._session.order(name)
        ]
        shown = {sample["id"] for sample in samples}
        answers = [_described(answer) for answer in self._session.answers(name) if answer.sample_id in shown]
        return {
            "annotator": name,
            "run": f"{batch.run_id}/{batch.title}" if batch.is_audit else f"{batch.run_id}/{batch.round}",
            "classes": list(batch.class_names),
            "samples": samples,
            "answers": answers,
            "open": batch.is_open,
            "longest": LONGEST_SECONDS,
        }

    def _describe_groups(self, annotator: object) -> Mapping[str, Any]:
        """Describe the images in groups of one predicted class, which is named only if predictions are shown."""
        described = dict(self._describe(annotator))
        shown = {sample["id"]: sample for sample in described["samples"]}
        groups = self._session.groups(str(described["annotator"]))
        samples = [
            shown[sample.sample_id] | {"group": number} for number, group in enumerate(groups) for sample in group
        ]
        names = [group[0].prediction if self._show_predictions else None for group in groups]
        is_grouped = [group[0].prediction is not None for group in groups]
        described["groups"] = [{"alike": alike, "name": name} for alike, name in zip(is_grouped, names, strict=True)]
        return described | {"samples": samples}

    def _describe_disputes(self, annotator: object) -> Mapping[str, Any]:
        """Describe the images about which people differ, without predictions; those with an open conflict first."""
        described = dict(self._describe(annotator))
        disputes = self._session.disputes()
        samples = [
            {
                "id": sample.sample_id,
                "image": f"images/{sample.image}",
                "again": sample.again,
                "votes": [_described(vote) for vote in disputes[sample.sample_id].votes],
                "waits": _waits(disputes[sample.sample_id]),
                "holds": _answer_without_decision(disputes[sample.sample_id]),
            }
            for sample in self._session.order(str(described["annotator"]), whole_batch=True)
            if sample.sample_id in disputes
        ]
        decisions = [_described(answer) for answer in self._session.decisions() if answer.sample_id in disputes]
        return described | {
            "run": f"{described['run']}:settle",  # its answers wait in the browser apart from the others
            "samples": sorted(samples, key=lambda sample: not sample["waits"]),
            "answers": decisions,
            "policy": self._session.conflicts,
        }

    def _answer(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        kept = self._session.answer(annotator_of(content.get("annotator")), content)
        left = self._session.unsettled() if kept.decides else self._session.unfinished()
        is_finished = self._end_when_done and not left
        if is_finished:
            self._finish()
        return {"id": kept.id, "finished": is_finished}

    def _undo(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        self._session.undo(annotator_of(content.get("annotator")), content.get("id"))
        return {}

    def _add_class(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        batch = self._session.add_class(annotator_of(content.get("annotator")), content.get("name"))
        return {"classes": list(batch.class_names)}

    def _end(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        annotator = annotator_of(content.get("annotator"))
        asked, progress = len(self._session.asked), self._session.progress()
        settles = content.get("view") == "settle"
        if settles and (unsettled := self._session.unsettled()):
            raise AnswerError(f"people still differ about {len(unsettled)} images; settle all")
        if not settles and progress.get(annotator, 0) < asked:
            raise AnswerError(f"{annotator!r} has answered {progress.get(annotator, 0)} of {asked} images; answer all")
        others = self._session.unfinished()
        if others and content.get("leave_others") is not True:
            return {"finished": False, "others": others}
        self._finish()
        return {"finished": True, "others": others}


def _described(answer: Answer) -> Mapping[str, Any]:
    return {
        "id": answer.id,
        "sample": answer.sample_id,
        "kind": answer.kind,
        "label": answer.label,
        "source": answer.source,
        "annotator": answer.annotator,
    }


def _waits(verdict: ResolvedLabel) -> bool:
    """True if the run waits for a decision, or would wait without the one that was made."""
    return verdict.kind == "conflict" or verdict.decision is not None


def _answer_without_decision(verdict: ResolvedLabel) -> str | None:
    """Return the label, or "skip" or "bad", that counts without a decision; None if there is none."""
    if verdict.decision is not None or verdict.kind == "conflict":
        return None
    return verdict.label or verdict.kind


def _json_endpoint(
    handle: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler as an endpoint for a JSON object.

    Content types of forms are refused, because a browser sends them to another site without asking that site first.
    """

    async def endpoint(request: Request) -> Response:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            return _json({"error": f"the body must be application/json; got {media_type!r}"}, 415)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST_BODY:
                return _json({"error": f"the body must be at most {_LARGEST_BODY} bytes; got more"}, 413)
        try:
            content = json.loads(body)
        except (ValueError, RecursionError) as error:
            return _json({"error": f"the body must be JSON; {error}"}, 400)
        if not isinstance(content, dict):
            return _json({"error": f"the body must be a JSON object; got {type(content).__name__}"}, 400)
        return await _respond(handle, content)

    return endpoint


async def _respond(handle: Callable[[Any], Mapping[str, Any]], argument: object) -> Response:
    """Respond with the result of `handle`, or with its error and status; `handle` may wait for the disk."""
    try:
        return _json(await run_in_threadpool(handle, argument))
    except AnswerError as error:
        return _json({"error": str(error)}, 422)
    except ClosedError as error:
        return _json({"error": str(error)}, 409)
    except (ValueError, OSError) as error:  # the ledger's
        return _json({"error": one_line(error)}, 503)


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type="application/json")


def _download(text: str, name: str) -> Response:
    return Response(text, media_type="text/csv", headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _file(path: Path | None) -> Response:
    if path is None or not path.is_file():
        return _json({"error": "there is no such file"}, 404)
    return FileResponse(path, media_type=_TYPES[path.suffix])


def _refusal(path: str, problem: str) -> Response:
    if path not in PAGES:
        return _json({"error": problem}, 403)
    page = _TEMPLATES.get_template("refused.html").render(problem=problem, style=_REFUSED_STYLE)
    return HTMLResponse(page, 403, headers={POLICY: _REFUSED_POLICY})


async def _plain_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Response(json.dumps({"error": error.detail}), error.status_code, error.headers, "application/json")
