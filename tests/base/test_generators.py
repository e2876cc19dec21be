"""Generators that are put back after a block."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from assl_lightning.base.generators import generators_kept


def test_the_cpus_generator_is_seeded_and_put_back_also_after_an_error() -> None:
    def draw() -> None:
        with generators_kept([], key=7):
            drawn.append(torch.rand(3))
            raise ValueError("end")

    before, drawn = torch.get_rng_state(), []  # type: ignore[var-annotated]
    for _ in range(2):
        with pytest.raises(ValueError, match="end"):
            draw()
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_key_the_block_draws_what_follows() -> None:
    state = torch.get_rng_state()
    with generators_kept([]):
        inside = torch.rand(3)
    assert torch.equal(inside, torch.rand(3))
    torch.set_rng_state(state)


@pytest.mark.parametrize(("kind", "arguments"), [("cuda", ("cuda:1",)), ("mps", ())])
def test_a_devices_generator_is_put_back_and_no_other_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, kind: str, arguments: tuple[str, ...]
) -> None:
    seen: list[tuple[Any, ...]] = []

    class On:
        def __init__(self, device: torch.device) -> None:
            seen.append(("on", str(device)))

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    def get(*asked: torch.device) -> torch.Tensor:
        seen.append(("get", *map(str, asked)))
        return torch.tensor([5])

    def put(state: torch.Tensor, *asked: torch.device) -> None:
        seen.append(("set", int(state), *map(str, asked)))

    module = SimpleNamespace(
        get_rng_state=get, set_rng_state=put, manual_seed=lambda key: seen.append(("seed", key)), device=On
    )
    monkeypatch.setattr(torch, "get_device_module", lambda _: module)
    monkeypatch.setattr(torch, "manual_seed", lambda _: pytest.fail("every device would be seeded"))

    with generators_kept([torch.device(f"{kind}:1"), torch.device("cpu"), torch.device(f"{kind}:1")], key=3):
        pass
    on = [("on", *arguments)] if arguments else []
    assert seen == [("get", *arguments), *on, ("seed", 3), ("set", 5, *arguments)]
