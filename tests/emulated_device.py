# mypy: disable-error-code="override, assignment, no-untyped-call, attr-defined, no-any-return"
"""A GPU on a machine that has none: tensors that say `mps:0` or `cuda:0`, and hold CPU values.

What the real device refuses is an error here, too: a tensor of the CPU among its own, `.numpy()`, and on Apple's
float64. What makes the host wait for it, what is copied to it and from it, and the launches of kernels are counted by
the part of the package that asks. On a CUDA device autocast casts as the real one does. It says nothing of how the real
device rounds, of its speed, nor of operators that it lacks. No real one was ever met.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.accelerators.mps import MPSAccelerator as FabricMPSAccelerator
from lightning.pytorch.accelerators.mps import MPSAccelerator
from torch.optim import optimizer as optimizers
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from assl_lightning.base import kernels

APPLE, CUDA = torch.device("mps", 0), torch.device("cuda", 0)
MAY_MIX_DEVICES = {"index", "index_put", "index_put_", "_index_put_impl_", "copy_", "_to_copy", "set_"}

# the host reads a number, or the size of a result
WAITS = {
    *("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "bincount", "histc"),
    *("_unique2", "unique_dim", "unique_consecutive", "repeat_interleave", "linalg_eig"),
}
# no kernel: a new view of the same memory, or memory that is not written
NO_LAUNCH = {
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "permute", "expand", "slice", "select"),
    *("unsqueeze", "squeeze", "split", "split_with_sizes", "unbind", "detach", "alias", "as_strided", "unfold"),
    *("diagonal", "lift", "lift_fresh", "set_", "resize_", "is_same_size", "is_pinned", "_local_scalar_dense"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_has_same_storage_numel"),
}
# operators of torch's CUDA backend that launch several kernels, as its source has them; all others launch one
SEVERAL = {"sort": 5, "topk": 4, "nonzero": 4, "_unique2": 8, "randperm": 4, "convolution_backward": 2}
# tensors of one launch of a `_foreach_…` or `_fused_…` operator, by the number of lists that it goes through
_TENSORS_A_LAUNCH = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}

# what autocast on CUDA computes in 16 bits, and in float32, as torch documents it: the operators that are used here
IN_16_BITS = {
    *("conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm"),
    *("addmm", "baddbmm", "addbmm", "mv", "addmv", "einsum", "prelu", "scaled_dot_product_attention"),
}
IN_FLOAT32 = {
    *("exp", "expm1", "log", "log2", "log10", "log1p", "pow", "__pow__", "reciprocal", "rsqrt", "softplus", "norm"),
    *("layer_norm", "group_norm", "cosine_similarity", "cross_entropy", "nll_loss", "kl_div", "mse_loss", "l1_loss"),
    *("logsumexp", "cdist", "dist", "interpolate", "normalize"),
}
WITH_RESULT_IN_FLOAT32 = {"softmax", "log_softmax", "sum", "prod", "cumsum", "cumprod"}
IN_THE_WIDEST = {"cat", "stack", "addcmul", "addcdiv", "scatter_add", "index_put", "dot"}

# the part of a step that an operator belongs to, by the innermost file that called it
PARTS = {
    "augment/weak.py": "views",
    "augment/strong.py": "views",
    "augment/fused.py": "views",
    "augment/normalise.py": "normalisation",
    "torch/optim/": "optimizer",
    "torch/autograd/graph.py": "backward",
    "learning/weight_ema.py": "weight average",
    "learning/non_finite.py": "non-finite",
    "learning/kept_buffers.py": "non-finite",
    "learning/fused_optimizers.py": "non-finite",
    "assl_lightning/method/": "score callback",
    "assl_lightning/networks/": "forward",
    "learning/datamodule.py": "batch",
    "assl_lightning/learning/": "loss and sums",
    "lightning/pytorch/loops/": "Lightning",
    "lightning/pytorch/core/": "Lightning",
}
_REST = "the rest"


@dataclass
class Counts:
    """Counts since the emulation began, or since `clear`."""

    launches: Counter[str] = field(default_factory=Counter)  # by part
    waits: Counter[str] = field(default_factory=Counter)  # by operator and place
    copies: Counter[str] = field(default_factory=Counter)  # likewise

    def clear(self) -> None:
        """Begin again from 0."""
        for counter in (self.launches, self.waits, self.copies):
            counter.clear()


@dataclass(frozen=True)
class Emulation:
    """The device that is emulated at present."""

    device: torch.device
    has_float64: bool
    counts: Counts = field(default_factory=Counts)
    recordings: list[Any] = field(default_factory=list)  # a `Recording` of `emulated_graph` while one is under way


_present: list[Emulation] = []
_sync_debug_mode = [False]  # the last one holds


class EmulatedTensor(torch.Tensor):
    """A tensor on the emulated device; `held` is where its values are."""

    held: torch.Tensor
    on: torch.device

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> EmulatedTensor:
        device = _present[-1].device
        with torch._C._DisableTorchDispatch():
            shape = torch.empty_strided(held.size(), held.stride(), dtype=held.dtype, device="meta")
            made: EmulatedTensor = torch.Tensor._make_subclass(cls, shape, False, device_for_backend_keys=device)
        made.held, made.on = held, device
        return made

    @property
    def device(self) -> torch.device:
        return self.on

    @property
    def is_cuda(self) -> bool:
        return self.on.type == "cuda"

    @property
    def is_mps(self) -> bool:
        return self.on.type == "mps"

    is_cpu = is_meta = False

    def get_device(self) -> int:
        return 0

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"EmulatedTensor({self.held!r})"

    def tolist(self) -> Any:
        _count_wait("tolist")
        return self.detach().held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"can't convert {self.on} device type tensor to numpy. Use Tensor.cpu() first")

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
    emulation = _present[-1]
    if operator is torch.ops.prim.device.default:
        return emulation.device if isinstance(args[0], EmulatedTensor) else args[0].device
    name = operator.overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    on_device = any(isinstance(tensor, EmulatedTensor) for tensor in tensors)
    strangers = [tensor for tensor in tensors if not isinstance(tensor, EmulatedTensor) and tensor.ndim]
    if on_device and strangers and name not in MAY_MIX_DEVICES:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found {emulation.device} and cpu (in {name})"
        )
    if on_device and name == "index" and not isinstance(args[0], EmulatedTensor):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    asked = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
    stays = name != "_local_scalar_dense" and (
        on_device if asked is None else asked != "cpu"
    )  # "meta" is how C++ sees it
    if on_device or stays:
        _count(name, args, kwargs, stays)
    held_args, held_kwargs = tree_map(_held, (args, kwargs))
    if asked is not None:
        held_kwargs = {**held_kwargs, "device": "cpu"}
    if emulation.recordings:
        result = emulation.recordings[-1].run(operator, held_args, held_kwargs)
    else:
        result = operator(*held_args, **held_kwargs)
    if name == "copy_" and not isinstance(args[0], EmulatedTensor):
        return args[0]
    if not stays:
        return result
    by_held = {id(_held(tensor)): tensor for tensor in tensors}  # in-place operators give back what they were given

    def on_the_device(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if leaf.dtype == torch.float64 and not emulation.has_float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return by_held[id(leaf)] if id(leaf) in by_held else EmulatedTensor(leaf)

    return tree_map(on_the_device, result)


def _count(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], stays: bool) -> None:
    """Count what `name` costs: a wait, a copy, launches."""
    if name in WAITS:
        _count_wait(name)
    if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        given = [index for index in args[1] if index is not None]
        if any(index.dtype in (torch.bool, torch.uint8) for index in given):
            _count_wait(f"{name} by a mask")
        if not all(isinstance(index, EmulatedTensor) for index in given):
            _count_copy(f"{name} by indices of the CPU", waits=True)
    source = args[1] if name == "copy_" else args[0] if name == "_to_copy" else None
    if source is not None:
        to_device = stays if name == "_to_copy" else isinstance(args[0], EmulatedTensor)
        if isinstance(source, EmulatedTensor) is not to_device:
            given = args[2:] or (kwargs.get("non_blocking", False),)
            is_pinned = to_device and source.data_ptr() in _pinned
            _count_copy("to the device" if to_device else "to the host", waits=not (given[0] and is_pinned))
            return
        is_cast = kwargs.get("dtype", source.dtype) != source.dtype or kwargs.get("memory_format") is not None
        if name == "_to_copy" and not is_cast:  # on a real device `to` finds nothing to do
            return
    launches = 0 if name in NO_LAUNCH else SEVERAL.get(name, 1)
    if name.startswith(("_foreach_", "_fused_", "_amp_foreach_")):
        lists = [value for value in args if isinstance(value, (list, tuple)) and value and torch.is_tensor(value[0])]
        launches = -(-len(args[0]) // _TENSORS_A_LAUNCH.get(len(lists), 30))
    _present[-1].counts.launches[_part()] += launches


_pinned: dict[int, torch.Tensor] = {}  # by their first address


def _count_wait(name: str) -> None:
    if _present[-1].recordings:
        raise RuntimeError(f"operation not permitted when stream is capturing: {name}, {_place()}")
    if _sync_debug_mode[-1]:
        warnings.warn("called a synchronizing CUDA operation", stacklevel=2)
    _present[-1].counts.waits[f"{name}, {_place()}"] += 1


def _count_copy(name: str, *, waits: bool) -> None:
    _present[-1].counts.copies[f"{name}, {_place()}"] += 1
    if waits:  # memory that is not pinned is copied to a buffer of the driver's first
        _present[-1].counts.waits[f"copy {name}, {_place()}"] += 1


def _files() -> Iterator[tuple[str, int]]:
    frame = sys._getframe(1)
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back


def _part() -> str:
    parts = (part for name, _ in _files() for end, part in PARTS.items() if end in name)
    return next(parts, _REST)


def _place() -> str:
    """Return the innermost line of this package, or of Lightning, that asked."""
    for name, line in _files():
        for start in ("/assl_lightning/", "/lightning/", "/torchmetrics/"):
            if start in name and "/tests/" not in name:
                return f"{name.rpartition(start)[2]}:{line}"
    return "a test"


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, EmulatedTensor) else leaf


class _Autocast(TorchFunctionMode):
    """Cast as autocast does on CUDA; torch's own passes over tensors that only say that they lie there."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not torch.is_autocast_enabled("cuda"):
            return function(*args, **kwargs)
        name, narrow = getattr(function, "__name__", ""), torch.get_autocast_dtype("cuda")
        given = [leaf for leaf in tree_leaves((args, kwargs)) if _can_be_cast(leaf)]
        has_wide = any(leaf.dtype == torch.float32 for leaf in given)
        if name in WITH_RESULT_IN_FLOAT32 and given and "dtype" not in kwargs:
            kwargs = {**kwargs, "dtype": torch.float32}
        dtype = narrow if name in IN_16_BITS else None
        if name in IN_FLOAT32 or (name in IN_THE_WIDEST and has_wide):
            dtype = torch.float32
        if dtype is not None:
            args, kwargs = tree_map(lambda leaf: leaf.to(dtype) if _can_be_cast(leaf) else leaf, (args, kwargs))
        return function(*args, **kwargs)


def _can_be_cast(leaf: Any) -> bool:
    return isinstance(leaf, EmulatedTensor) and leaf.is_floating_point() and leaf.dtype != torch.float64


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(operator, args, kwargs or {})


@contextmanager
def _emulated(emulation: Emulation) -> Iterator[None]:
    lifts, swaps = torch._C._only_lift_cpu_tensors(), torch.__future__.get_swap_module_params_on_conversion()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device="mps") makes it on the CPU and moves it
    torch.__future__.set_swap_module_params_on_conversion(True)
    _present.append(emulation)
    try:
        with _Mode(), _Autocast() if emulation.device.type == "cuda" else nullcontext():
            yield
    finally:
        _present.pop()
        torch._C._set_only_lift_cpu_tensors(lifts)
        torch.__future__.set_swap_module_params_on_conversion(swaps)


@contextmanager
def emulated_apple_gpu() -> Iterator[torch.device]:
    """Within, torch and Lightning find an Apple GPU: the device is `mps:0`, and `accelerator=auto` takes it."""
    generator = torch.Generator()
    with pytest.MonkeyPatch.context() as patch:
        for accelerator in (MPSAccelerator, FabricMPSAccelerator):
            patch.setattr(accelerator, "is_available", staticmethod(lambda: True))
        patch.setattr(torch.mps, "get_rng_state", generator.get_state)
        patch.setattr(torch.mps, "set_rng_state", generator.set_state)
        patch.setattr(torch.mps, "manual_seed", generator.manual_seed)
        patch.setattr(torch.mps, "empty_cache", lambda: None)
        with _emulated(Emulation(APPLE, has_float64=False)):
            yield APPLE


@contextmanager
def emulated_cuda_gpu(*, has_triton: bool = False) -> Iterator[Counts]:
    """Within, torch and Lightning find one CUDA device, `cuda:0`, and `accelerator=auto` takes it; gives its counts.

    With `has_triton` kernels run in Triton's interpreter, a launch each; call `interpreted_kernels` first.
    """
    generator, emulation = torch.Generator(), Emulation(CUDA, has_float64=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "_lazy_init": lambda: None,
            "set_device": lambda _: None,
            "get_device_capability": lambda *_: (7, 0),  # without TF32, of which Lightning would say a word
            "is_bf16_supported": lambda *_, **__: True,
            "get_device_name": lambda *_: "an emulated GPU",
            "empty_cache": lambda: None,
            "synchronize": lambda *_: None,
            "default_generators": (generator,),
            "manual_seed": lambda _: None,
            "manual_seed_all": lambda _: None,
            "get_rng_state": lambda *_: generator.get_state(),
            "set_rng_state": lambda state, *_: generator.set_state(state),
            "get_rng_state_all": lambda: [generator.get_state()],
            "set_rng_state_all": lambda states: generator.set_state(states[0]),
            "is_current_stream_capturing": lambda: bool(emulation.recordings),
            "set_sync_debug_mode": lambda mode: _sync_debug_mode.append(mode != "default" and mode != 0),
            "get_sync_debug_mode": lambda: int(_sync_debug_mode[-1]),
        }.items():
            patch.setattr(torch.cuda, name, value)
        stream = SimpleNamespace(is_capturing=lambda: bool(emulation.recordings))
        patch.setattr(torch.accelerator, "current_accelerator", lambda **_: CUDA)
        patch.setattr(torch.accelerator, "current_stream", lambda: stream)
        patch.setattr(kernels, "has_triton", lambda: has_triton)
        patch.setattr(kernels, "launch", partial(_interpret, kernels.launch))
        patch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None, raising=False)
        patch.setattr(torch.Tensor, "pin_memory", _pin)
        for module in (optimizers, _foreach_utils):
            if hasattr(module, "_foreach_supported_types"):
                kinds = [*module._foreach_supported_types, EmulatedTensor]
                patch.setattr(module, "_foreach_supported_types", kinds)
        with _emulated(emulation):
            yield emulation.counts
    _pinned.clear()


def _interpret(launch: Any, kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
    """Run a kernel on the held values."""
    for tensor in arguments:
        assert isinstance(tensor, EmulatedTensor) or not isinstance(tensor, torch.Tensor), "of the CPU"
    _present[-1].counts.launches[_part()] += 1
    with torch._C._DisableTorchDispatch(), torch.utils._python_dispatch._disable_current_modes():
        call = partial(launch, kernel, programs, *map(_held, arguments), **constants)
        if _present[-1].recordings:
            _present[-1].recordings[-1].note(call, [_held(one) for one in arguments if isinstance(one, EmulatedTensor)])
        call()


def _pin(tensor: torch.Tensor, *_: object) -> torch.Tensor:
    """Return the tensor as if it were pinned, and keep it, so that its address stays its own."""
    _pinned[tensor.data_ptr()] = tensor
    return tensor
