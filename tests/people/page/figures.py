"""The pictures of docs/labels_by_page.md: drawn castings on the page. `python -m tests.people.page.figures`"""

from __future__ import annotations

import io
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import Page as Tab
from playwright.sync_api import sync_playwright

from assl_lightning.base.run_files import TO_LABEL, round_directory
from assl_lightning.people.batch import AskedSample, LabelBatch, write_batch
from tests.people.page.pages import page_of
from tests.people.page.test_browser import CHROMIUM, SANDBOX, sign_in, wait_until_saved

FIGURES = Path(__file__).parents[3] / "docs" / "figures"
SIZE = 160


def casting(seed: int) -> tuple[bytes, str]:
    """A turned disc of metal, and what is wrong with it."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    rings = 4 * np.sin(radius * 1.3 + generator.uniform(0, 6)) + generator.normal(0, 2, (SIZE, SIZE))
    shine = 22 * np.cos(2 * (angle - generator.uniform(0, 3)))
    metal = np.where(radius < 66, 158 + shine + rings, 44)
    metal = np.where((radius > 62) & (radius < 66), 90, np.where(radius < 15, 50, metal))
    kind = ("ok", "dent", "scratch")[seed % 3]
    if kind == "dent":
        from_dent = np.hypot(x - generator.uniform(-35, 35), y - 38)
        metal -= 80 * np.exp(-((from_dent / 9) ** 2)) - 40 * np.exp(-(((from_dent - 12) / 4) ** 2))
    image = Image.fromarray(metal.clip(0, 255).astype(np.uint8))
    if kind == "scratch":
        start = generator.uniform(35, 65, 2)
        ImageDraw.Draw(image).line([*start, *(start + generator.uniform(35, 60, 2))], fill=235, width=2)
    file = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(0.6)).save(file, "PNG")
    return file.getvalue(), kind


def make_castings(run_dir: Path, count: int) -> dict[str, str]:
    """A batch of them; sample id → what it shows."""
    drawn = [casting(seed) for seed in range(count)]
    samples = tuple(
        AskedSample(
            f"line_3/2026-11-{1 + place % 28:02d}/{4000 + 37 * place}.png",
            place,
            f"{place:04d}.png",
            prediction=kind if place % 9 else "dent",  # some are wrong
            score=float(place % 9 == 0) + place / count,
        )
        for place, (_, kind) in enumerate(drawn)
    )
    directory = round_directory(run_dir, 1) / TO_LABEL
    directory.parent.mkdir(parents=True)
    batch = LabelBatch(directory, "9f140cb3", "castings", 1, ("ok", "dent", "scratch"), samples)
    write_batch(batch, [image for image, _ in drawn], drawn[0][0])
    return {sample.sample_id: kind for sample, (_, kind) in zip(samples, drawn, strict=True)}


def take(tab: Tab, path: Path) -> None:
    """A picture of what is shown, small enough for the documents."""
    tab.screenshot(path=path)
    Image.open(path).quantize(96).save(path, optimize=True)


def main() -> None:
    """Label a few and take the pictures."""
    forms: dict[str, tuple[Any, Literal["light", "dark"]]] = {
        "desktop": ({"viewport": {"width": 1200, "height": 760}}, "light"),
        "phone": ({"viewport": {"width": 390, "height": 780}, "is_mobile": True, "has_touch": True}, "dark"),
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SANDBOX)
        for name, (options, scheme) in forms.items():
            with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
                shows = make_castings(Path(directory), 40)
                page = stack.enter_context(page_of(Path(directory)))
                tab = browser.new_page(**options, color_scheme=scheme)
                tab.goto(page.address)
                sign_in(tab, "Ann")
                for sample in page.session.order("Ann")[:5]:
                    tab.keyboard.press(str(("ok", "dent", "scratch").index(shows[sample.sample_id]) + 1))
                wait_until_saved(tab)
                tab.wait_for_load_state("networkidle")
                take(tab, FIGURES / f"label_{name}.png")
                tab.click("#groups")
                tab.wait_for_selector("#grid .tile")
                tab.keyboard.press("a")
                chosen = [
                    place for place, one in enumerate(page.session.groups("Ann")[0]) if shows[one.sample_id] != "dent"
                ]
                for place in chosen:
                    if tab.locator("#grid .tile").nth(place).get_attribute("aria-pressed") == "true":
                        tab.locator("#grid .tile").nth(place).click()
                tab.locator("#overview").evaluate("box => box.scrollTo(0, 0)")
                tab.wait_for_load_state("networkidle")
                take(tab, FIGURES / f"grid_{name}.png")
                for sample in list(page.session.order("Ann"))[:6]:
                    for who, label in (("Ann", "ok"), ("Bo", "dent"), ("Cy", "dent")):
                        said = {"sample_id": sample.sample_id, "kind": "label", "label": label}
                        page.session.answer(who, said)
                tab.goto(page.address.replace("/?", "/settle?"))
                tab.wait_for_selector("#grid button")
                tab.keyboard.press("2")
                wait_until_saved(tab)
                tab.keyboard.press("ArrowLeft")
                tab.wait_for_load_state("networkidle")
                take(tab, FIGURES / f"settle_{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
