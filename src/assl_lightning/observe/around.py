"""The base of `dense` and `binary`: a maker around another one, whose predictions it reads in another way."""

from __future__ import annotations

from torch import nn

from assl_lightning.method.observers import ViewObserver


class AroundViews(ViewObserver):
    """A maker that gets its predictions from `inner`, another maker."""

    def __init__(self, inner: ViewObserver) -> None:
        if not isinstance(inner, ViewObserver):
            raise TypeError(
                f"{type(self).__name__} goes around another maker, such as observe.{type(self).__name__}("
                f"observe.forward('model', weak=0)); got {inner!r}"
            )
        super().__init__(from_probabilities=inner.from_probabilities)
        self.inner = inner
        self.gives_features = inner.gives_features

    def start(self, module: nn.Module) -> None:
        """Start the inner maker."""
        super().start(module)
        self.inner.start(module)

    def begin_step(self) -> None:
        """Begin the inner maker's step."""
        self.inner.begin_step()

    def stop(self) -> None:
        """Stop the inner maker."""
        self.inner.stop()
