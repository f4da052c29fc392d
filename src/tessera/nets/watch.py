"""What a network does, operation by operation, as torch dispatches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Watch(TorchDispatchMode):
    """Tells of each operation that is run while it is entered.

    Over tensors on the ``meta`` device, which hold no numbers, that costs milliseconds.

    Args:
        saw: is given the operation, its positional arguments, and what came of it.
    """

    def __init__(self, saw: Callable[[Any, Any, Any], None]) -> None:
        super().__init__()
        self._saw = saw

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, in inference mode as what it is made of."""
        with self:
            out = function.decompose(*args, **(kwargs or {}))
        if out is not NotImplemented:
            return out
        out = function(*args, **(kwargs or {}))
        self._saw(function, args, out)
        return out
