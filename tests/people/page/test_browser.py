"""The page as people use it: keys and fingers in a real Chromium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Error, Locator, expect, sync_playwright
from playwright.sync_api import Page as Tab

from assl_lightning.loop.class_history import ClassHistory, write_history
from assl_lightning.loop.records import write_config
from assl_lightning.people.page.session import LONGEST_SECONDS
from tests.people.batches import CLASSES, SAMPLE_IDS, apply_batch, make_batch
from tests.people.page.pages import TOKEN, Page, page_of
from tests.people.page.test_app import EVIL

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SANDBOX = [] if os.geteuid() else ["--no-sandbox"]  # Chromium has none to offer to root

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
]

MANY = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck", "café au lait")
TWENTY = [f"{number}.png" for number in range(20)]

Open = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=SANDBOX)
        yield one
        one.close()


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[Open]:
    """Open a page under a name, in a browser of its own; nothing may go wrong on it, nor come from elsewhere."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def open_as(page: Page, name: str | None = "Ann", **options: Any) -> Tab:
        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(10_000)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda message: wrong.append(message.text) if "ontent Security" in message.text else None)
        tab.on("request", lambda one: wrong.append(one.url) if f":{page.port}/" not in one.url else None)
        tab.goto(page.address)
        if name is not None:
            sign_in(tab, name)
        return tab

    yield open_as
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Serve a batch of so many images and these classes."""
    with ExitStack() as stack:

        def serve(sample_ids: Any = SAMPLE_IDS, classes: Any = CLASSES, end_when_done: bool = False) -> Page:
            make_batch(tmp_path, sample_ids=sample_ids, class_names=classes)
            return stack.enter_context(page_of(tmp_path, end_when_done=end_when_done))

        yield serve


def sign_in(tab: Tab, name: str) -> None:
    tab.fill("#annotator", name)
    tab.press("#annotator", "Enter")
    tab.wait_for_selector("#grid button")


def type_keys(tab: Tab, *keys: str) -> None:
    for key in keys:
        tab.keyboard.press(key)


def wait_until_saved(tab: Tab) -> None:
    expect(tab.locator("#saved")).to_have_text("all saved")


def labels(page: Page) -> list[str | None]:
    return [label for _, label in page.answers()]


def order(page: Page, name: str = "Ann") -> list[str]:
    return [sample.sample_id for sample in page.session.order(name)]


def current(tab: Tab) -> str:
    return tab.inner_text("#name")


# ---------------------------------------------------------------- keys


def test_six_keys_typed_fast_are_six_answers_in_order(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(TWENTY)
    tab = open_tab(page)
    tab.keyboard.type("123sx1")
    assert tab.inner_text("#count") == "6 of 20"
    wait_until_saved(tab)
    expected = ["ok", "dent", "scratch", "skip", "bad", "ok"]
    assert page.answers() == list(zip(order(page), expected, strict=False))
    assert current(tab) == order(page)[6]


def test_undo_takes_back_one_answer_after_the_other(served: Callable[..., Page], open_tab: Open) -> None:
    page = served()
    tab = open_tab(page)
    tab.keyboard.type("12")
    type_keys(tab, "ArrowLeft", "3")  # another mind on the second
    wait_until_saved(tab)
    assert labels(page) == ["ok", "dent", "scratch"]
    second = order(page)[1]
    for expected, count in (["ok", "dent"], "2 of 4"), (["ok"], "1 of 4"), ([], "0 of 4"), ([], "0 of 4"):
        tab.keyboard.type("u")
        assert tab.inner_text("#count") == count
        expect(tab.locator("#saved")).to_have_text("all saved" if expected else "")
        assert labels(page) == expected
        assert current(tab) == (second if expected else order(page)[0])
    assert len(page.ledger.history()) == 3, "what was taken back stays in the ledger"


def test_keys_move_between_images(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(TWENTY)
    tab = open_tab(page)
    places = order(page)
    tab.keyboard.type("1")
    columns = tab.evaluate("getComputedStyle(document.querySelector('#grid')).gridTemplateColumns.split(' ').length")
    for key, place in (
        *(("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0), ("ArrowLeft", 0), ("End", 19), ("ArrowRight", 19)),
        *(("n", 1), ("Home", 0), ("ArrowDown", columns), ("ArrowUp", 0)),
    ):
        tab.keyboard.press(key)
        assert current(tab) == places[place], key
        assert tab.locator("#grid [aria-current]").count() == 1
    type_keys(tab, "End", "2")
    assert current(tab) == places[1], "after the last comes the first without an answer"


def test_a_key_that_is_held_answers_once(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(TWENTY)
    tab = open_tab(page)
    for _ in range(5):
        tab.keyboard.down("1")
    tab.keyboard.up("1")
    type_keys(tab, "Control+s", "Control+1", "Alt+2")
    wait_until_saved(tab)
    assert labels(page) == ["ok"]


@pytest.mark.slow
def test_the_same_answer_again_adds_nothing(served: Callable[..., Page], open_tab: Open) -> None:
    page = served()
    tab = open_tab(page)
    type_keys(tab, "1", "ArrowLeft", "1", "2")
    wait_until_saved(tab)
    assert labels(page) == ["ok", "dent"]


def test_everything_works_from_the_keyboard_alone(served: Callable[..., Page], open_tab: Open) -> None:
    page = served()
    tab = open_tab(page)
    type_keys(tab, "?")
    assert tab.is_visible("#keys")
    tab.keyboard.type("12")
    assert tab.inner_text("#count") == "0 of 4", "a dialog is no place to label"
    type_keys(tab, "Enter")
    assert not tab.is_visible("#keys")
    tab.keyboard.type("1111")
    wait_until_saved(tab)
    for _ in range(30):
        tab.keyboard.press("Tab")
        seen = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert seen != "none", tab.evaluate("document.activeElement.outerHTML")
        if tab.evaluate("document.activeElement.id") == "finish":
            break
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#finished[open]")
    assert page.finished.is_set()


# ---------------------------------------------------------------- many classes


def test_letters_find_a_class_among_many(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(TWENTY, MANY)
    tab = open_tab(page)
    tab.keyboard.type("ship")  # s, h, i and p mean nothing by themselves here
    assert shown_classes(tab) == ["ship"]
    type_keys(tab, "Enter", "Enter", " ")
    tab.keyboard.type("CAFE AU")  # accents and case are nobody's business
    type_keys(tab, "Enter")
    tab.keyboard.type("a")
    assert shown_classes(tab)[:3] == ["airplane", "automobile", "café au lait"], "words that begin with it come first"
    type_keys(tab, "ArrowDown", "Enter")
    tab.keyboard.type("d")
    type_keys(tab, "2")  # the second of those that are shown
    tab.keyboard.type("xyz")
    assert tab.is_visible("#no-class")
    type_keys(tab, "Enter", "Escape", "3")  # of all
    wait_until_saved(tab)
    assert labels(page) == ["ship", "café au lait", "automobile", "dog", "bird"]
    assert tab.input_value("#search") == ""


@pytest.mark.slow
def test_commands_among_many_classes_are_shifted(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(TWENTY, MANY)
    tab = open_tab(page)
    type_keys(tab, "Shift+S", "Shift+X", "1", "Shift+U", "ArrowRight", "Shift+N", "2")
    wait_until_saved(tab)
    assert labels(page) == ["skip", "bad", "automobile"]
    assert page.answers()[-1][0] == order(page)[4]
    tab.keyboard.type("bi")
    type_keys(tab, "Backspace", "Backspace", "Backspace", "Home")
    assert current(tab) == order(page)[0]


@pytest.mark.slow
def test_digits_are_typed_where_classes_have_them_in_their_names(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(TWENTY, [str(number) for number in range(12)])
    tab = open_tab(page)
    for typed in ("1", "11", "0"):
        tab.keyboard.type(typed)
        tab.keyboard.press("Enter")
    wait_until_saved(tab)
    assert labels(page) == ["1", "11", "0"]


def shown_classes(tab: Tab) -> list[str]:
    return tab.locator("#classes button:visible span").all_inner_texts()


# ---------------------------------------------------------------- nothing is lost


def test_after_a_reload_everything_is_there(served: Callable[..., Page], open_tab: Open) -> None:
    page = served()
    tab = open_tab(page)
    tab.keyboard.type("1s")
    wait_until_saved(tab)
    assert TOKEN not in tab.url, "it would lie in the history"
    tab.reload()
    tab.wait_for_selector("#grid button")
    assert tab.inner_text("#who-name") == "Ann"
    assert tab.inner_text("#count") == "2 of 4"
    assert current(tab) == order(page)[2]
    assert tab.locator("#grid span").all_inner_texts()[:3] == ["ok", "skipped", ""]
    tab.keyboard.type("u2")
    expect(tab.locator("#count")).to_have_text("2 of 4")
    wait_until_saved(tab)
    assert labels(page) == ["ok", "dent"]


def test_what_could_not_be_saved_waits_and_is_saved_in_order(tmp_path: Path, open_tab: Open) -> None:
    make_batch(tmp_path, sample_ids=TWENTY)
    with page_of(tmp_path) as page:
        tab = open_tab(page)
        tab.keyboard.type("1")
        wait_until_saved(tab)
    tab.keyboard.type("23u1x")
    tab.wait_for_selector("#banner:visible")
    assert tab.inner_text("#saved") == "5 not saved"
    assert "Not saved: the command that serves this page does not answer" in tab.inner_text("#banner")
    assert tab.locator("#grid .waiting").count() == 3
    assert tab.is_disabled("#finish")
    with page_of(tmp_path, page.port) as again:
        tab.click("#retry")
        wait_until_saved(tab)
        assert not tab.is_visible("#banner")
        assert labels(again) == ["ok", "dent", "ok", "bad"]
        assert [name for name, _ in again.answers()] == order(again)[:4]
        assert len(again.ledger.history()) == 5


def test_what_could_not_be_saved_survives_the_window(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(TWENTY)
    tab = open_tab(page)
    tab.on("dialog", Dialog.accept)  # "leave this page?"
    tab.route("**/answers", lambda route: route.abort())
    tab.keyboard.type("123u")
    tab.wait_for_selector("#banner:visible")
    tab.unroute("**/answers")
    tab.reload()
    wait_until_saved(tab)
    assert labels(page) == ["ok", "dent"]
    assert tab.inner_text("#count") == "2 of 20"


def test_an_answer_whose_receipt_was_lost_is_there_once(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(TWENTY)
    tab = open_tab(page)
    lost: list[object] = []
    is_offline = True

    def lose_receipts(route: Any) -> None:
        if not lost:
            lost.append(route.fetch())
        if is_offline:  # until the banner was seen: the page asks again before long, and then hides it
            route.abort()
        else:
            route.continue_()

    tab.route("**/answers", lose_receipts)
    tab.keyboard.type("1")
    tab.wait_for_selector("#banner:visible")
    is_offline = False
    assert labels(page) == ["ok"]
    tab.keyboard.type("u")
    expect(tab.locator("#saved")).to_have_text("")
    assert labels(page) == []
    assert len(page.ledger.history()) == 1


@pytest.mark.slow
def test_an_earlier_starts_page_keeps_its_answers_for_the_next(tmp_path: Path, open_tab: Open) -> None:
    make_batch(tmp_path)
    with page_of(tmp_path) as page:
        tab = open_tab(page)
        tab.context.clear_cookies()  # as if the token were another by now
        tab.keyboard.type("12")
        tab.wait_for_selector("#banner:visible")
        assert "the token is missing or wrong; open the address that was printed" in tab.inner_text("#banner")
        tab.on("dialog", Dialog.accept)
        tab.goto(page.address)
        wait_until_saved(tab)
        assert labels(page) == ["ok", "dent"]


def test_a_batch_that_is_taken_over_takes_no_more(served: Callable[..., Page], open_tab: Open) -> None:
    page = served()
    tab = open_tab(page)
    tab.keyboard.type("1")
    wait_until_saved(tab)
    apply_batch(page.session.batch)
    tab.keyboard.type("2")
    tab.wait_for_selector("#banner:visible")
    assert "taken over meanwhile" in tab.inner_text("#banner")
    assert "1 of your last answers came too late" in tab.inner_text("#banner")
    tab.keyboard.type("3u")
    assert tab.is_disabled("#skip")
    assert labels(page) == ["ok"]
    other = open_tab(page, "Bo")
    other.wait_for_selector("#banner:visible")
    assert "taken over meanwhile" in other.inner_text("#banner")


def test_a_class_that_is_new_is_on_the_open_page_as_soon_as_it_looks(
    served: Callable[..., Page], open_tab: Open
) -> None:
    page = served()
    tab = open_tab(page)
    tab.keyboard.type("1")
    wait_until_saved(tab)
    history = ClassHistory.begin(page.session.batch.class_names).add(["crack"], 0)
    write_history(page.session.batch.run_dir, history)
    tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as when somebody comes back to it
    tab.wait_for_selector("#class-3")
    wait_until_saved(tab)  # said by the page's script, which also listens to the keys
    tab.keyboard.type("4")
    wait_until_saved(tab)
    assert labels(page) == ["ok", "crack"]


# ---------------------------------------------------------------- people and time


@pytest.mark.parametrize("view", ["", "grid"])
def test_a_class_that_is_missing_is_added_on_the_page_and_has_a_key(
    served: Callable[..., Page], open_tab: Open, view: str
) -> None:
    page = served()
    write_config(
        page.session.batch.run_dir, {"rounds": 1, "data": {"num_classes": 3, "source": {"class_names": list(CLASSES)}}}
    )
    tab = open_grid(open_tab, page) if view else open_tab(page)
    tab.click("#help")
    tab.click("#new-class")
    tab.keyboard.type("dent")
    tab.keyboard.press("Enter")
    expect(tab.locator("#class-problem")).to_have_text("'dent' is a class already; choose it, or another name.")
    tab.fill("#class-name", "<b>crack</b>")
    tab.click("#add-class button.strong")
    expect(tab.locator("#class-3")).to_have_text("4<b>crack</b>")
    tab.wait_for_selector("#grid .tile")
    tab.keyboard.type("a4" if view else "4")
    wait_until_saved(tab)
    assert set(labels(page)) == {"<b>crack</b>"}


def test_two_annotators_label_the_same_images_apart(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(TWENTY)
    ann, bo = open_tab(page), open_tab(page, "Bo")
    assert order(page) != order(page, "Bo")
    ann.keyboard.type("11")
    bo.keyboard.type("2")
    for tab in (ann, bo):
        wait_until_saved(tab)
    assert [tab.inner_text("#count") for tab in (ann, bo)] == ["2 of 20", "1 of 20"]
    given = {(answer.annotator, answer.sample_id, answer.label) for answer in page.ledger.active_answers()}
    expected = {("Ann", name, "ok") for name in order(page)[:2]} | {("Bo", order(page, "Bo")[0], "dent")}
    assert given == expected


@pytest.mark.slow
def test_a_tab_may_change_hands(served: Callable[..., Page], open_tab: Open) -> None:
    page = served()
    tab = open_tab(page, None)
    tab.keyboard.press("Escape")
    assert tab.is_visible("#ask-name"), "nobody labels without a name"
    tab.fill("#annotator", "  ")
    tab.keyboard.press("Enter")
    expect(tab.locator("#name-problem")).to_contain_text("annotator must be a name")
    sign_in(tab, " Ann ")
    tab.keyboard.type("1")
    tab.click("#who")
    assert tab.input_value("#annotator") == "Ann"
    tab.fill("#annotator", "Bo")
    tab.keyboard.press("Enter")
    expect(tab.locator("#count")).to_have_text("0 of 4")
    tab.keyboard.type("2")
    wait_until_saved(tab)
    assert [answer.annotator for answer in page.ledger.active_answers()] == ["Ann", "Bo"]


def test_seconds_stand_still_while_the_page_is_hidden(served: Callable[..., Page], open_tab: Open) -> None:
    page = served()
    tab = open_tab(page, None)
    tab.clock.install()
    tab.reload()
    sign_in(tab, "Ann")
    hide = "h => { Object.defineProperty(document, 'hidden', { value: h, configurable: true });" + (
        "document.dispatchEvent(new Event('visibilitychange')); }"
    )
    tab.clock.fast_forward(4000)
    tab.evaluate(hide, True)
    tab.clock.fast_forward(60_000)
    tab.evaluate(hide, False)
    tab.clock.fast_forward(3000)
    tab.keyboard.type("?")
    tab.clock.fast_forward(60_000)
    tab.keyboard.press("Escape")
    tab.keyboard.press("1")
    type_keys(tab, "ArrowRight")
    tab.clock.fast_forward(2000)
    type_keys(tab, "ArrowLeft")
    tab.clock.fast_forward(1000)
    type_keys(tab, "ArrowRight")
    tab.clock.fast_forward(2000)
    type_keys(tab, "2", "1")
    tab.clock.fast_forward(3_600_000)
    type_keys(tab, "3")
    tab.clock.run_for(100)
    wait_until_saved(tab)
    seconds = [answer.seconds for answer, _ in page.ledger.history()]
    assert seconds == pytest.approx([7, 4, 0, LONGEST_SECONDS], abs=0.9), page.ledger.history()


def test_finishing_ends_the_process(tmp_path: Path, open_tab: Open) -> None:
    batch = make_batch(tmp_path)
    command = [sys.executable, "-m", "assl_lightning.label", str(tmp_path), "--no-browser", "--port", "0"]
    with subprocess.Popen([*command, "--token", TOKEN], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            found = re.search(r":(\d+)/", process.stdout.readline())
            assert found
            with page_of(tmp_path) as here:
                tab = open_tab(Page(int(found[1]), here.session, here.finished))
                tab.keyboard.type("123")
                assert tab.is_disabled("#finish")
                tab.keyboard.type("x")
                tab.click("#finish:enabled")
                tab.wait_for_selector("#finished[open]")
                assert "Ann: 3 labelled, 0 skipped, 1 bad. All of it is saved." in tab.inner_text("#finished")
                assert len(here.answers()) == len(batch.samples)
            assert process.wait(20) == 0
            assert "answered: Ann 4 of 4; " in process.stdout.read()
        finally:
            process.kill()


@pytest.mark.slow
def test_who_finishes_decides_about_those_who_are_not_done(served: Callable[..., Page], open_tab: Open) -> None:
    page = served()
    open_tab(page, "Bo").keyboard.type("1")
    tab = open_tab(page)
    tab.keyboard.type("1111")
    for choice, is_finished in (("stay", False), ("end", True)):
        tab.click("#finish:enabled")
        tab.wait_for_selector("#others[open]")
        assert tab.inner_text("#others-text").startswith("Bo: not all images are answered.")
        tab.click(f"#others button[value={choice}]")
        assert page.finished.wait(5 if is_finished else 0) is is_finished


@pytest.mark.slow
def test_it_shows_its_end_when_it_ends_by_itself(served: Callable[..., Page], open_tab: Open) -> None:
    tab = open_tab(served(end_when_done=True))
    tab.keyboard.type("1111")
    tab.wait_for_selector("#finished[open]")


# ---------------------------------------------------------------- how it looks


def test_names_are_shown_and_never_run(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(EVIL, EVIL)
    tab = open_tab(page, "<img src=x onerror='window.pwned = 1'>")
    for place, label in enumerate(EVIL):
        assert current(tab) == order(page, "<img src=x onerror='window.pwned = 1'>")[place]
        tab.keyboard.press(str(EVIL.index(label) + 1))
    wait_until_saved(tab)
    assert tab.locator("#grid span").all_inner_texts() == list(EVIL)
    assert tab.inner_text("#who-name") == "<img src=x onerror='window.pwned = 1'>"
    assert tab.evaluate("window.pwned") is None
    assert tab.locator("#grid script, #classes img").count() == 0
    assert labels(page) == list(EVIL)


LONG = [f"{'long_directory_name/' * 12}{number}.png" for number in range(12)]


FEW = ("ok", "dent" * 30, "a class of many words " * 5)
FORTY = tuple(f"class {number}" for number in range(40))


def test_a_word_that_fits_a_phone_is_not_broken_in_the_name_of_a_class(
    served: Callable[..., Page], open_tab: Open
) -> None:
    tab = open_tab(served(("a.png",), ("trousers", "bag", "boot", "x" * 70)), viewport={"width": 390, "height": 800})
    word, short, *_, long = (box_of(name)["height"] for name in tab.locator("#classes span").all())
    assert word == short
    assert long > 2 * short, "one that does not fit is"


@pytest.mark.parametrize(
    ("width", "classes"),
    [
        (390, FEW),
        *(pytest.param(width, FEW, marks=pytest.mark.slow) for width in (320, 768, 1280, 2560)),
        *(pytest.param(width, FORTY, marks=pytest.mark.slow) for width in (320, 390, 768, 1280, 2560)),
    ],
)
def test_nothing_is_cut_off_at_any_width(
    served: Callable[..., Page], open_tab: Open, width: int, classes: tuple[str, ...]
) -> None:
    page = served(LONG, classes)
    tab = open_tab(page, "Maximiliane Featherstonehaugh-Cholmondeley", viewport={"width": width, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("#who", "#finish", "#skip", "#bad", "#undo", "#zoom", "#classes button:first-child"):
        box = box_of(tab.locator(name))
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width + 0.5, name
        assert box["height"] >= 30, name
    tab.mouse.wheel(0, 300)
    tab.wait_for_timeout(50)
    assert box_of(tab.locator("header"))["y"] == 0, "progress stays in sight"
    assert box_of(tab.locator("#picture img"))["width"] >= 150


def box_of(element: Locator) -> Any:
    box = element.bounding_box()
    assert box is not None
    return box


def test_a_finger_is_enough(served: Callable[..., Page], open_tab: Open) -> None:
    page = served()
    tab = open_tab(page, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    tab.tap("#class-1")
    tab.tap("#skip")
    tab.tap("#bad")
    tab.tap("#undo")
    tab.tap("#class-0")
    tab.locator("#grid button").nth(3).tap()
    tab.tap("#class-2")
    wait_until_saved(tab)
    assert labels(page) == ["dent", "skip", "ok", "scratch"]


@pytest.mark.slow
def test_small_images_are_large_and_sharp_and_any_can_be_zoomed(served: Callable[..., Page], open_tab: Open) -> None:
    tab = open_tab(served())
    image = tab.locator("#picture img")
    assert box_of(image)["height"] > 300, "of 8 pixels"
    assert image.evaluate("one => getComputedStyle(one).imageRendering") == "pixelated"
    before = image.evaluate("one => one.clientWidth")
    tab.keyboard.press("z")
    assert image.evaluate("one => one.clientWidth") > before
    assert tab.get_attribute("#zoom", "aria-pressed") == "true"
    left = tab.evaluate("document.querySelector('#viewport').scrollLeft")
    tab.keyboard.press("Shift+ArrowRight")
    assert tab.evaluate("document.querySelector('#viewport').scrollLeft") > left
    tab.keyboard.press("ArrowRight")
    assert tab.get_attribute("#zoom", "aria-pressed") == "false", "the next image is whole"
    image.click()
    assert tab.get_attribute("#zoom", "aria-pressed") == "true"
    tab.keyboard.press("Escape")
    assert tab.get_attribute("#zoom", "aria-pressed") == "false"


@pytest.mark.slow
def test_five_hundred_images_load_as_they_come_into_sight(served: Callable[..., Page], open_tab: Open) -> None:
    page = served([f"{number}.png" for number in range(500)])
    tab = open_tab(page, None)
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url) if "/images/" in request.url else None)
    sign_in(tab, "Ann")
    tab.wait_for_load_state("networkidle")
    assert 10 < len(asked) < 250
    tab.keyboard.press("End")
    assert current(tab) == order(page)[-1]
    last = box_of(tab.locator("#grid button").last)
    assert last["y"] + last["height"] <= 720, "the overview follows"


def test_text_stands_out_in_both_schemes(served: Callable[..., Page], open_tab: Open) -> None:
    tab = open_tab(served(), None)
    pairs = [("--ink", "--paper"), ("--ink", "--card"), ("--soft", "--card"), ("--soft", "--paper")]
    pairs += [("--good", "--card"), ("--skip", "--card"), ("--bad", "--card"), ("--bad", "--warning")]
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        tab.emulate_media(color_scheme=scheme)
        for text, ground in [*pairs, ("--on-accent", "--accent")]:
            assert contrast(tab, text, ground) >= 4.5, f"{text} on {ground}, {scheme}: WCAG 2.2, 1.4.3"
        assert (luminance(tab, "--paper") < 0.1) == (scheme == "dark")


def contrast(tab: Tab, text: str, ground: str) -> float:
    low, high = sorted((luminance(tab, text), luminance(tab, ground)))
    return (high + 0.05) / (low + 0.05)


def luminance(tab: Tab, name: str) -> float:
    """WCAG's relative luminance of a colour of the style sheet."""
    value = tab.evaluate("name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()", name)
    digits = value[1:] if len(value) == 7 else "".join(2 * digit for digit in value[1:])
    channels = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.slow
def test_who_has_no_token_sees_why(served: Callable[..., Page], browser: Browser) -> None:
    page = served()
    tab = browser.new_page()
    try:
        response = tab.goto(f"http://127.0.0.1:{page.port}/")
        assert response is not None
        assert response.status == 403
        assert "open the address that was printed" in tab.inner_text("body")
    except Error as error:
        pytest.fail(str(error))
    finally:
        tab.close()


# ---------------------------------------------------------------- where people differ

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def differ(page: Page, *sample_ids: str) -> None:
    """Ann and Bo answer everything, and say different things of these."""
    for who, label in (("Ann", "ok"), ("Bo", "dent")):
        for sample in page.session.batch.samples:
            said = label if sample.sample_id in sample_ids else "scratch"
            page.session.answer(who, {"sample_id": sample.sample_id, "kind": "label", "label": said})


def open_settling(open_tab: Open, page: Page, **options: Any) -> Tab:
    tab = open_tab(page, None, **options)
    tab.goto(page.address.replace("/?", "/settle?"))
    sign_in(tab, "Di")
    return tab


def votes(tab: Tab) -> list[list[str]]:
    return [one.split() for one in tab.locator("#votes li").all_inner_texts()]


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_differences_are_settled_by_keys_and_taken_back(
    served: Callable[..., Page], open_tab: Open, options: dict[str, Any]
) -> None:
    page = served(TWENTY)
    differ(page, "3.png", "7.png", "11.png")
    tab = open_settling(open_tab, page, **options)
    assert tab.inner_text("#count") == "0 of 3"
    assert tab.get_attribute("#progress", "max") == "3"
    assert votes(tab) == [["ok", "Ann"], ["dent", "Bo"]]
    assert tab.inner_text("#decided") == "not settled yet"
    first, second, third = [one for one in order(page, "Di") if one in ("3.png", "7.png", "11.png")]
    assert current(tab) == first
    tab.keyboard.type("2s")
    wait_until_saved(tab)
    assert current(tab) == third
    assert tab.is_disabled("#finish")
    assert page.session.unsettled() == [third]
    type_keys(tab, "ArrowLeft")
    assert (current(tab), tab.inner_text("#decided")) == (second, "skipped by Di")
    tab.keyboard.type("u")
    expect(tab.locator("#count")).to_have_text("1 of 3")
    wait_until_saved(tab)
    assert set(page.session.unsettled()) == {second, third}
    tab.keyboard.type("x3")
    wait_until_saved(tab)
    decided = {one.sample_id: (one.annotator, one.label or one.kind) for one in page.session.decisions()}
    assert decided == {first: ("Di", "dent"), second: ("Di", "bad"), third: ("Di", "scratch")}
    sticks_out = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert tab.evaluate(sticks_out) == 0
    tab.click("#finish:enabled")
    tab.wait_for_selector("#finished[open]")
    assert "Di: 2 settled by a class, 0 skipped, 1 bad. All of it is saved." in tab.inner_text("#finished")
    assert page.finished.wait(5)


def test_a_decision_of_another_is_shown_and_may_be_replaced_but_not_taken_back(
    served: Callable[..., Page], open_tab: Open
) -> None:
    page = served()
    differ(page, "d.png")
    page.session.answer("Eve", {"sample_id": "d.png", "kind": "label", "label": "ok", "decides": True})
    tab = open_settling(open_tab, page)
    assert tab.inner_text("#decided") == "ok by Eve"
    assert tab.is_disabled("#undo")
    tab.keyboard.type("2")
    wait_until_saved(tab)
    assert tab.inner_text("#decided") == "dent by Di"
    tab.keyboard.type("u")
    expect(tab.locator("#decided")).to_have_text("ok by Eve")


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_one_click_on_an_answer_decides_so(
    served: Callable[..., Page], open_tab: Open, options: dict[str, Any]
) -> None:
    page = served()
    differ(page, "d.png")
    page.session.answer("Eve", {"sample_id": "d.png", "kind": "bad"})
    tab = open_settling(open_tab, page, **options)
    tab.click("#votes button:has-text('Bo')")
    wait_until_saved(tab)
    assert tab.inner_text("#decided") == "dent by Di"
    tab.click("#votes button:has-text('Eve')")
    expect(tab.locator("#decided")).to_have_text("bad image by Di")
    wait_until_saved(tab)
    decisions = [(one.kind, one.label, one.annotator, one.decides) for one in page.session.decisions()]
    assert decisions == [("label", "dent", "Di", True), ("bad", None, "Di", True)]


def test_who_has_answered_everything_is_led_to_the_differences(served: Callable[..., Page], open_tab: Open) -> None:
    page = served()
    differ(page, "d.png")
    tab = open_tab(page, "Cy")
    tab.keyboard.type("333")
    assert tab.is_hidden("#settle")
    tab.keyboard.type("3")
    tab.click("#settle")
    tab.wait_for_selector("body[data-view=settle] #grid button")
    assert tab.inner_text("#count") == "0 of 1"
    assert sorted(votes(tab)) == [["dent", "Bo"], ["ok", "Ann"], ["scratch", "Cy"]]


def test_where_nobody_differs_it_says_so(served: Callable[..., Page], open_tab: Open) -> None:
    page = served()
    tab = open_tab(page, None)
    tab.goto(page.address.replace("/?", "/settle?"))
    tab.fill("#annotator", "Di")
    tab.press("#annotator", "Enter")
    expect(tab.locator("#name-problem")).to_have_text("People differ about no image now; there is nothing to settle.")


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_a_refusal_is_laid_out_and_its_style_is_let_in(
    served: Callable[..., Page], browser: Browser, options: dict[str, Any]
) -> None:
    page = served()
    context = browser.new_context(**options)
    tab = context.new_page()
    blocked: list[str] = []
    tab.on("console", lambda message: blocked.append(message.text) if "ontent Security" in message.text else None)
    tab.goto(page.address.replace(TOKEN, "wrong"))
    assert tab.inner_text("h1") == "This address does not open the page"
    assert tab.evaluate("getComputedStyle(document.querySelector('.problem')).borderLeftWidth") == "4px"
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    context.close()
    assert blocked == []


# ---------------------------------------------------------------- the grid


ON_TOP = """element => {
  const box = element.getBoundingClientRect();
  return element.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2));
}"""


def open_grid(open_tab: Open, page: Page, **options: Any) -> Tab:
    tab = open_tab(page, **options)
    tab.click("#groups")
    tab.wait_for_selector("body[data-view=grid] #grid .tile")
    return tab


def in_groups(page: Page) -> list[list[str]]:
    return [[sample.sample_id for sample in group] for group in page.session.groups("Ann")]


def wait_until_taken_back(tab: Tab) -> None:
    expect(tab.locator("#saved")).to_have_attribute("data-state", "saved")


def given(page: Page) -> dict[str, str | None]:
    return dict(page.answers())


def test_the_selected_images_get_one_class_at_once_and_it_is_taken_back_at_once(
    served: Callable[..., Page], open_tab: Open
) -> None:
    page = served(TWENTY)
    tab = open_grid(open_tab, page)
    first, second, _ = in_groups(page)
    assert tab.locator("#grid .group h2").all_inner_texts() == ["Group 1", "Group 2", "Group 3"]
    tab.keyboard.type("1")
    assert tab.inner_text("#count") == "0 of 20", "nothing is selected at first"
    assert tab.get_attribute("#selected", "data-missing") == "yes"
    tab.keyboard.type("a")
    tab.locator("#grid .tile").nth(2).click()
    assert tab.inner_text("#selected") == "6 selected: choose their class"
    tab.keyboard.type("2")
    wait_until_saved(tab)
    assert given(page) == {name: "dent" for name in first if name != first[2]}
    assert {answer.source for answer in page.ledger.active_answers()} == {"page, grid"}
    assert tab.locator("#grid .group span").all_inner_texts()[0] == "7 images, 1 left"
    tab.keyboard.type("a3")  # what is left of the group
    tab.keyboard.type("u")
    expect(tab.locator("#count")).to_have_text("6 of 20")
    assert tab.inner_text("#selected").startswith("1 selected")
    tab.keyboard.type("u")
    expect(tab.locator("#count")).to_have_text("0 of 20")
    wait_until_taken_back(tab)
    assert given(page) == {}
    assert tab.inner_text("#selected").startswith("6 selected"), "they may be given another class"
    tab.keyboard.type("1")
    wait_until_saved(tab)
    tab.reload()
    tab.wait_for_selector("#grid .tile")
    assert tab.inner_text("#count") == "6 of 20"
    tab.click("#single")
    tab.wait_for_selector("body[data-view=label] #grid .tile")
    assert tab.inner_text("#count") == "6 of 20"
    tab.keyboard.type("u")  # answers of the grid can be taken back here
    wait_until_saved(tab)
    assert len(given(page)) == 5
    assert "ok" not in tab.inner_text("#facts")
    assert second


def test_the_grid_works_from_the_keyboard_alone(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(TWENTY)
    tab = open_grid(open_tab, page)
    first, second, third = in_groups(page)
    type_keys(tab, " ", "ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight")
    assert tab.inner_text("#selected").startswith("4 selected")
    type_keys(tab, "ArrowLeft", " ", "3")
    wait_until_saved(tab)
    assert given(page) == dict.fromkeys([first[0], first[1], first[3]], "scratch")
    type_keys(tab, "Home", "ArrowDown")
    while current(tab) in first:
        type_keys(tab, "ArrowDown")
    assert current(tab) == second[0], "the image below, in the next group"
    type_keys(tab, "ArrowUp")
    assert current(tab) in first
    type_keys(tab, "End", "a", "Escape")
    assert tab.inner_text("#selected").startswith("Select images")
    type_keys(tab, "a", "x")
    wait_until_saved(tab)
    assert {name for name, said in given(page).items() if said == "bad"} == set(third)


def test_a_finger_marks_many_images_on_a_phone(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(TWENTY)
    tab = open_grid(open_tab, page, **PHONE)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    first, second, _ = in_groups(page)
    tab.locator("#grid .group button").first.tap()
    tab.locator("#grid .tile").nth(0).tap()
    tab.tap("#help")
    assert tab.locator("#labelled").evaluate(ON_TOP), "a dialog opens at its top"
    tab.tap("#keys button.strong")
    for name in ("#class-0", "#class-2", "#skip", "#undo"):
        box = box_of(tab.locator(name))
        assert box["y"] + box["height"] <= 844, f"{name} is in sight"
        assert box["height"] >= 30
        assert tab.locator(name).evaluate(ON_TOP), f"{name} is not covered or cut off"
    tab.tap("#class-1")
    tab.locator("#grid .tile").nth(0).tap()
    tab.tap("#skip")
    tab.locator("#grid .group button").nth(1).tap()
    tab.tap("#class-0")
    wait_until_saved(tab)
    expected = dict.fromkeys(first[1:], "dent") | {first[0]: "skip"} | dict.fromkeys(second, "ok")
    assert given(page) == expected


def test_many_classes_are_found_by_letters_in_the_grid(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(TWENTY, MANY)
    tab = open_grid(open_tab, page)
    groups = in_groups(page)
    type_keys(tab, "Shift+A", "b", "i", "Enter")
    wait_until_saved(tab)
    assert given(page) == dict.fromkeys(groups[0], "bird")
    type_keys(tab, " ", "c", "a", "f", "Enter")
    wait_until_saved(tab)
    assert given(page)[groups[1][0]] == "café au lait"
    type_keys(tab, "Shift+U", "Shift+U")
    wait_until_taken_back(tab)
    assert given(page) == {}


def test_what_could_not_be_saved_in_the_grid_waits_with_the_rest(served: Callable[..., Page], open_tab: Open) -> None:
    page = served(TWENTY)
    tab = open_grid(open_tab, page)
    tab.route("**/answers", lambda route: route.abort())
    tab.keyboard.type("a1")
    expect(tab.locator("#saved")).to_have_text("7 not saved")
    tab.keyboard.type("u")
    expect(tab.locator("#count")).to_have_text("0 of 20")
    tab.keyboard.type("2")
    tab.unroute("**/answers")
    tab.click("#retry")
    wait_until_saved(tab)
    assert given(page) == dict.fromkeys(in_groups(page)[0], "dent")
