"""The sentences and tables of a report as Markdown; figures, pictures and folds are left out."""

from __future__ import annotations

import re

from assl_lightning.report.views import Page, Paragraph, Section, Table


def render_markdown(page: Page) -> str:
    """Return the whole report; it ends with a newline."""
    blocks = [f"# {escape(page.title)}", *map(escape, page.lead)]
    for section in page.sections:
        blocks += _section(section)
    return "\n\n".join(blocks) + "\n"


def _section(section: Section) -> list[str]:
    blocks = []
    for block in section.blocks:
        if isinstance(block, Paragraph):
            blocks.append(escape(block.text))
        elif isinstance(block, Table):
            blocks += [f"**{escape(block.caption)}**", markdown_table(block)]
    is_chapter = not section.blocks
    return [f"{'#' * section.level} {escape(section.title)}", *blocks] if blocks or is_chapter else []


def markdown_table(table: Table) -> str:
    """Return a table, with numbers flush right."""
    rule = ["---"] + ["---" if table.is_text else "---:"] * (len(table.header) - 1)
    rows = [[escape(cell) for cell in row] for row in (table.header, *table.rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def escape(text: str) -> str:
    """Escape `text` so that Markdown shows it unchanged on one line, without markup, cell borders or HTML.

    >>> print(escape("<b>random|*best*</b>, c_u=0.5, p < 0.001"))
    &lt;b>random\\|\\*best\\*&lt;/b>, c_u=0.5, p < 0.001
    """
    text = re.sub(r"&(?=#|\w)", "&amp;", " ".join(text.split()))
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    return re.sub(r"([\\`*|]|](?=[(\[:])|(?<!\w)_|_(?!\w))", r"\\\1", text)
