"""Values as colours, for pictures to look at."""

from __future__ import annotations

from functools import cache
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor


def colorize(value: Tensor, low: float, high: float, colormap: Literal["turbo", "inferno"]) -> Tensor:
    """Values as colours: (..., 1, H, W) float -> (..., 3, H, W) in [0, 1].

    Args:
        value: what is drawn; below `low` looks like `low`, above `high` and NaN like `high`.
        low: value of the first colour.
        high: value of the last colour.
        colormap: "turbo" for disparity, "inferno" (perceptually uniform, dark = small) for errors.
    """
    index = ((value.float() - low) / max(high - low, 1e-9) * 255).round().nan_to_num(255).clamp(0, 255).long()
    return _colors(colormap).to(value.device)[index.squeeze(-3)].movedim(-1, -3)


@cache
def _colors(colormap: str) -> Tensor:
    code = {"turbo": cv2.COLORMAP_TURBO, "inferno": cv2.COLORMAP_INFERNO}[colormap]
    bgr = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], code)[:, 0]
    return torch.from_numpy(bgr[:, ::-1].copy()).float() / 255  # 256 3
