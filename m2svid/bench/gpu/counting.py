"""Operations and traffic of calculations, counted while they run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop_count

_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # which PyTorch does not count
_FORMULAS = {_CPU_ATTENTION: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)}


class Counter:
    """Count while the context lasts.

    Attributes:
        tflop: of matrix products, convolutions and attention; a multiplication with its addition is two.
        gb: read and written by all other operations, each on its own, as they run without a compiler.
    """

    def __init__(self) -> None:
        self._traffic, self._operations = _Traffic(), FlopCounterMode(display=False, custom_mapping=_FORMULAS)

    def __enter__(self) -> Counter:
        self._traffic.__enter__()
        self._operations.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._operations.__exit__(*error)
        self._traffic.__exit__(*error)

    @property
    def tflop(self) -> float:
        return self._operations.get_total_flops() / 1e12

    @property
    def gb(self) -> float:
        return self._traffic.bytes / 1e9


class _Traffic(TorchDispatchMode):
    bytes = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if _counts(function):
            touched = _tensors((*args, *(kwargs or {}).values(), result))
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in touched)
        return result


@cache
def _counts(function: Any) -> bool:
    """True for an operation that moves data: no matrix product, no view, no memory left unfilled."""
    infos = [value.alias_info for value in function._schema.returns]
    view = any(info is not None and not info.is_write for info in infos)
    packet = function._overloadpacket
    matrices = packet in flop_registry or packet in _FORMULAS
    return not (matrices or view or "empty" in function._schema.name)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
