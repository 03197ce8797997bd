"""The protocol by which methods are compared; the defaults are the paper's.

Shapes: T frames, H W pixels of the clip, h w of the depth maps.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from m2svid.batch import Original, StereoBatch
from m2svid.depth.base import DepthEstimator
from m2svid.errors import UserError
from m2svid.evaluation.methods.warps import ClosedNearest, original_of, warped_by

Disparity = Literal["both_views", "predicted"]
Whose = Literal["own", "m2svid"]


@dataclass(frozen=True)
class Protocol:
    """Everything that the numbers of an evaluation depend on, apart from methods, clips and metrics.

    Metrics that can be taken in two ways have two names: `psnr_pairs` beside `psnr`, `lpips_alex` beside
    `lpips`, `psnr_masked_inside` beside `psnr_inside`, which is painted.

    Attributes:
        disparity: "both_views" is that of the shards. "predicted" is `depth`, scaled and shifted so that it
            fits the shards' best, in the sense of least squares over the clip.
        depth: estimates inverse depth from the left view; only for "predicted".
        warp: "own" lets each method warp in its own way, "m2svid" lets all warp as M2SVid.
        mask: whose hole tells inside from outside: "m2svid" is one for all, "own" is each method's.

    Raises:
        UserError: an unknown value, or `depth` is missing or idle.
    """

    disparity: Disparity = "both_views"
    depth: DepthEstimator | None = None
    warp: Whose = "own"
    mask: Whose = "m2svid"

    def __post_init__(self) -> None:
        for name, allowed in (("disparity", Disparity), ("warp", Whose), ("mask", Whose)):
            if getattr(self, name) not in get_args(allowed):
                raise UserError(
                    f"model.protocol.{name} must be one of {', '.join(get_args(allowed))}, "
                    f"not {getattr(self, name)!r}"
                )
        if (self.disparity == "predicted") != (self.depth is not None):
            raise UserError(
                "model.protocol.disparity=predicted needs model.protocol.depth, such as "
                "m2svid.depth.transformers.TransformersDepth, and nothing else does"
            )

    def describe(self) -> dict[str, Any]:
        """The entry for the protocol in the results."""
        depth = None if self.depth is None else self.depth.name
        return {"name": self.name, **{item.name: getattr(self, item.name) for item in fields(self)}} | {
            "depth": depth
        }

    @property
    def name(self) -> str:
        """ "paper", or what differs from the paper's, fit for file names."""
        values = {"disparity": self.disparity, "warp": self.warp, "mask": self.mask}
        paper = {item.name: item.default for item in fields(self)}
        changed = [f"{value}_{name}" for name, value in values.items() if value != paper[name]]
        return "+".join(changed) or "paper"

    def apply(self, batch: StereoBatch) -> StereoBatch:
        """A batch of an evaluation as the protocol has it: with the predicted disparity where that is asked.

        Raises:
            UserError: a clip has no disparity to fit the predicted one to.
        """
        if self.depth is None:
            return batch
        clips = [self._predicted(batch.clip(index)) for index in range(len(batch.keys))]
        return replace(
            batch,
            warped=torch.cat([clip.warped for clip in clips]),
            hole=torch.cat([clip.hole for clip in clips]),
            originals=tuple(clip.originals[0] for clip in clips),
        )

    def _predicted(self, clip: StereoBatch) -> StereoBatch:
        original = original_of(clip, "model.protocol.disparity=predicted has nothing to be fitted to")
        frames = list(original.left.permute(0, 2, 3, 1).cpu().numpy())
        depth = torch.from_numpy(self.depth(frames, 0)).to(original.left.device)[:, None]  # (T, 1, h, w)
        disparity = fit_scale_and_shift(depth.float(), original.disparity)
        predicted = Original(original.left, disparity, original.region)
        return warped_by(ClosedNearest(), replace(clip, originals=(predicted,)))


def fit_scale_and_shift(depth: Tensor, disparity: Tensor) -> Tensor:
    """a · depth + b at the disparity's resolution, with the a and b of least squares over the whole clip.

    Args:
        depth: (T, 1, h, w) inverse depth of any scale.
        disparity: (T, 1, H, W) pixels.
    """
    if depth.shape != disparity.shape:
        depth = F.interpolate(depth, disparity.shape[-2:], mode="bilinear", align_corners=False)
    x, y = depth.double(), disparity.double()
    deviation = x - x.mean()
    spread = deviation.square().sum()
    a = (deviation * y).sum() / spread if spread > 0 else spread
    return (y.mean() + a * deviation).to(disparity.dtype)
