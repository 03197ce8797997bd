"""Warped view -> right view by the model: one clip of any size.

Shapes: T frames, K of them known, H W pixels. Videos are (T, 3, H, W), uint8 or float in [0, 1].
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.inference.clip_model import ClipModel
from m2svid.inference.inpainter import Inpainter, unit
from m2svid.inference.memory import MemoryPlan, Plan
from m2svid.model.m2svid import M2SVid
from m2svid.model.speed import compile_regions
from m2svid.warping.view import close_view

log = logging.getLogger(__name__)

DecodeArea = Literal["needed", "whole"]


class Refiner(Inpainter):
    """The model on clips: sizes that it doesn't take are padded, large frames can be cut into tiles.

    What is not given is the model's own, and starts with whole frames that are decoded together; where the
    device runs out of memory, it is lowered, which is said (see `MemoryPlan`).

    Args:
        model: the networks.
        device: where they run; None = where they are.
        window: frames that the model sees together.
        overlap: frames that neighbouring windows share.
        tile: side of a tile, px; 0 = whole frames.
        tile_overlap: px that neighbouring tiles share.
        decode_chunk: frames decoded at a time; the window is exact.
        decode_tile: side of the tiles that are decoded, px; 0 = whole frames, which is exact.
        offload: keep only the network in use on the device.
        num_steps: steps of the sampler.
        noise_aug: level of the conditioning noise.
        add_noise: False keeps the conditioning's pixels clean; the model is told `noise_aug` nevertheless.
        seed: of all noise; the same seed gives the same result.
        encode_dtype: numbers that the encoder calculates with, see `encoding_in`; None = the model's.
        decode_area: "needed" gives the networks only what surrounds the pixels that are needed of a window:
            tiles without any are left out, and the rest of whole frames is not decoded, which changes the
            decoder's group norms a little (`decode_parts`). "whole" is exact. None = needed, or whole where
            `compile` is.
        compile: compile the model's blocks, in place; not together with decode_area="needed", whose parts
            are of ever new sizes.
        memory: plan to share with the same model on another device, instead of one of the options above.

    Attributes:
        on_compiled: called with a line that says what compiling has cost, in the second window of a size.

    Raises:
        UserError: decode_area and compile exclude each other.
    """

    def __init__(
        self,
        model: M2SVid,
        device: torch.device | str | None = None,
        window: int | None = None,
        overlap: int | None = None,
        tile: int | None = None,
        tile_overlap: int = 128,
        decode_chunk: int | None = None,
        decode_tile: int | None = None,
        offload: bool = False,
        num_steps: int | None = None,
        noise_aug: float | None = None,
        add_noise: bool = True,
        seed: int = 0,
        encode_dtype: torch.dtype | None = None,
        decode_area: DecodeArea | None = None,
        compile: bool = False,
        memory: MemoryPlan | None = None,
    ) -> None:
        if compile and decode_area == "needed":
            raise UserError('compiled models take whole frames: give decode_area="whole"')
        usage = model.usage
        given = {"tile": tile, "decode_chunk": decode_chunk, "decode_tile": decode_tile}
        fixed = frozenset(name for name, value in given.items() if value is not None)
        self.window = usage.window if window is None else window
        self.overlap = usage.overlap if overlap is None else overlap
        first = Plan(self.window, tile or 0, decode_chunk or self.window, decode_tile or 0, offload)
        self.memory = memory or MemoryPlan(first, fixed)
        self._clip = ClipModel(
            model,
            next(model.parameters()).device if device is None else torch.device(device),
            self.memory,
            usage.sampler.with_steps(num_steps),
            usage.noise_aug if noise_aug is None else noise_aug,
            add_noise,
            seed,
            tile_overlap,
            encode_dtype,
        )
        self._decode_area = decode_area or ("whole" if compile else "needed")
        self._compiled, self._seconds = compile, dict[tuple[int, ...], float]()
        self.on_compiled: Callable[[str], None] = log.info
        if compile:
            compile_regions(model)
        self._numbers = str(model.unet.dtype).removeprefix("torch.")
        self.settings = {"dtype": self._numbers, "window": self.window, "overlap": self.overlap}

    @property
    def description(self) -> str:
        return f"model on {self._clip.device} in {self._numbers}, {self.memory.plan}"

    @torch.no_grad()
    def __call__(
        self,
        left: Tensor,
        warped: Tensor,
        hole: Tensor,
        fps: float,
        known: Tensor | None = None,
        places: Tensor | None = None,
        *,
        needed: Tensor | None = None,
    ) -> Tensor:
        """Make the right view, (T, 3, H, W) float in [0, 1], on the device of `left`.

        The hole is closed and the warped view blackened inside, but not in known frames.

        Args:
            left: (T, 3, H, W) left view; T at most `window`.
            warped: (T, 3, H, W) left view warped to the right eye.
            hole: (T, 1, H, W) bool, True where no source pixel landed, as `warp` gives it.
            fps: frames per second.
            known: (K, 3, H, W) right frames that are known and shown to the model; None = none.
            places: (K,) int, their numbers; None = 0 to K - 1.
            needed: (H, W) bool, pixels of the result that will be used, in any frame; None = all. Where there
                is none, nothing runs, and the result is the warped view; see also `decode_area`.

        Raises:
            UserError: a shape or type is wrong, there are more frames than the model takes, or there is too
                little memory.
        """
        self._check(left, warped, hole)
        height, width = left.shape[-2:]
        if needed is not None and not needed.any():
            return unit(warped)
        view, hole = close_view(warped.cpu(), hole.cpu())
        replaced = None
        if known is not None:
            places = torch.arange(len(known)) if places is None else places.cpu()
            if known.dtype != view.dtype:
                view, known = unit(view), unit(known)
            view[places] = known.cpu()
            if self._clip.model.usage.mark_known:
                replaced = torch.zeros(1, len(view), dtype=torch.bool)
                replaced[0, places] = True
        multiple = self._clip.model.size_multiple
        border = (0, -width % multiple, 0, -height % multiple)
        views = (F.pad(video, border, mode="replicate")[None] for video in (left.cpu(), view))
        hole = F.pad(hole.float(), border, mode="replicate")[None] > 0
        batch = StereoBatch(*views, hole, torch.tensor([fps], dtype=torch.float32), replaced=replaced)
        if needed is not None:
            needed = F.pad(needed.cpu(), border) if self._decode_area == "needed" else None
        start = time.perf_counter()
        z = self._clip.sample(batch, needed=needed)
        right = self._clip.decode(z, needed).div_(2).add_(0.5).clamp_(0, 1)
        if self._compiled:
            self._tell_cost(tuple(batch.left.shape), time.perf_counter() - start)
        return right[..., :height, :width].to(left.device)

    def _tell_cost(self, shape: tuple[int, ...], seconds: float) -> None:
        first = self._seconds.setdefault(shape, seconds)
        if first != seconds and first >= 0:
            _, T, _, H, W = shape
            self.on_compiled(
                f"compiled: the first window of {T}×{H}×{W} took {first:.1f} s, the second {seconds:.1f} s"
            )
            self._seconds[shape] = -1  # told

    def _check(self, left: Tensor, warped: Tensor, hole: Tensor) -> None:
        frames, height, width = len(left), *left.shape[-2:]
        for name, tensor, channels in (("left", left, 3), ("warped", warped, 3), ("hole", hole, 1)):
            wanted = (frames, channels, height, width)
            if tuple(tensor.shape) != wanted:
                raise UserError(
                    f"{name} must be {wanted} (T, C, H, W) beside left, but is {tuple(tensor.shape)}"
                )
        if hole.dtype != torch.bool:
            raise UserError(f"hole must be bool (True = no source pixel landed there), but is {hole.dtype}")
        if frames > self.window:
            raise UserError(
                f"the model takes up to {self.window} frames at a time, got {frames}: longer videos go "
                "through `python -m m2svid convert`"
            )
