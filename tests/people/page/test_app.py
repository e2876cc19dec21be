"""The page lets in who has its token, from its own address, and takes what may be an answer; over real connections."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from assl_lightning.loop.class_history import ClassHistory, write_history
from assl_lightning.loop.records import write_config
from assl_lightning.people.page import guard
from assl_lightning.people.page.app import make_app
from assl_lightning.people.shares import Share
from tests.people.batches import CLASSES, SAMPLE_IDS, a_png, apply_batch, make_batch
from tests.people.page.pages import TOKEN, Page, Reply, page_of

EVIL = ("<script>window.pwned = 1</script>.png", "\"'><img src=x onerror=pwned()>.png", "{{ 7 * 7 }}", "ü & <b>.png")
ROUTES = (
    "/",
    "/grid",
    "/batch?annotator=Ann",
    "/batch?annotator=Ann&view=grid",
    "/state",
    "/answers.csv?annotator=Ann",
    "/labels.csv",
    "/images/0000.png",
    "/static/page.js",
)
STATIC = Path(guard.__file__).parent


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page that no test changes."""
    run_dir = tmp_path_factory.mktemp("run")
    make_batch(run_dir)
    with page_of(run_dir) as page:
        page.sign_in()
        yield page


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    make_batch(tmp_path)
    with page_of(tmp_path) as one:
        one.sign_in()
        yield one


# ---------------------------------------------------------------- who is let in


@pytest.mark.parametrize("path", ROUTES)
def test_with_the_cookie_everything_is_there(served: Page, path: str) -> None:
    assert served.get(path).status == 200


@pytest.mark.parametrize("path", [*ROUTES, "/answers", "/classes", "/nowhere", "/favicon.ico"])
@pytest.mark.parametrize("cookie", ["", "assl_label_00000000=x", "NAME=", "NAME=wrong", f"NAME={TOKEN[:-1]}"])
def test_without_the_token_nothing_is(served: Page, path: str, cookie: str) -> None:
    name = served.headers["cookie"].partition("=")[0]
    reply = served.ask("GET", path, cookie=cookie.replace("NAME", name))
    assert reply.status == 403
    assert b"open the address that was printed" in reply.content
    assert "set-cookie" not in reply.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/?token=wrong"),
        ("GET", f"/?token={TOKEN}x"),
        ("GET", f"/?token={TOKEN[:-1]}"),
        ("GET", "/?token=%ff%00%c3%bc"),
        ("GET", f"/state?token={TOKEN}"),
        ("GET", f"/images/0000.png?token={TOKEN}"),
        ("POST", f"/?token={TOKEN}"),
        ("GET", f"//?token={TOKEN}"),
    ],
)
def test_the_address_opens_the_page_and_nothing_else(served: Page, method: str, path: str) -> None:
    assert served.ask(method, path, cookie="").status == 403


def test_tokens_are_compared_in_constant_time(served: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "compare_digest", lambda one, other: True)
    assert served.ask("GET", "/?token=wrong", cookie="").status == 200
    assert served.ask("GET", "/state", cookie="").status == 200


def test_the_cookie_is_for_this_page_alone(served: Page) -> None:
    reply = served.ask("GET", f"/?token={TOKEN}", cookie="")
    name, value, *rest = re.split("; |=", reply.headers["set-cookie"], maxsplit=2)
    assert re.fullmatch("assl_label_[0-9a-f]{8}", name)
    assert value == TOKEN
    assert rest == ["Path=/; HttpOnly; SameSite=Strict"]
    assert "set-cookie" not in served.get("/").headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:PORT", 200),
        ("localhost:PORT", 200),
        ("LOCALHOST", 200),
        ("localhost.:9001", 200),  # the other end of a tunnel
        ("[::1]:PORT", 200),
        ("evil.example", 403),
        ("evil.example:PORT", 403),
        ("127.0.0.1.evil.example:PORT", 403),
        ("localhost@evil.example", 403),
        ("evil.example@localhost", 403),
        ("evil.example#localhost", 403),
        ("192.168.0.7:PORT", 403),
        ("[::2]:PORT", 403),
        ("[::1", 403),
        (":PORT", 403),
    ],
)
def test_the_page_has_no_other_name(served: Page, host: str, status: int) -> None:
    assert served.ask("GET", "/state", host=host.replace("PORT", str(served.port))).status == status


def test_where_other_machines_may_come_it_has_its_names_and_addresses(tmp_path: Path) -> None:
    make_batch(tmp_path)
    with page_of(tmp_path, host="0.0.0.0") as page:
        page.sign_in()
        for host in ("192.168.0.7", "[fe80::1]:80", socket.gethostname(), "localhost"):
            assert page.ask("GET", "/state", host=host).status == 200
        for host in ("evil.example", f"{socket.gethostname()}.evil.example"):
            assert page.ask("GET", "/state", host=host).status == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:PORT"}, 200),
        ({"origin": "http://127.0.0.1:PORT", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"origin": "http://localhost:PORT"}, 403),
        ({"origin": "http://["}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),  # another port of this machine
    ],
)
def test_other_pages_are_answered_nothing(page: Page, headers: dict[str, str], status: int) -> None:
    sent = {name: value.replace("PORT", str(page.port)) for name, value in headers.items()}
    body = json.dumps({"annotator": "Ann", "sample_id": "d.png", "kind": "skip"}).encode()
    reply = page.ask("POST", "/answers", body, **{"content-type": "application/json", **sent})
    assert reply.status == status
    assert len(page.ledger.active_answers()) == int(status == 200)


def test_a_link_elsewhere_may_lead_to_the_page(served: Page) -> None:
    assert served.ask("GET", f"/?token={TOKEN}", cookie="", sec_fetch_site="cross-site").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/answers", 405),
        ("GET", "/answers", 405),
        ("DELETE", "/answers", 405),
        ("OPTIONS", "/answers", 405),
        ("GET", "/undo", 405),
        ("GET", "/classes", 405),
        ("GET", "/finish", 405),
        ("POST", "/", 405),
        ("POST", "/batch?annotator=Ann", 405),
        ("TRACE", "/", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/docs", 404),
    ],
)
def test_other_methods_and_places_are_refused(served: Page, method: str, path: str, status: int) -> None:
    reply = served.ask(method, path)
    assert reply.status == status
    assert reply.error


def responses(page: Page) -> list[Reply]:
    refused = [page.ask("GET", "/", cookie=""), page.ask("GET", "/state", host="evil.example"), page.get("/nowhere")]
    wrong = [page.ask("PUT", "/answers"), page.post("/answers", {}), page.ask("POST", "/answers", b"{")]
    return [*(page.get(path) for path in ROUTES), *refused, *wrong]


def test_every_response_has_the_headers_that_keep_it_in(served: Page) -> None:
    for reply in responses(served):
        policy = dict(part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
        style = policy["style-src"].partition(" 'sha256-")[0]  # a refusal carries its own
        assert policy["script-src"] == style == policy["img-src"] == policy["connect-src"] == "'self'"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in reply.headers
        assert "access-control-allow-origin" not in reply.headers


# ---------------------------------------------------------------- what is shown


class Elements(HTMLParser):
    """All elements of a page, with their attributes, and its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_names_are_text_whatever_is_in_them(tmp_path: Path) -> None:
    make_batch(tmp_path, sample_ids=EVIL, class_names=EVIL)
    with page_of(tmp_path) as page:
        parsed = Elements(page.sign_in().content)
        assert set(EVIL) <= set(parsed.texts)
        classes = [one for _, one in parsed.elements if (one.get("id") or "").startswith("class-")]
        assert [one["title"] for one in classes] == list(EVIL)
        content = page.batch("<script>'\"")
        assert content["annotator"] == "<script>'\""
        assert sorted(sample["id"] for sample in content["samples"]) == sorted(EVIL)
        assert page.answer(EVIL[0], EVIL[1]).status == 200
        assert page.answers() == [(EVIL[0], EVIL[1])]
        assert page.get("/answers.csv?annotator=Ann").headers["content-type"].startswith("text/csv")


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(served: Page) -> None:
    parsed = Elements(served.get("/").content)
    for tag, attributes in parsed.elements:
        assert tag != "style"
        assert not [name for name in attributes if name == "style" or name.startswith("on")], (tag, attributes)
    assert [attributes for tag, attributes in parsed.elements if tag == "script"] == [
        {"type": "module", "src": "static/page.js"}
    ]
    files = [*STATIC.glob("static/*"), *STATIC.glob("templates/*")]
    assert len(files) == 12
    for path in files:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn|@import|innerHTML|eval\(", text), path


def test_a_batch_is_shown_shuffled_without_score_or_prediction(served: Page) -> None:
    content = served.batch()
    assert content["classes"] == list(CLASSES)
    assert content["open"] is True
    order = [sample["id"] for sample in content["samples"]]
    assert order == [sample.sample_id for sample in served.session.order("Ann")]
    assert {key for sample in content["samples"] for key in sample} == {"id", "image", "again"}


def test_predictions_are_shown_where_both_sides_want_it(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, 0, show_predictions=True)
    with page_of(tmp_path) as page:
        page.sign_in()
        assert "prediction" not in page.batch()["samples"][0]
    with page_of(tmp_path, show_predictions=True) as page:
        page.sign_in()
        shown = {sample["id"]: sample["prediction"] for sample in page.batch()["samples"]}
        assert shown == {sample.sample_id: sample.prediction for sample in batch.samples}
    make_batch(tmp_path, 1)
    with (
        pytest.raises(ValueError, match="predictions of round 1 must not be shown"),
        page_of(tmp_path, show_predictions=True),
    ):
        pass


def test_the_grid_groups_what_the_model_takes_for_alike_and_does_not_say_for_what(tmp_path: Path) -> None:
    many = [f"{number}.png" for number in range(8)]
    batch = make_batch(tmp_path, 0, many, show_predictions=True)  # ok, dent, scratch, ok, … and falling scores
    by_class = {name: [one.sample_id for one in batch.samples if one.prediction == name] for name in CLASSES}
    with page_of(tmp_path) as page:
        page.sign_in()
        content = page.get("/batch?annotator=Ann&view=grid").json
        assert {key for sample in content["samples"] for key in sample} == {"id", "image", "again", "group"}
        assert content["groups"] == 3 * [{"alike": True, "name": None}]
        groups = [[one["id"] for one in content["samples"] if one["group"] == number] for number in range(3)]
        assert sorted(groups) == sorted(names[::-1] for names in by_class.values()), "the lowest score first"
        assert [len(group) for group in groups] == [3, 3, 2]
        assert page.answer("0.png", "ok", grid=True).status == 200
        assert page.ledger.active_answers()[0].source == "page, grid"
        assert page.post("/undo", {"annotator": "Ann", "id": 1}).status == 200
        assert page.answer("0.png", "ok", grid="yes").error.startswith("grid must be true, false or left out")
    with page_of(tmp_path, show_predictions=True) as page:
        page.sign_in()
        content = page.get("/batch?annotator=Ann&view=grid").json
        for sample in content["samples"]:
            assert content["groups"][sample["group"]]["name"] == sample["prediction"]


def test_images_are_the_batchs(served: Page) -> None:
    for number, sample in enumerate(served.session.batch.samples):
        reply = served.get(f"/images/{sample.image}")
        assert reply.content == a_png(20 * number)
        assert reply.headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    "path",
    [
        "/images/0004.png",
        "/images/",
        "/images/.",
        "/images/../batch.json",
        "/images/..%2fbatch.json",
        "/images/%2e%2e/batch.json",
        "/images/0000.png/../../batch.json",
        "/images/..%5cbatch.json",
        "/images//etc/passwd",
        "/images/%2fetc%2fpasswd",
        "/images/0000.png%00",
        "/static/../app.py",
        "/static/%2e%2e%2fapp.py",
        "/static/..%2ftemplates%2fpage.html",
        "/batch.json",
    ],
)
def test_no_path_leads_out_of_the_batchs_images(served: Page, path: str) -> None:
    assert served.get(path).status == 404


def test_an_image_that_is_gone_is_not_there(page: Page) -> None:
    page.session.batch.image_path(page.session.batch.samples[0]).unlink()
    assert page.get("/images/0000.png").status == 404


# ---------------------------------------------------------------- answers


def test_each_answer_is_in_the_ledger_when_its_receipt_comes(page: Page) -> None:
    for sample_id, label in zip(SAMPLE_IDS, ["ok", None, "dent", "scratch"], strict=True):
        reply = page.answer(sample_id, label, seconds=1.5)
        assert reply.json == {"id": len(page.ledger.active_answers()), "finished": False}
        assert page.answers()[-1] == (sample_id, label or "skip")
    assert {answer.source for answer in page.ledger.active_answers()} == {"page"}


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"annotator": "Ann"},
        {"sample_id": "e.png"},
        {"label": "Ok"},
        {"annotator": ""},
        {"annotator": "\ud800"},
        {"sample_id": "\ud800"},
        {"label": {"$ne": 1}},
        {"seconds": "1"},
    ],
)
def test_what_cannot_be_an_answer_is_422(served: Page, content: dict[str, Any]) -> None:
    good = {"annotator": "Ann", "sample_id": "d.png", "kind": "label", "label": "ok"}
    reply = served.post("/answers", good | content if len(content) == 1 and "annotator" not in content else content)
    assert reply.status == 422
    assert "must be" in reply.error
    assert served.answers() == []


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b'"text"', {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[" * 16000, {}, 400),
        (b"9" * 16000, {}, 400),
        (b" " * 16385, {}, 413),
        (b"4001\r\n" + b" " * 0x4001 + b"\r\n0\r\n\r\n", {"transfer-encoding": "chunked"}, 413),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"content-type": ""}, 415),
    ],
)
def test_what_is_no_json_object_or_too_large_is_refused(
    served: Page, body: bytes, headers: dict[str, str], status: int
) -> None:
    for path in ("/answers", "/undo", "/finish"):
        reply = served.ask("POST", path, body, **{"content-type": "application/json", **headers})
        assert reply.status == status, path
        assert reply.error.startswith("the body must be")


def test_undo_over_the_wire(page: Page) -> None:
    page.answer("d.png", "ok")
    assert page.post("/undo", {"annotator": "Bo", "id": 1}).status == 422
    for number in ("1", True, None, [1], 1.0, 7):
        assert page.post("/undo", {"annotator": "Ann", "id": number}).status == 422
    assert page.post("/undo", {"annotator": "Ann", "id": 1}).status == 200
    assert page.answers() == []


def test_annotators_see_their_own_answers_only(page: Page) -> None:
    page.answer("d.png", "ok", "Ann")
    page.answer("d.png", "dent", "Bo")
    shown = {who: [answer["label"] for answer in page.batch(who)["answers"]] for who in ("Ann", "Bo", "Cy")}
    assert shown == {"Ann": ["ok"], "Bo": ["dent"], "Cy": []}
    table = page.get("/answers.csv?annotator=Bo")
    assert table.content.decode().count("\n") == 2
    assert b"Ann" not in table.content
    assert table.headers["content-disposition"] == 'attachment; filename="answers_round_00.csv"'
    assert page.get("/answers.csv?annotator=").status == 422
    assert page.get("/batch").status == 422


def test_the_labelled_set_is_there_at_any_time(page: Page) -> None:
    assert page.get("/labels.csv").content == b"path,sample_id,label,split,round,people\n"
    page.answer("d.png", "dent", "Ann")
    page.answer("d.png", "dent", "Bo")
    page.answer("00123.png", annotator="Bo")
    table = page.get("/labels.csv")
    assert table.content.decode().splitlines()[1:] == ["/photos/d.png,d.png,dent,pool,0,Ann; Bo"]
    assert table.headers["content-disposition"] == 'attachment; filename="labels.csv"'
    assert table.headers["content-type"].startswith("text/csv")
    page.session.ledger.path.write_bytes(b"no ledger")
    assert page.get("/labels.csv").status == 503


def test_a_page_that_is_open_is_told_of_classes_that_have_changed(page: Page) -> None:
    assert page.get("/state").json["classes"] == list(CLASSES)
    history = ClassHistory.begin(CLASSES).add(["crack"], 0).rename("dent", "bump", 0)
    write_history(page.session.batch.run_dir, history)
    now = ["ok", "bump", "scratch", "crack"]
    assert page.get("/state").json["classes"] == page.batch()["classes"] == now
    assert b"<span>crack</span>" in page.get("/").content
    assert page.answer("d.png", "crack").status == 200
    assert page.answer("00123.png", "dent").status == 200, "of a page that has not looked since"
    assert [answer["label"] for answer in page.batch()["answers"]] == ["crack", "bump"]


def test_a_class_is_added_by_who_has_the_token_and_is_on_no_other_page(tmp_path: Path) -> None:
    batch = make_batch(tmp_path)
    write_config(tmp_path, {"rounds": 1, "data": {"num_classes": 3, "source": {"class_names": list(CLASSES)}}})
    with page_of(tmp_path) as page:
        assert b'id="new-class"' in page.sign_in().content
        body = json.dumps({"annotator": "Ann", "name": "crack"}).encode()
        for refused in ({"cookie": ""}, {"origin": "http://evil.example"}, {"sec_fetch_site": "cross-site"}):
            assert page.ask("POST", "/classes", body, content_type="application/json", **refused).status == 403
        assert page.ask("POST", "/classes", body, content_type="text/plain").status == 415
        assert page.get("/state").json["classes"] == list(CLASSES)
        assert page.post("/classes", {"annotator": "Ann", "name": "crack"}).json == {"classes": [*CLASSES, "crack"]}
        assert page.post("/classes", {"annotator": "Ann", "name": "crack"}).error.startswith(
            "'crack' is a class already"
        )
        assert page.post("/classes", {"annotator": " ", "name": "rust"}).status == 422
        assert page.answer("d.png", "crack").status == 200
        apply_batch(batch)
        assert page.post("/classes", {"annotator": "Ann", "name": "rust"}).status == 409
        assert b'id="new-class"' not in page.get("/").content
    make_batch(tmp_path / "copy")
    with page_of(tmp_path / "copy") as page:
        assert b'id="new-class"' not in page.sign_in().content
        reply = page.post("/classes", {"annotator": "Ann", "name": "crack"})
        assert (reply.status, reply.error[:36]) == (422, "classes are added where the run is, ")


def test_a_batch_that_was_taken_over_says_so(page: Page) -> None:
    page.answer("d.png", "ok")
    apply_batch(page.session.batch)
    assert page.get("/state").json == {"open": False, "classes": list(CLASSES), "disputes": 0}
    assert page.batch()["open"] is False
    for reply in (page.answer("d.png", "dent"), page.post("/undo", {"annotator": "Ann", "id": 1})):
        assert reply.status == 409
        assert "taken over meanwhile" in reply.error
    assert page.answers() == [("d.png", "ok")]


def test_a_ledger_that_cannot_be_written_is_said_and_may_be_tried_again(page: Page) -> None:
    page.ledger.path.write_bytes(b"no ledger at all, " * 500)
    reply = page.answer("d.png", "ok")
    assert reply.status == 503
    assert "must be a ledger of labels" in reply.error
    page.ledger.path.unlink()
    assert page.answer("d.png", "ok").status == 200


# ---------------------------------------------------------------- the end


def answer_all(page: Page, annotator: str) -> list[bool]:
    return [page.answer(sample_id, "ok", annotator).json["finished"] for sample_id in SAMPLE_IDS]


def test_who_has_images_left_cannot_finish(page: Page) -> None:
    page.answer("d.png", "ok")
    reply = page.post("/finish", {"annotator": "Ann"})
    assert reply.status == 422
    assert reply.error == "'Ann' has answered 1 of 4 images; answer all"
    assert not page.finished.is_set()
    answer_all(page, "Ann")
    assert page.post("/finish", {"annotator": "Ann"}).json == {"finished": True, "others": []}
    assert page.finished.is_set()


def test_who_finishes_is_told_who_is_not_done(page: Page) -> None:
    page.answer("d.png", "ok", "Bo")
    answer_all(page, "Ann")
    assert page.post("/finish", {"annotator": "Ann"}).json == {"finished": False, "others": ["Bo"]}
    assert not page.finished.is_set()
    assert page.post("/finish", {"annotator": "Ann", "leave_others": True}).json["finished"] is True
    assert page.finished.is_set()


def test_it_can_end_by_itself_once_all_who_began_are_done(tmp_path: Path) -> None:
    make_batch(tmp_path)
    with page_of(tmp_path, end_when_done=True) as page:
        page.sign_in()
        page.answer(SAMPLE_IDS[0], "ok", "Bo")
        assert answer_all(page, "Ann") == [False] * 4
        assert not page.finished.is_set()
        assert answer_all(page, "Bo") == [False, False, False, True]
        assert page.finished.is_set()


def test_a_share_is_shown_and_finished_by_itself_and_differences_are_those_of_all(tmp_path: Path) -> None:
    make_batch(tmp_path, sample_ids=[f"{number}.png" for number in range(7)])
    shares = [Share(person, 2, 0.4) for person in (1, 2)]  # 3 of the 7 in common, and 2 each
    shown = []
    for who, share, label in zip(("Ann", "Bo"), shares, ("ok", "dent"), strict=True):
        with page_of(tmp_path, share=share) as page:
            html = page.sign_in().content.decode()
            assert f"round 0, share {share.person} of 2" in html
            assert "0 of 5" in html
            names = [one["id"] for one in page.batch(who)["samples"]]
            grid = page.get(f"/batch?annotator={who}&view=grid").json
            assert sorted(one["id"] for one in grid["samples"]) == sorted(names)
            for name in names[:-1]:
                page.answer(name, label, who)
            assert page.post("/finish", {"annotator": who}).error == f"{who!r} has answered 4 of 5 images; answer all"
            page.answer(names[-1], label, who)
            assert page.post("/finish", {"annotator": who}).json == {"finished": True, "others": []}
            shown.append(set(names))
            assert {one["sample"] for one in page.batch(who)["answers"]} == set(names)
    assert len(shown[0] | shown[1]) == 7
    with page_of(tmp_path, share=shares[0]) as page:
        page.sign_in()
        settle = page.get("/batch?annotator=Di&view=settle").json
        assert {one["id"] for one in settle["samples"]} == shown[0] & shown[1]
        assert [vote["annotator"] for vote in settle["samples"][0]["votes"]] == ["Ann", "Bo"]


def test_there_is_nothing_but_requests(page: Page) -> None:
    upgrade = {"connection": "upgrade", "sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert page.ask("GET", "/state", None, upgrade="websocket", **upgrade).status == 200

    async def nothing(*_: object) -> Any:
        pytest.fail("it neither receives nor sends")

    app = make_app(page.session, TOKEN, "127.0.0.1", lambda: None)
    asyncio.run(app({"type": "websocket", "path": "/"}, nothing, nothing))  # type: ignore[arg-type]


# ---------------------------------------------------------------- where people differ


def test_what_people_differ_about_is_shown_with_who_says_what_and_never_with_a_prediction(tmp_path: Path) -> None:
    make_batch(tmp_path, show_predictions=True)
    with page_of(tmp_path, show_predictions=True) as page:
        page.sign_in()
        page.answer("d.png", "ok", "Ann")
        page.answer("00123.png", "ok", "Ann")
        page.answer("d.png", "dent", "Bo")
        assert page.get("/state").json["disputes"] == 1
        assert page.get("/settle").status == 200
        reply = page.get("/batch?annotator=Di&view=settle")
        (sample,) = reply.json["samples"]
        assert (sample["id"], sample["waits"], sample["holds"]) == ("d.png", True, None)
        assert [(vote["annotator"], vote["label"]) for vote in sample["votes"]] == [("Ann", "ok"), ("Bo", "dent")]
        assert b"prediction" not in reply.content
        assert page.post("/finish", {"annotator": "Di", "view": "settle"}).error == (
            "people still differ about 1 images; settle all"
        )
        kept = page.answer("d.png", "dent", "Di", decides=True)
        assert kept.status == 200
        (decision,) = page.get("/batch?annotator=Ann&view=settle").json["answers"]
        assert (decision["annotator"], decision["label"]) == ("Di", "dent")
        assert page.get("/state").json["disputes"] == 0
        assert page.post("/undo", {"annotator": "Ann", "id": kept.json["id"]}).status == 422, "not hers"
        ending = {"annotator": "Di", "view": "settle", "leave_others": True}
        assert page.post("/finish", ending).json["finished"] is True
        assert page.finished.is_set()


def test_who_settles_with_done_is_finished_with_the_last(tmp_path: Path) -> None:
    make_batch(tmp_path)
    with page_of(tmp_path, end_when_done=True) as page:
        page.sign_in()
        for name in ("d.png", "00123.png"):
            page.answer(name, "ok", "Ann")
            page.answer(name, "dent", "Bo")
        assert page.answer("d.png", "dent", "Di", decides=True).json["finished"] is False
        assert page.answer("00123.png", "dent", "Di", decides=True).json["finished"] is True


@pytest.mark.parametrize("path", ["/", "/settle"])
def test_who_is_refused_reads_what_to_do_on_a_page_with_a_style(served: Page, path: str) -> None:
    reply = served.ask("GET", path, cookie="")
    text = reply.content.decode()
    assert reply.status == 403
    assert "<h1>This address does not open the page</h1>" in text
    assert "The token is missing or wrong; open the address that was printed when the page was started." in text
    assert "<pre>python -m assl_lightning.label RUN_DIR</pre>" in text
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert f"style-src 'self' 'sha256-{digest}'" in reply.headers["content-security-policy"]
    assert served.ask("GET", f"{path}?token={TOKEN}", cookie="").status == 200


def test_a_name_in_a_refusal_is_text(served: Page) -> None:
    reply = served.ask("GET", "/", host="<b>evil</b>")
    assert "&lt;b&gt;evil&lt;/b&gt;" in reply.content.decode()
