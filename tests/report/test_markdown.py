from __future__ import annotations

from assl_lightning.report.markdown import escape, markdown_table, render_markdown
from assl_lightning.report.views import Fold, Illustration, Page, Paragraph, Picture, Section, Table

TABLE = Table("Accuracy", ("method", "10"), (("a|b", "50.0"),))
FIGURE = Illustration(Picture(b"", "image/png"), "alternative", "caption")


def test_a_table_has_numbers_flush_right() -> None:
    assert markdown_table(TABLE) == "| method | 10 |\n| --- | ---: |\n| a\\|b | 50.0 |"
    assert markdown_table(Table("", ("a", "b"), (("c", "d"),), is_text=True)).splitlines()[1] == "| --- | --- |"


def test_a_page_is_its_sentences_and_tables() -> None:
    sections = (
        Section("One", (Paragraph("Words."), FIGURE, TABLE, Fold("more", (TABLE,)))),
        Section("Only a figure", (FIGURE,)),
        Section("Setting", ()),
        Section("Two", (Paragraph("End."),), level=3),
    )
    text = render_markdown(Page("Title", ("Lead.",), sections))
    expected = [
        "# Title",
        "Lead.",
        "## One",
        "Words.",
        "**Accuracy**",
        markdown_table(TABLE),
        "## Setting",
        "### Two",
        "End.",
    ]
    assert text == "\n\n".join(expected) + "\n"


def test_markup_in_a_name_is_shown_as_it_is() -> None:
    assert escape("a\n*b*  `c`") == r"a \*b\* \`c\`"
    assert escape("<script> & <!-- &lt; x < y") == "&lt;script> & &lt;!-- &amp;lt; x < y"
    assert escape("[a](b) [1, 2]") == r"[a\](b) [1, 2]"
    assert escape("_x_ assl_div c_u=1") == r"\_x\_ assl_div c_u=1"
