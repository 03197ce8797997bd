"""M2SVid: monocular to stereo video, with end-to-end inpainting and refinement.

The public names are imported when they are first used, so that the command line starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m2svid.attention import AttentionStrategy, Disoccluded, Factorized, Full
    from m2svid.batch import StereoBatch
    from m2svid.data.datamodule import StereoDataModule
    from m2svid.data.shards import Clip, ShardWriter
    from m2svid.errors import UserError
    from m2svid.metrics.stereo import StereoMetrics
    from m2svid.model.conditioning import Conditioning
    from m2svid.model.m2svid import M2SVid
    from m2svid.model.sampler import Sampler
    from m2svid.recipes import EndToEnd, LatentOnly, Recipe, ReplaceFrames, StandardDiffusion
    from m2svid.training.module import M2SVidModule
    from m2svid.warping.splat import warp
    from m2svid.weights.load import load, save

_HOME = {
    "AttentionStrategy": "m2svid.attention",
    "Clip": "m2svid.data.shards",
    "Conditioning": "m2svid.model.conditioning",
    "Disoccluded": "m2svid.attention",
    "EndToEnd": "m2svid.recipes",
    "Factorized": "m2svid.attention",
    "Full": "m2svid.attention",
    "LatentOnly": "m2svid.recipes",
    "M2SVid": "m2svid.model.m2svid",
    "M2SVidModule": "m2svid.training.module",
    "Recipe": "m2svid.recipes",
    "ReplaceFrames": "m2svid.recipes",
    "Sampler": "m2svid.model.sampler",
    "ShardWriter": "m2svid.data.shards",
    "StandardDiffusion": "m2svid.recipes",
    "StereoBatch": "m2svid.batch",
    "StereoDataModule": "m2svid.data.datamodule",
    "StereoMetrics": "m2svid.metrics.stereo",
    "UserError": "m2svid.errors",
    "load": "m2svid.weights.load",
    "save": "m2svid.weights.load",
    "warp": "m2svid.warping.splat",
}

__all__ = [
    "AttentionStrategy",
    "Clip",
    "Conditioning",
    "Disoccluded",
    "EndToEnd",
    "Factorized",
    "Full",
    "LatentOnly",
    "M2SVid",
    "M2SVidModule",
    "Recipe",
    "ReplaceFrames",
    "Sampler",
    "ShardWriter",
    "StandardDiffusion",
    "StereoBatch",
    "StereoDataModule",
    "StereoMetrics",
    "UserError",
    "load",
    "save",
    "warp",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
