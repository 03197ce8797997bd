"""The one way in which weights that don't fit, or are no weights, are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from m2svid.errors import UserError

_LOOKED_AT = 1024  # numbers of a tensor
SHOWN = 8
"""Keys of one kind in a message; the error's attributes hold all."""


class MismatchError(UserError):
    """Weights whose tensors are not those of the model.

    Attributes:
        missing: keys that the model needs and the weights don't have.
        unexpected: keys of the weights that the model doesn't know.
        misshapen: key -> (shape in the weights, shape that the model needs).
    """

    def __init__(
        self,
        source: str,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] | None = None,
    ) -> None:
        self.missing, self.unexpected, self.misshapen = list(missing), list(unexpected), dict(misshapen or {})
        shapes = [f"{key} is {found}, not {wanted}" for key, (found, wanted) in self.misshapen.items()]
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "wrong shape": shapes}
        lists = "; ".join(f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in kinds.items() if keys)
        super().__init__(f"{source} does not fit the model: {lists}")


def check(
    source: str,
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    ignored: Callable[[str], bool] = lambda key: False,
) -> None:
    """Compare keys and shapes.

    Args:
        source: what to call the weights in the error.
        expected: key -> shape that the model needs.
        found: key -> shape in the weights.
        ignored: whether a key that the model doesn't know may be there nevertheless.

    Raises:
        MismatchError: anything is missing, unexpected or wrongly shaped.
    """
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected and not ignored(key)]
    misshapen = {
        key: (found[key], shape) for key, shape in expected.items() if key in found and found[key] != shape
    }
    if missing or unexpected or misshapen:
        raise MismatchError(source, missing, unexpected, misshapen)


def check_numbers(source: str, tensors: Mapping[str, Tensor]) -> None:
    """Look at the beginning of every weight and bias, which tells a diverged training from a good one.

    Args:
        source: what to call the weights in the error.
        tensors: all of them; others are not looked at.

    Raises:
        UserError: they are integers, infinite, or no numbers.
    """
    for key, tensor in tensors.items():
        if not key.endswith(("weight", "bias")):
            continue
        if not tensor.is_floating_point():
            raise UserError(
                f"{source} has integers where weights must be floats: {key} is of {tensor.dtype}; quantised "
                "weights are not read"
            )
        if not torch.isfinite(tensor.flatten()[:_LOOKED_AT].float()).all():
            raise UserError(
                f"{source} has weights that are no finite numbers, as after a training that diverged: {key}"
            )


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more
