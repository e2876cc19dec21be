"""Torch's generators of random numbers, put back after a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

_WITHOUT_GENERATOR = ("cpu", "meta")  # the CPU's is always put back


@contextmanager
def generators_kept(devices: Iterable[torch.device], key: int | None = None) -> Iterator[None]:
    """Put torch's generators of the CPU and of `devices` back after the block; no other device's is touched.

    Args:
        devices: such as those of a module's parameters.
        key: seeds these generators at the beginning; None: they go on from where they are.
    """
    others = dict.fromkeys(device for device in devices if device.type not in _WITHOUT_GENERATOR)
    states = [torch.get_rng_state(), *(_state(device) for device in others)]
    try:
        if key is not None:
            torch.default_generator.manual_seed(key)  # torch.manual_seed would seed every other device too
            for device in others:
                _seed(device, key)
        yield
    finally:
        torch.set_rng_state(states[0])
        for device, state in zip(others, states[1:], strict=True):
            _set_state(device, state)


def _state(device: torch.device) -> torch.Tensor:
    module = torch.get_device_module(device)
    state: torch.Tensor = module.get_rng_state() if device.type == "mps" else module.get_rng_state(device)
    return state


def _set_state(device: torch.device, state: torch.Tensor) -> None:
    module = torch.get_device_module(device)
    if device.type == "mps":  # of which there is one
        module.set_rng_state(state)
    else:
        module.set_rng_state(state, device)


def _seed(device: torch.device, key: int) -> None:
    module = torch.get_device_module(device)
    if device.type == "mps":
        module.manual_seed(key)
    else:
        with module.device(device):
            module.manual_seed(key)
