from __future__ import annotations

from html.parser import HTMLParser

import pytest

from assl_lightning.report.html import render_html
from assl_lightning.report.views import Fold, Illustration, Page, Paragraph, Picture, Section, Strip, Table, Tile

EVIL = """<script>alert(1)</script>"'&"""
PICTURE = Picture(b"\x89PNG", "image/png")


class Reader(HTMLParser):
    """All that a browser would be given: tags with their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def attributes(self, tag: str, name: str) -> list[str | None]:
        return [attributes.get(name) for found, attributes in self.tags if found == tag]


@pytest.fixture
def page() -> Page:
    blocks = (
        Paragraph(EVIL),
        Table(EVIL, (EVIL, "10"), ((EVIL, "50.0"), ("all", "1")), has_total=True),
        Table(EVIL, (EVIL,), ((EVIL,), ("b",)), is_text=True, pictures=(PICTURE, None)),
        Illustration(PICTURE, EVIL, EVIL),
        Fold(EVIL, (Strip(EVIL, (Tile(PICTURE, EVIL, (EVIL,)),)),)),
    )
    return Page(EVIL, (EVIL,), (Section(EVIL, blocks), Section("Below", (Paragraph("Words."),), level=3)))


def test_every_text_is_escaped_and_arrives_as_it_was(page: Page) -> None:
    html = render_html(page)
    reader = Reader(html)
    assert "<script" not in html
    assert "script" not in {tag for tag, _ in reader.tags}
    assert reader.texts.count(EVIL) == 16  # also as the title, a heading, a link and a caption
    assert reader.attributes("img", "alt") == [EVIL] * 3
    assert reader.attributes("div", "aria-label") == [EVIL] * 3
    known = {"src", "alt", "title", "class", "tabindex", "role", "aria-label", "id", "href", "name", "content", "lang"}
    known |= {"charset", "http-equiv", "scope"}
    assert {name for _, attributes in reader.tags for name in attributes} <= known


def test_no_line_of_a_text_begins_with_a_percent_sign() -> None:
    html = render_html(Page("P", ("95 % of it.",), (Section("S", (Paragraph("10 %, then 20 %."),)),)))
    assert [text for text in Reader(html).texts if "of it" in text or "then" in text] == [
        "95\u00a0% of it.",
        "10\u00a0%, then 20\u00a0%.",
    ]


def test_the_page_needs_nothing_from_elsewhere(page: Page) -> None:
    html = render_html(page)
    reader = Reader(html)
    assert not {"link", "script", "iframe", "object", "base", "form"} & {tag for tag, _ in reader.tags}
    assert all((source or "").startswith("data:image/") for source in reader.attributes("img", "src"))
    assert all((target or "").startswith("#") for target in reader.attributes("a", "href"))
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in reader.attributes("meta", "content")


def test_pictures_are_in_the_page(page: Page) -> None:
    assert Reader(render_html(page)).attributes("img", "src") == ["data:image/png;base64,iVBORw=="] * 3


def test_links_lead_to_the_sections_of_the_upper_level(page: Page) -> None:
    reader = Reader(render_html(page))
    assert reader.attributes("a", "href") == ["#section-1"]
    assert reader.attributes("h2", "id") == ["section-1"]
    assert reader.attributes("h3", "id") == ["section-2"]


def test_rows_and_columns_are_headed(page: Page) -> None:
    reader = Reader(render_html(page))
    assert reader.attributes("th", "scope") == ["col", "col", "row", "row", "col", "row", "row"]
    assert reader.attributes("tr", "class") == [None, None, "total", None, None, None]


def test_a_table_has_a_picture_for_each_row_or_none() -> None:
    with pytest.raises(ValueError, match="'Samples' has 1 pictures for 2 rows"):
        Table("Samples", ("sample",), (("a",), ("b",)), pictures=(PICTURE,))


def test_a_row_of_another_length_than_the_header_is_an_error() -> None:
    with pytest.raises(ValueError, match="a row of 'Accuracy' has 1 cells under 2 headings"):
        Table("Accuracy", ("method", "10"), (("assl",),))
