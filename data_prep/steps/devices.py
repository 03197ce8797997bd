"""Choice of the device for networks."""

from __future__ import annotations

import torch

from m2svid.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device of an option's value.

    Args:
        name: "auto", which is CUDA where there is one; "cpu" or "cuda".

    Raises:
        UserError: cuda is asked for and not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda can't be used: there is no CUDA device; give --device cpu or auto")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
