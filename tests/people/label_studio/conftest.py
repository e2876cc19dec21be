"""A Label Studio in this process, and the token in the environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.people.label_studio.fake_server import LEGACY, FakeLabelStudio, serving


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLabelStudio]:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", LEGACY)
    with serving(FakeLabelStudio()) as server:
        yield server
