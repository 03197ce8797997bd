"""Samples of one size: frames of a clip decoded, warped, cropped and resized, and batches of them.

Shapes: T frames, H W pixels of the clip, h w of the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from fractions import Fraction
from functools import partial

import torch
import torch.nn.functional as F
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.utils.data import get_worker_info

from m2svid.batch import Original, StereoBatch
from m2svid.data.clips import ClipReader, Region
from m2svid.warping.mask import CLOSING_SIZE, window_any
from m2svid.warping.view import close_view, warp_view

# A closing looks twice its radius far: half for the dilation, half for the erosion after it.
_CLOSING_REACH = CLOSING_SIZE - 1


@dataclass
class Sample:
    """A clip of one size, not yet in a batch.

    Attributes:
        left: (T, 3, h, w) uint8.
        right: like left; None where the truth isn't read (prediction).
        fps: frames per second after temporal subsampling.
        warped: like left, black inside the hole; None until `original` is warped.
        hole: (T, 1, h, w) bool; None until `original` is warped.
        key: `{dataset}/{clip}`.
        original: of an evaluation's sample whose clip has a disparity, or what is to be warped.
    """

    left: Tensor
    right: Tensor | None
    fps: float
    warped: Tensor | None = None
    hole: Tensor | None = None
    key: str = ""
    original: Original | None = None

    def finished(self) -> Sample:
        """The sample with its warped view, made on the device where its tensors are."""
        if self.warped is not None:
            return self
        left, disparity, region = self.original.left, self.original.disparity, Region(*self.original.region)
        warped, hole = _part_of(warp_view, region, self.left.shape[-2:], left, disparity)
        return replace(self, warped=warped, hole=hole, original=None)


@dataclass
class Samples:
    """Samples of one size on their way into a batch.

    Attributes:
        samples: one a clip.
        index: see `StereoBatch`.
        skipped: see `StereoBatch`.
    """

    samples: list[Sample]
    index: int
    skipped: int = 0

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Samples:
        return apply_to_collection(self, Tensor, Tensor.to, device, non_blocking=non_blocking)

    def pin_memory(self) -> Samples:
        return apply_to_collection(self, Tensor, Tensor.pin_memory)

    def collate(self) -> StereoBatch:
        """The batch, warped where the tensors are if that is still to be done."""
        samples = [sample.finished() for sample in self.samples]
        videos = {
            name: torch.stack([getattr(sample, name) for sample in samples])
            for name in ("left", "right", "warped", "hole")
            if getattr(samples[0], name) is not None
        }
        fps = torch.tensor([sample.fps for sample in samples], device=videos["left"].device)
        keys = tuple(sample.key for sample in samples)
        originals = tuple(sample.original for sample in samples)
        return StereoBatch(
            **videos, fps=fps, keys=keys, originals=originals, index=self.index, skipped=self.skipped
        )


def make_sample(
    reader: ClipReader,
    indices: Sequence[int],
    fps: Fraction,
    region: Region,
    size: tuple[int, int],
    truth: bool = True,
    keep_original: bool = False,
    warp: bool = True,
) -> Sample:
    """Decode frames and make the views: warped at the clip's resolution, then cropped and resized.

    Args:
        reader: the clip.
        indices: its frames.
        fps: frame rate of these frames.
        region: the crop, the same for all views.
        size: (h, w) of the sample.
        truth: read the right view, too.
        keep_original: keep the whole left view and disparity of a clip that has one.
        warp: False leaves the warping of a clip with a disparity to `Sample.finished`.
    """
    original = parts = None
    frame = (reader.info.height, reader.info.width)
    around = region.grown(_CLOSING_REACH, 0, frame)
    threads = _threads()
    # Decoders and torch release Python's lock: views are decoded beside one another, then halves of the time.
    with ThreadPoolExecutor(threads) as pool:
        names = ("left", "right") if truth else ("left",)
        eyes = [pool.submit(reader.video, name, indices) for name in names]
        if reader.has_disparity:
            # Pixels move left only, and by no more than the largest disparity.
            reach = math.ceil(reader.info.disparity_max) + 1
            source = Region(0, 0, *frame) if keep_original else around.grown(0, reach, frame)
            disparity = reader.disparity(indices, source)  # while the views are decoded
            stored = source.of(eyes[0].result()), disparity
            original = Original(*stored, astuple(region.within(source)))
        else:
            source = around
            stored = around.of(reader.video("warped", indices)), reader.hole(indices, around)
        if warp or original is None:
            view = close_view if original is None else warp_view
            part = partial(_part_of, view, region.within(source), size)
            parts = pool.map(part, *(video.chunk(threads) for video in stored))
        resize = partial(_resize, size=size)
        views = [pool.map(resize, region.of(eye.result()).chunk(threads)) for eye in eyes]
        left, *right = (torch.cat(list(view)) for view in views)
        sample = Sample(left, right[0] if truth else None, float(fps))
        if parts is None:  # the part that is to be warped travels, without the rest of the frames
            part = original.left.contiguous(memory_format=torch.channels_last)
            return replace(sample, original=replace(original, left=part))
        warped, hole = (torch.cat(video) for video in zip(*parts, strict=True))
    return replace(sample, warped=warped, hole=hole, original=original if keep_original else None)


def _threads() -> int:
    """Threads that work on a sample: several worker processes keep the cores busy without more of them."""
    worker = get_worker_info()
    return 2 if worker is None or worker.num_workers == 1 else 1


def _part_of(
    view: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    region: Region,
    size: tuple[int, int],
    *stored: Tensor,
) -> tuple[Tensor, Tensor]:
    """The sample's warped view and hole, of frames that `view` makes of stored ones."""
    warped, hole = view(*stored)
    return _resize(region.of(warped), size), resize_hole(region.of(hole), size)


def _resize(video: Tensor, size: tuple[int, int]) -> Tensor:
    """(T, 3, H, W) uint8 -> (T, 3, h, w) uint8, bilinear with antialiasing."""
    if tuple(video.shape[2:]) == tuple(size):
        return video.contiguous()
    if video.device.type == "cpu":
        return F.interpolate(video, size, mode="bilinear", antialias=True).contiguous()
    # Other devices have no such operation for integers; the results differ by 1 at most.
    return F.interpolate(video.float(), size, mode="bilinear", antialias=True).round_().byte()


def resize_hole(hole: Tensor, size: tuple[int, int]) -> Tensor:
    """(T, 1, H, W) bool -> (T, 1, h, w) bool: a pixel that any hole goes into is a hole."""
    for dim, length in zip((-2, -1), size, strict=True):
        hole = _resize_line(hole, length, dim)
    return hole.contiguous()


def _resize_line(hole: Tensor, length: int, dim: int) -> Tensor:
    """True where any of the pixels that the bilinear filter weighs is, along `dim`."""
    pixels = torch.eye(hole.shape[dim])  # on the CPU: the same choice on every device
    weights = F.interpolate(pixels[None, None], (length, len(pixels)), mode="bilinear", antialias=True)[0, 0]
    first, number = (weights > 0).int().argmax(1), (weights > 0).sum(1)
    # Windows are shorter at the borders, but not by more than a half: two of the shortest cover each one.
    shortest = int(number.min())
    windows = window_any(hole, shortest, dim)
    begins, ends = first.to(hole.device), (first + number - shortest).to(hole.device)
    return windows.index_select(dim, begins) | windows.index_select(dim, ends)
