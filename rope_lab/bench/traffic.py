"""What PyTorch's operations move: bytes in and out of each, and how many of them are started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_EMPTY = {torch.ops.aten.empty, torch.ops.aten.empty_like, torch.ops.aten.empty_strided}
_OVERWRITE = {
    torch.ops.aten.copy_,
    torch.ops.aten.fill_,
    torch.ops.aten.zero_,
}  # without reading what was there


class Traffic(TorchDispatchMode):
    """Counts what happens inside `with Traffic() as traffic:`.

    A view moves nothing. Anything else reads each of its arguments and writes each of its results once, whether they
    are in memory or in a cache, which this cannot know.

    Attributes:
        bytes: read and written by all operations.
        fresh: bytes of results in memory that the operation asked for, that is, not of those written in place.
        calls: number of operations, without views.
        names: of these operations, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.fresh = 0
        self.names: list[str] = []

    @property
    def calls(self) -> int:
        return len(self.names)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.names.append(func.overloadpacket.__name__)
            moved = [] if func.overloadpacket in _EMPTY else tree_leaves((args, kwargs or {}, out))
            self.bytes += sum(map(_size, (x for x in moved if isinstance(x, Tensor))))
            if func.overloadpacket in _OVERWRITE:
                self.bytes -= _size(args[0])
            given = {_address(x) for x in tree_leaves((args, kwargs or {})) if isinstance(x, Tensor)}
            results = [x for x in tree_leaves(out) if isinstance(x, Tensor) and _address(x) not in given]
            self.fresh += sum(map(_size, results))
        return out


def _address(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _size(x: Tensor) -> int:
    """Bytes of a tensor; what is broadcast counts as it is stored."""
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())
