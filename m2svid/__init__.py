"""M2SVid: monocular to stereo video, with end-to-end inpainting and refinement.

The public names are imported when they are first used, so that the command line starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m2svid.attention import AttentionStrategy, Disoccluded, Factorized, Full
    from m2svid.batch import StereoBatch
    from m2svid.convert import convert
    from m2svid.data.shards import Clip, ShardWriter
    from m2svid.errors import UserError
    from m2svid.inference.refiner import Refiner
    from m2svid.metrics.stereo import StereoMetrics
    from m2svid.model.conditioning import Conditioning
    from m2svid.model.m2svid import M2SVid
    from m2svid.model.sampler import Sampler
    from m2svid.recipes import EndToEnd, LatentOnly, Recipe, ReplaceFrames, StandardDiffusion
    from m2svid.training.datamodule import StereoDataModule
    from m2svid.training.module import M2SVidModule
    from m2svid.warping.splat import warp
    from m2svid.weights.load import load, save

_NAMES = {
    "m2svid.attention": ("AttentionStrategy", "Disoccluded", "Factorized", "Full"),
    "m2svid.batch": ("StereoBatch",),
    "m2svid.convert": ("convert",),
    "m2svid.data.shards": ("Clip", "ShardWriter"),
    "m2svid.errors": ("UserError",),
    "m2svid.inference.refiner": ("Refiner",),
    "m2svid.metrics.stereo": ("StereoMetrics",),
    "m2svid.model.conditioning": ("Conditioning",),
    "m2svid.model.m2svid": ("M2SVid",),
    "m2svid.model.sampler": ("Sampler",),
    "m2svid.recipes": ("EndToEnd", "LatentOnly", "Recipe", "ReplaceFrames", "StandardDiffusion"),
    "m2svid.training.datamodule": ("StereoDataModule",),
    "m2svid.training.module": ("M2SVidModule",),
    "m2svid.warping.splat": ("warp",),
    "m2svid.weights.load": ("load", "save"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
