"""A clip as evaluation gives it to methods: from a disparity, before crop and resize."""

import torch

from m2svid.batch import Original, StereoBatch
from m2svid.data.clips import Region
from m2svid.warping.view import warp_view


def make_clip(T=3, H=64, W=64, region=None, seed=0, disparity=None):
    """Smooth random views, a near square in front; `region` (top, left, height, width) is shown."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, T, 3, H // 8, W // 8, generator=random)
    left, right = (
        torch.nn.functional.interpolate(video, (H, W), mode="bilinear").mul(255).round().byte()
        for video in coarse
    )
    if disparity is None:
        disparity = torch.full((T, 1, H, W), 1.5)
        disparity[..., H // 4 : H // 2, W // 3 : W // 2] = 8.25
    region = region or (0, 0, H, W)
    part = Region(*region)
    warped, hole = warp_view(left, disparity.clamp(min=0))
    shown = {name: part.of(video)[None] for name, video in (("left", left), ("right", right))}
    return StereoBatch(
        **shown,
        warped=part.of(warped)[None],
        hole=part.of(hole)[None],
        fps=torch.tensor([5.0]),
        keys=("made/a",),
        originals=(Original(left, disparity, region),),
    ).as_float()
