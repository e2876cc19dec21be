"""The calls of a named part of a module during a training step: what went in, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from assl_lightning.base.words import first_few, nearest
from assl_lightning.method.beside_training import is_beside_training


@dataclass(frozen=True)
class Call:
    """A call of a part; nothing in it has a gradient."""

    inputs: tuple[Any, ...]  # positional arguments
    output: Any
    keywords: dict[str, Any] = field(default_factory=dict)  # keyword arguments

    def first(self, name: str) -> Tensor:
        """Return the first argument, the batch (B, …) of the part `name`, by position or by keyword.

        Raises:
            TypeError: it is no tensor.
        """
        value = next(iter((*self.inputs, *self.keywords.values())), None)
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name!r} must be given a tensor (B, …) as its first argument; it was called with {_shape(value)}: "
                f"name a part within it that is given one"
            )
        return value

    def again(self, part: nn.Module, first: Tensor, rows: slice) -> Any:
        """Call the part with another first argument; of other tensors with a row for each sample it gets these rows."""
        number = len(self.first(""))

        def cut(value: Any) -> Any:
            is_by_row = isinstance(value, Tensor) and value.ndim > 0 and len(value) == number
            return value[rows] if is_by_row else value

        keywords = {key: cut(value) for key, value in self.keywords.items()}
        if self.inputs:
            return part(first, *map(cut, self.inputs[1:]), **keywords)
        return part(**{**keywords, next(iter(keywords)): first})


class ModuleCalls:
    """Notes the calls of a part of a module, from `begin` on, in the order of a training step.

    Args:
        name: dotted name of the part, as in `named_modules()`, such as "model" or "student.backbone".
        output: the key, position or attribute of the predictions, where the part returns several things.
        keep_inputs: keep what goes in, too.
    """

    def __init__(self, name: str, output: str | int | None = None, *, keep_inputs: bool = False) -> None:
        self.name = name
        self.output = output
        self.keep_inputs = keep_inputs
        self.module: nn.Module | None = None
        self.is_noting = False
        self._calls: list[Call] = []
        self._handle: RemovableHandle | None = None
        self._is_compiled = False

    def __getstate__(self) -> dict[str, Any]:
        """Leave the part out of copies: one of a network whose hook this is must neither note nor hold anything."""
        return {**vars(self), "module": None, "_calls": [], "_handle": None, "is_noting": False}

    def start(self, module: nn.Module) -> None:
        """Find the part, and watch it.

        Raises:
            ValueError: the module has no such part.
        """
        self.stop()
        self.module = part_of(module, self.name)
        self._is_compiled = any(_is_compiled(part) for part in module.modules())
        self._handle = self.module.register_forward_hook(self._note, with_kwargs=True)

    def begin(self) -> None:
        """Forget the calls of earlier steps, and note those that come."""
        self._calls = []
        self.is_noting = True

    def end(self) -> None:
        """Note no more calls until the next step begins: those of a validation are not meant."""
        self.is_noting = False

    def stop(self) -> None:
        """Leave the part alone, and drop what was noted."""
        if self._handle is not None:
            self._handle.remove()
        self._handle, self._calls, self.is_noting = None, [], False

    def call(self, number: int) -> Call:
        """Return the call of that number in this step, from 0 on, or from −1 back.

        Raises:
            ValueError: there were not so many; the message lists what there was.
        """
        if not -len(self._calls) <= number < len(self._calls):
            outputs = [f"{i}: {_shape(call.output)}" for i, call in enumerate(self._calls)]
            advice = "count its calls from 0, in the order of training_step, or name another part"
            if not self._calls:
                advice = (
                    "name a part that it calls as self.part(x): calls of self.part.forward(x), or of other methods, "
                    "cannot be seen"
                )
                if self._is_compiled:
                    advice += (
                        ", nor those of what torch.compile has kept from before: call torch.compiler.reset() first"
                    )
            raise ValueError(
                f"call {number} of {self.name!r} was asked for, but the training step called it "
                f"{len(self._calls)} times (outputs {first_few(outputs, 6) or 'none'}); {advice}"
            )
        return self._calls[number]

    def predictions(self, number: int) -> Tensor:
        """Return the output (B, …) of a call, or what `output` picks of it."""
        return picked(self.call(number).output, self.output, self.name)

    @property
    def was_called(self) -> bool:
        """True if this step has called the part so far."""
        return bool(self._calls)

    def _note(self, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        if is_beside_training():  # another callback's pass, which is no call of the training step
            return
        if self.is_noting and self.keep_inputs:
            self._calls.append(Call(_detached(inputs), _detached(output), _detached(keywords)))
        elif self.is_noting:
            self._calls.append(Call((), _detached(output)))


def part_of(module: nn.Module, name: str) -> nn.Module:
    """Return a part of a module by its dotted name; "" is the module itself.

    Parts within one that `torch.compile` returned have the names from before.
    """
    parts: dict[str, nn.Module] = dict(module.named_modules())
    if name not in parts:
        parts = {each.replace("_orig_mod.", ""): part for each, part in parts.items()}
    if name not in parts:
        raise ValueError(
            f"{type(module).__name__} has no part {name!r}{nearest(name, list(parts))}; its parts are: "
            f"{first_few([part for part in parts if part and '.' not in part], 12)}, and theirs, as in named_modules()"
        )
    return parts[name]


def _is_compiled(part: nn.Module) -> bool:
    return hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None


def picked(output: Any, key: str | int | None, name: str) -> Tensor:
    """Return the tensor of what a part returned, by key, position or attribute.

    Raises:
        TypeError: it is no tensor, and no `key` was given, or no tensor lies there.
    """
    value = output
    if key is not None:
        try:
            value = getattr(output, key) if isinstance(key, str) and hasattr(output, key) else output[key]
        except (KeyError, IndexError, TypeError) as error:
            raise TypeError(f"{name!r} returned {_shape(output)}, in which there is no output={key!r}") from error
    if not isinstance(value, Tensor):
        there = f"the keys {', '.join(map(str, output))}" if isinstance(output, Mapping) else _shape(output)
        raise TypeError(f"{name!r} returned no tensor, but {there}; say which is meant with output=…")
    return value


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, dict):  # also the named outputs of transformers, which keep their attributes
        copied = type(value)()
        for key, part in value.items():
            copied[key] = _detached(part)
        return copied
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return type(value)(_detached(part) for part in value)
    if isinstance(value, tuple):
        return type(value)(*map(_detached, value))
    return value


def _shape(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shape(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {', '.join(map(_shape, value))}"
    return type(value).__name__
