"""The depth estimators that `--depth` can name. A new one is a file and an entry here."""

from __future__ import annotations

import importlib

from m2svid.depth.base import DepthEstimator, DepthRequest

# The first that accepts a name opens it. Files come first, because models take seconds to import.
ESTIMATORS = (
    "m2svid.depth.files:DepthFile",
    "m2svid.depth.video_depth_anything:VideoDepthAnything",
    "m2svid.depth.depthcrafter:DepthCrafter",
    "m2svid.depth.transformers:TransformersDepth",
)


def open_depth(request: DepthRequest) -> DepthEstimator:
    """Open a depth file or model.

    Raises:
        UserError: it can't be had.
    """
    for entry in ESTIMATORS:
        module, name = entry.split(":")
        estimator: type[DepthEstimator] = getattr(importlib.import_module(module), name)
        if estimator.accepts(request.name):
            return estimator.open(request)
    raise LookupError(f"no depth estimator accepts {request.name}")  # the last one accepts all
