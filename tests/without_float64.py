"""A stand-in for a device without float64 (mps), to run where there is none.

Inside `WithoutFloat64()` a tensor on "meta" is a real one: it computes on the CPU, and raises where a float64 or
complex128 tensor would come to be there, or where it meets a tensor of the CPU that has an axis and is not copied from.
Only what `to` or an operation puts there is real: `torch.tensor(…, device="meta")` is an empty tensor of torch's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

REFUSED = (torch.float64, torch.complex128)


class There(Tensor):
    """A tensor on the stand-in, which says that it lies on "meta" and keeps its numbers in `here`."""

    here: Tensor

    def __new__(cls, here: Tensor) -> There:
        if here.dtype in REFUSED:
            raise TypeError(f"this device has no {here.dtype}")
        here = here.resolve_conj().resolve_neg()  # lazy marks that the shell below would not carry
        with torch.inference_mode(
            False
        ):  # a view of a parameter shares the parameter's version, also in inference
            there = torch.Tensor._make_wrapper_subclass(
                cls,
                here.shape,
                strides=here.stride(),
                storage_offset=here.storage_offset(),
                dtype=here.dtype,
                device="meta",
            )
        there.here = here
        return there

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("the stand-in device exists only inside WithoutFloat64()")


class WithoutFloat64(TorchDispatchMode):
    """Runs every operation where its tensors lie."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        there = any(isinstance(tensor, There) for tensor in tensors)
        if devices := [leaf for leaf in leaves if isinstance(leaf, torch.device)]:  # a new tensor, or a move
            there = devices[0].type == "meta"
            args, kwargs = tree_map_only(torch.device, lambda _: torch.device("cpu"), (args, kwargs))
        elif (
            there
            and func is not torch.ops.aten.copy_.default
            and any(not isinstance(tensor, There) and tensor.ndim for tensor in tensors)
        ):
            raise RuntimeError(f"{func} meets tensors of two devices")
        args, kwargs = tree_map_only(There, lambda tensor: tensor.here, (args, kwargs))
        out = func(*args, **kwargs)
        return tree_map_only(Tensor, There, out) if there else out
