"""Names of metrics, and which of two values is better."""

from __future__ import annotations

import math

_HIGHER = ("psnr", "ssim", "ms_ssim", "siou", "clip_consistency", "disparity_sgbm_matched")
_LOWER = ("lpips", "ematch", "disparity_sgbm", "color_difference", "warping_error", "flicker", "fvd")
_BEST_AT_ONE = ("seam", "warping_error_ratio", "flicker_ratio")
LABELS = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS",
    "siou": "SIoU",
    "fvd": "FVD",
}


def compared(metric: str) -> bool:
    """It has a better and a worse: it isn't the truth's own value, or a fact of the clip."""
    return "_truth" not in metric and metric.startswith(_HIGHER + _LOWER + _BEST_AT_ONE)


def score(metric: str, value: float | None) -> float:
    """The value so that higher is better: itself, negated, or minus the distance of its logarithm from 0."""
    if value is None:
        return math.nan
    if metric.startswith(_BEST_AT_ONE):
        return -abs(math.log(value)) if value > 0 else -math.inf
    return value if metric.startswith(_HIGHER) else -value


def heading(metric: str) -> str:
    """Its name with an arrow to the better values: "MS-SSIM inside ↑"."""
    base = max(
        (name for name in LABELS if metric == name or metric.startswith(f"{name}_")), key=len, default=""
    )
    label = LABELS[base] + metric[len(base) :] if base else metric
    if not compared(metric):
        return label.replace("_", " ")
    best_at_one = metric.startswith(_BEST_AT_ONE)
    return f"{label.replace('_', ' ')} {'→1' if best_at_one else '↑' if metric.startswith(_HIGHER) else '↓'}"


def digits(metric: str) -> int:
    """Decimal places in tables, the paper's where it has the metric."""
    return 1 if metric.startswith(("psnr", "ematch", "fvd")) else 3
