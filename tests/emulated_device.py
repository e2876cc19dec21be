# mypy: disable-error-code="override, assignment, no-untyped-call, attr-defined, no-any-return"
"""An Apple GPU on a machine that has none: tensors that say `mps:0`, hold CPU values, and refuse float64.

What the real device refuses is an error here, too: float64, a tensor of the CPU among its own, `.numpy()`. It says
nothing of how the real device rounds, nor of operators that it lacks. The real one was never met.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from lightning.fabric.accelerators.mps import MPSAccelerator as FabricMPSAccelerator
from lightning.pytorch.accelerators.mps import MPSAccelerator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("mps", 0)
MAY_MIX_DEVICES = {"index", "index_put", "index_put_", "_index_put_impl_", "copy_", "_to_copy", "set_"}


class EmulatedTensor(torch.Tensor):
    """A tensor on the emulated device; `held` is where its values are."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> EmulatedTensor:
        with torch._C._DisableTorchDispatch():
            shape = torch.empty_strided(held.size(), held.stride(), dtype=held.dtype, device="meta")
            made: EmulatedTensor = torch.Tensor._make_subclass(cls, shape, False, device_for_backend_keys=DEVICE)
        made.held = held
        return made

    @property
    def device(self) -> torch.device:
        return DEVICE

    is_cpu = is_meta = False
    is_mps = True

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"EmulatedTensor({self.held!r})"

    def tolist(self) -> Any:
        return self.detach().held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert mps:0 device type tensor to numpy. Use Tensor.cpu() first")

    def __deepcopy__(self, memo: dict[int, Any]) -> EmulatedTensor:
        with torch.no_grad():
            copy: Any = self.detach().clone()
        copy.requires_grad_(self.requires_grad)
        if hasattr(self, "_is_param"):
            copy._is_param = True
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.detach().held.requires_grad_(self.requires_grad).__reduce_ex__(protocol)

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(operator, args, kwargs or {})


def dispatch(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run `operator` on the held values; its results are on the device where it put them."""
    if operator is torch.ops.prim.device.default:
        return DEVICE
    name = operator.overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    on_device = any(isinstance(tensor, EmulatedTensor) for tensor in tensors)
    strangers = [tensor for tensor in tensors if not isinstance(tensor, EmulatedTensor) and tensor.ndim]
    if on_device and strangers and name not in MAY_MIX_DEVICES:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found mps:0 and cpu (in {name})")
    if on_device and name == "index" and not isinstance(args[0], EmulatedTensor):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    asked = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
    held_args, held_kwargs = tree_map(_held, (args, kwargs))
    if asked is not None:
        held_kwargs = {**held_kwargs, "device": "cpu"}
    result = operator(*held_args, **held_kwargs)
    if name == "copy_" and not isinstance(args[0], EmulatedTensor):
        return args[0]
    stays = name != "_local_scalar_dense" and (
        on_device if asked is None else asked != "cpu"
    )  # "meta" is how C++ sees it
    if not stays:
        return result
    by_held = {id(_held(tensor)): tensor for tensor in tensors}  # in-place operators give back what they were given

    def on_the_device(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if leaf.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return by_held[id(leaf)] if id(leaf) in by_held else EmulatedTensor(leaf)

    return tree_map(on_the_device, result)


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, EmulatedTensor) else leaf


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(operator, args, kwargs or {})


@contextmanager
def emulated_apple_gpu() -> Iterator[torch.device]:
    """Within, torch and Lightning find an Apple GPU: the device is `mps:0`, and `accelerator=auto` takes it."""
    generator = torch.Generator()
    lifts, swaps = torch._C._only_lift_cpu_tensors(), torch.__future__.get_swap_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch:
        for accelerator in (MPSAccelerator, FabricMPSAccelerator):
            patch.setattr(accelerator, "is_available", staticmethod(lambda: True))
        patch.setattr(torch.mps, "get_rng_state", generator.get_state)
        patch.setattr(torch.mps, "set_rng_state", generator.set_state)
        patch.setattr(torch.mps, "manual_seed", generator.manual_seed)
        patch.setattr(torch.mps, "empty_cache", lambda: None)
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device="mps") makes it on the CPU and moves it
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            with _Mode():
                yield DEVICE
        finally:
            torch._C._set_only_lift_cpu_tensors(lifts)
            torch.__future__.set_swap_module_params_on_conversion(swaps)
