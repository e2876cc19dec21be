from __future__ import annotations

from pathlib import Path

import pytest

from assl_lightning.base.run_files import CONFIG, require_run


def refusal(path: str) -> str:
    with pytest.raises(ValueError, match=path) as caught:
        require_run(Path(path))
    return str(caught.value)


def test_what_is_no_run_is_answered_with_a_run_near_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/photos/seed_1", "runs/photos/seed_0", "runs/empty"):
        Path(name).mkdir(parents=True)
    for name in ("runs/photos/seed_1", "runs/photos/seed_0"):
        Path(name, CONFIG).touch()
        require_run(Path(name))
    expected = "must be the directory of a run"
    assert refusal("runs/photso/seed_0") == (
        f"runs/photso/seed_0 {expected}; there is no such directory (did you mean 'photos'?)"
    )
    assert refusal("runs/photos/seed_0/config.yaml").endswith(f"{expected}, but is a file; name the run_dir of one")
    end = f"{expected}, but has no config.yaml; name the run_dir of one"
    assert refusal("runs/empty") == f"runs/empty {end}"
    assert refusal("runs/photos") == f"runs/photos {end}, such as runs/photos/seed_0"
    assert refusal("runs") == f"runs {end}, such as runs/photos/seed_0"
