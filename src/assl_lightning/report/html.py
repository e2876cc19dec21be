"""The report as one HTML file that needs nothing else: no network, no script, no second file."""

from __future__ import annotations

from assl_lightning.base.templates import html_templates
from assl_lightning.report.views import Page


def render_html(page: Page) -> str:
    """Return `page` as HTML; the same page gives the same characters."""
    return html_templates("assl_lightning.report").get_template("page.html").render(page=page)
