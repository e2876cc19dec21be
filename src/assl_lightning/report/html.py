"""The report as one HTML file that needs nothing else: no network, no script, no second file."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from assl_lightning.report.views import Page


def render_html(page: Page) -> str:
    """`page` as HTML, every text of it escaped; the same page gives the same characters."""
    environment = Environment(
        loader=PackageLoader("assl_lightning.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(page=page)
