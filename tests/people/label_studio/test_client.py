"""What the client asks of a server, and what it says where the server does not do it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from assl_lightning.people.label_studio import client as module
from assl_lightning.people.label_studio.client import LabelStudio
from assl_lightning.people.label_studio.errors import LabelStudioError, UnsureError
from assl_lightning.people.label_studio.tasks import label_config
from tests.people.label_studio.fake_server import (
    LEGACY,
    PERSONAL,
    FakeLabelStudio,
    Reply,
    json_reply,
    refusal,
    serving,
)

HTML: Reply = (200, {"Content-Type": "text/html"}, b"<html><title>Sign in</title></html>")


class Clock:
    """Time that passes where somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connect(fake: FakeLabelStudio, clock: Clock) -> Iterator[Callable[..., LabelStudio]]:
    opened: list[LabelStudio] = []

    def open_client(token: str = LEGACY, url: str | None = None, **arguments: Any) -> LabelStudio:
        opened.append(LabelStudio(url or fake.url, token=token, sleep=clock.sleep, clock=clock, **arguments))
        return opened[-1]

    yield open_client
    for client in opened:
        client.__exit__(None, None, None)


def a_project(client: LabelStudio, description: str = "assl_lightning run 9f140cb3") -> int:
    return client.create_project("photos 9f140cb3", description, label_config(["ok", "dent"]), show_predictions=False)


def some_tasks(count: int) -> list[dict[str, Any]]:
    keys = [{"sample_id": f"{n}.png", "round": "0"} for n in range(count)]
    return [{"data": {"image": "data:image/png;base64,AAAA", **key}, "meta": {"run_id": "9f", **key}} for key in keys]


def test_a_legacy_token_is_sent_as_it_is(fake: FakeLabelStudio, connect: Callable[..., LabelStudio]) -> None:
    assert connect(f" {LEGACY}\n").projects() == []
    assert fake.requests == [("GET", fake.requests[0][1], f"Token {LEGACY}")]


def test_a_personal_token_is_exchanged_and_renewed_before_it_ends(
    fake: FakeLabelStudio, connect: Callable[..., LabelStudio], clock: Clock
) -> None:
    fake.allow_legacy = False
    client = connect(PERSONAL)
    for _ in range(3):
        client.projects()
        clock.now += 100
    assert fake.refreshed == 1
    client.projects()
    assert fake.refreshed == 2, "four of the five minutes are over"
    assert not any(PERSONAL in authorization for _, _, authorization in fake.requests)
    fake.access = "ended before its time"
    client.projects()
    assert fake.refreshed == 3


@pytest.mark.parametrize("token", ["0" * 40, "a.b.c"])
def test_a_token_that_is_refused_is_one_line(
    fake: FakeLabelStudio, connect: Callable[..., LabelStudio], token: str
) -> None:
    with pytest.raises(LabelStudioError) as caught:
        connect(token).projects()
    detail = "Token is invalid" if token == "a.b.c" else "Authentication Invalid token."
    assert str(caught.value) == (
        f"Label Studio at {fake.url} refuses the token with 401 ({detail}); copy a personal access token from Account "
        f"& Settings into LABEL_STUDIO_API_KEY, or a legacy token where the organisation allows them"
    )


def secrets_in(error: BaseException) -> list[str]:
    """Which tokens are in an error, or in what it came from, in any form that is printed or kept."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        if (one := waiting.pop()) is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__]
    texts = ["".join(traceback.format_exception(error))]
    for one in seen:
        texts += [str(one), repr(one), repr(one.args), repr(vars(one))]
        request = getattr(one, "_request", None)
        texts.append(repr(getattr(request, "headers", "")) + str(dict(getattr(request, "headers", {}))))
    known = (LEGACY, PERSONAL, "access.token.")
    return [secret for secret in known if any(secret[:12] in text for text in texts)]


@pytest.mark.parametrize("token", [LEGACY, PERSONAL])
@pytest.mark.parametrize(
    "echo",
    [
        lambda secret: refusal(400, f"do not send me {secret}"),
        lambda secret: refusal(400, "." * (280 - len(secret) // 2) + secret),  # and no half of it
        lambda secret: refusal(401, f"Token {secret}"),
        lambda secret: refusal(403, secret),
        lambda secret: refusal(404, secret),
        lambda secret: refusal(500, secret),
        lambda secret: (429, {"Retry-After": "1"}, secret.encode()),
        lambda secret: (302, {"Location": f"https://elsewhere.example/?token={secret}"}, b""),
        lambda secret: (200, {"Content-Type": f"text/{secret}"}, b"<html>"),
        lambda secret: json_reply(200, [secret]),
        lambda secret: (200, {"Content-Length": "999999", "Content-Type": "application/json"}, b"{"),  # breaks off
    ],
)
def test_no_error_has_the_token_though_the_server_says_it(
    fake: FakeLabelStudio, connect: Callable[..., LabelStudio], token: str, echo: Callable[[str], Reply]
) -> None:
    client = connect(token, timeout=5.0)
    client.projects()
    for secret in filter(None, [token, fake.access]):
        fake.faults = [echo(secret)] * 12
        with pytest.raises(LabelStudioError) as caught:
            client.projects()
        assert secrets_in(caught.value) == []


@pytest.mark.parametrize("token", [LEGACY, PERSONAL])
def test_no_log_or_text_of_the_client_has_the_token(
    fake: FakeLabelStudio, connect: Callable[..., LabelStudio], caplog: pytest.LogCaptureFixture, token: str
) -> None:
    caplog.set_level(logging.DEBUG)
    client = connect(token)
    client.projects()
    assert repr(client) == f"LabelStudio('{fake.url}')"
    fake.faults = [(503, {}, b""), refusal(401, "no"), refusal(401, "no")]
    with pytest.raises(LabelStudioError):
        client.projects()
    assert "HTTP Request" in caplog.text
    assert not [secret for secret in (LEGACY, PERSONAL, "access.token.") if secret in caplog.text]


def test_secrets_in_errors_would_be_found() -> None:
    error = ValueError("fine")
    error.__context__ = ValueError(f"Authorization: Token {LEGACY}")
    assert secrets_in(error) == [LEGACY]


@pytest.mark.parametrize("token", ["", "two words", "ümlaut", "a\x00b"])
def test_what_is_no_token_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ValueError, match="the token of Label Studio must be of visible ASCII characters") as caught:
        LabelStudio("http://127.0.0.1:8080", token=token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8080", "ftp://a", "http://", "http://a:b", "http://a?x=1", "http://a/#x", "http://[::1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"url must be the address of Label Studio, such as .*; got"):
        LabelStudio(url, token=LEGACY)


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="url must hold no name and password") as caught:
        LabelStudio("http://ann:hunter2@a", token=LEGACY)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (HTML, "answers with text/html in place of JSON; give its address as url, and see that no proxy or login page"),
        ((200, {"Content-Type": "application/json"}, b"[" * 100_000), "answers with application/json in place of JSON"),
        ((404, {"Content-Type": "text/html"}, b"<html>"), "has no such page (404); give its address as url, as a"),
        (refusal(404, "No Project."), "has no project 7 that the token's user may see (404); give another number, or"),
        (refusal(403, "Not yours."), "does not allow this with 403 (Not yours.); the token's user needs access"),
        ((413, {}, b"<html>"), "refuses so large a request (413); a proxy before it limits them: raise its limit, or"),
        (refusal(400, "Validation error"), "refuses what was asked with 400 (Validation error)"),
        ((301, {"Location": "https://b.example/"}, b""), "redirects to https://b.example/; give the address that"),
        (json_reply(200, 3), "must be a Label Studio; it answers with 3"),
    ],
)  # fmt: skip
def test_what_a_server_says_instead_is_one_line(
    fake: FakeLabelStudio, connect: Callable[..., LabelStudio], clock: Clock, fault: Reply, message: str
) -> None:
    fake.faults = [fault]
    with pytest.raises(LabelStudioError) as caught:
        connect().project(7)
    assert message in str(caught.value)
    assert fake.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(fake.requests) == 1, "there is no use in asking again"
    assert clock.waits == []


@pytest.mark.parametrize(
    ("fault", "waits", "message"),
    [
        ((503, {}, b"<html>"), [1, 2, 4], "it failed (503), 4 times"),
        (refusal(500, "database is locked"), [1, 2, 4], "it failed (500: database is locked), 4 times"),
        ((429, {"Retry-After": "7"}, b""), [7, 7, 7], "it is asked too often (429), 4 times"),
        ((429, {"Retry-After": "86400"}, b""), [60, 60, 60], "it is asked too often (429), 4 times"),
        ((503, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, b""), [1, 2, 4], "it failed (503), 4 times"),
    ],
)
def test_a_server_that_is_busy_is_asked_again_a_few_times(
    fake: FakeLabelStudio,
    connect: Callable[..., LabelStudio],
    clock: Clock,
    fault: Reply,
    waits: list[float],
    message: str,
) -> None:
    fake.faults = [fault] * 3
    assert connect().projects() == []
    assert clock.waits == waits
    fake.faults = [fault] * 4
    with pytest.raises(LabelStudioError) as caught:
        connect().projects()
    assert message in str(caught.value)
    assert str(caught.value).endswith("see that it runs and can be reached from here, and give the same command again")


def test_what_may_have_been_done_is_not_done_again(
    fake: FakeLabelStudio, connect: Callable[..., LabelStudio], clock: Clock
) -> None:
    client = connect()
    project = a_project(client)
    fake.fault_after = {"POST import": (504, {}, b"")}
    with pytest.raises(UnsureError, match=r"it failed \(504\); see that it runs"):
        client.import_tasks(project, some_tasks(2))
    assert len(client.tasks(project)) == 2
    fake.faults = [(429, {}, b"")]
    client.import_tasks(project, some_tasks(1))
    assert len(client.tasks(project)) == 3, "it had not begun"
    assert clock.waits == [1]


def test_a_server_that_is_not_there_is_one_line(connect: Callable[..., LabelStudio], clock: Clock) -> None:
    with serving(FakeLabelStudio()) as gone:
        url = gone.url
    with pytest.raises(LabelStudioError, match=rf"{url} must answer; it cannot be reached \(.*\), 4 times; see that"):
        connect(url=url).version()
    assert clock.waits == [1, 2, 4]


def test_only_the_first_version_is_known(fake: FakeLabelStudio, connect: Callable[..., LabelStudio]) -> None:
    assert connect().version() == "1.23.2"
    fake.release = "2.30.0"
    with pytest.raises(LabelStudioError, match=r"must be a Label Studio of version 1, .* it is version 2\.30\.0"):
        connect().version()
    fake.faults = [json_reply(200, {"version": "1.0"})]
    with pytest.raises(LabelStudioError, match="its answer has no version"):
        connect().version()


def test_a_project_is_found_by_its_whole_marker_on_any_page(
    fake: FakeLabelStudio, connect: Callable[..., LabelStudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    client = connect()
    numbers = [a_project(client, text) for text in ("of run 9f, ours", "of run 9f2", "", "other", "more")]
    assert client.find_project("run 9f") == numbers[0]
    assert client.find_project("run 9") is None
    a_project(client, "again of run 9f")
    with pytest.raises(LabelStudioError, match="must have one project of run 9f; it has 1, 6; give the number"):
        client.find_project("run 9f")


def test_tasks_of_all_pages_are_listed_without_their_images_and_others_passed_over(
    fake: FakeLabelStudio, connect: Callable[..., LabelStudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 3)
    client = connect()
    project = a_project(client)
    assert client.tasks(project) == []
    strange: list[dict[str, Any]] = [
        {"data": {"image": "x"}},
        {"data": {}, "meta": None},
        {"data": {}, "meta": {"run_id": 3}},
    ]
    client.import_tasks(project, [*some_tasks(4), *strange, *some_tasks(2)])
    names = [task.sample_id for task in client.tasks(project)]
    assert names == [f"{n}.png" for n in (0, 1, 2, 3, 0, 1)]
    listings = [path for _, path, _ in fake.requests if path.startswith("/api/tasks/")]
    assert len(listings) == 4
    assert not any("data" in path for path in listings)


def test_large_imports_are_sent_in_parts(
    fake: FakeLabelStudio, connect: Callable[..., LabelStudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_OF_AN_IMPORT", 300)
    client = connect()
    project = a_project(client)
    client.import_tasks(project, some_tasks(5))
    assert [task.sample_id for task in client.tasks(project)] == [f"{n}.png" for n in range(5)]
    assert len([path for _, path, _ in fake.requests if path.endswith("/import")]) == 3


def test_tasks_are_exported_a_few_at_a_time(
    fake: FakeLabelStudio, connect: Callable[..., LabelStudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EXPORTED_AT_ONCE", 2)
    client = connect()
    project = a_project(client)
    client.import_tasks(project, some_tasks(5))
    assert [task["id"] for task in client.export(project, [1, 3, 5])] == [1, 3, 5]
    assert client.export(project, []) == []
    fake.faults = [json_reply(200, {"detail": "later"})]
    with pytest.raises(LabelStudioError, match=r"must export a list of tasks; it sent {'detail': 'later'}"):
        client.export(project, [1])


def test_the_token_goes_to_no_other_host(fake: FakeLabelStudio, connect: Callable[..., LabelStudio]) -> None:
    client = connect()
    image: Reply = (200, {"Content-Type": "image/png"}, b"png")
    with serving(FakeLabelStudio(faults=[image, None, image])) as other:
        assert client.fetch(f"{other.url}/a.png") == b"png"
        fake.faults = [(302, {"Location": f"{other.url}/b.png"}, b"")]
        with pytest.raises(LabelStudioError, match=r"a\.png must be served as an image; the answer is 302"):
            client.fetch(f"{fake.url}/a.png")
        fake.faults = [(307, {"Location": f"{other.url}/api/projects/"}, b"")]
        with pytest.raises(LabelStudioError, match="redirects to"):
            client.projects()
    assert [authorization for _, _, authorization in other.requests] == [""]
    assert [authorization for _, _, authorization in fake.requests] == [f"Token {LEGACY}"] * 2


@pytest.mark.parametrize(
    ("address", "fault", "message"),
    [
        ("/data/local-files/?d=a.png", (404, {}, b""), "the answer is 404; image_root must be what Label Studio"),
        ("/data/local-files/?d=a.png", (403, {}, b""), "403; start Label Studio with LABEL_STUDIO_LOCAL_FILES_"),
        ("{url}/a.png", HTML, "the answer is 200, text/html; see that image_prefix is right, and that"),
        ("http://127.0.0.1:9/a.png", None, "127.0.0.1:9/a.png must be served as an image; it cannot"),
    ],
)  # fmt: skip
def test_an_image_that_is_not_served_is_one_line(
    fake: FakeLabelStudio, connect: Callable[..., LabelStudio], address: str, fault: Reply | None, message: str
) -> None:
    fake.faults = [fault]
    with pytest.raises(LabelStudioError) as caught:
        connect().fetch(address.format(url=fake.url))
    assert message in str(caught.value)


def test_a_server_that_lists_something_else_is_named(
    fake: FakeLabelStudio, connect: Callable[..., LabelStudio]
) -> None:
    contents: list[Any] = [{"results": 3}, {"results": [3]}, {}]
    for content in contents:
        fake.faults = [json_reply(200, content)]
        with pytest.raises(LabelStudioError, match=r"must list results, as Label Studio 1\.23 does; it does not"):
            connect().projects()
    fake.faults = [json_reply(200, {"tasks": []})]
    with pytest.raises(LabelStudioError, match=r"must give total as a number, as Label Studio 1\.23 does; it does not"):
        connect().tasks(1)
    fake.faults = [json_reply(201, {"id": "new"})]
    with pytest.raises(LabelStudioError, match="must give id as a number"):
        a_project(connect())
