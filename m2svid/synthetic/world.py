"""A procedural stereo world: exact left and right views, disparity and holes, of any size and length.

Textured boards, balls, poles, wires and fences stand on a floor before a wall or swing above it, while the
camera moves from side to side. What the right eye sees behind an object, the left eye sees a few frames
before or after; and textures are so fine that warping blurs them: what the model needs is in the left video.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from m2svid.data.shards import Clip, ShardWriter
from m2svid.errors import UserError
from m2svid.synthetic.scenery import furnish
from m2svid.synthetic.surfaces import Eye, Hit, PlacedSurface, Surface, trace
from m2svid.synthetic.textures import TEXELS_PER_PIXEL, make_texture

SUPERSAMPLING = 2  # samples a pixel in each direction, of the colours only
_MAX_TEXELS = 768
_HIDDEN_BY = 1e-3  # pixels of disparity by which an occluder must be nearer; above the rounding


@dataclass(frozen=True)
class StereoClip:
    """A stereo clip of a procedural world, with its exact disparity and holes.

    Attributes:
        left: (T, 3, H, W) uint8.
        right: (T, 3, H, W) uint8.
        disparity: (T, 1, H, W) float32, pixels >= 0, of the left view's pixel centres.
        hole: (T, 1, H, W) bool, True where the right view's pixel centre shows a point that the left eye does
            not see: another surface is before it, or it lies outside the left frame.
    """

    left: Tensor
    right: Tensor
    disparity: Tensor
    hole: Tensor


@dataclass(frozen=True)
class _Camera:
    sweep: float  # amplitudes: to the sides and up and down in baselines, of the turning in pixels
    lift: float
    wobble: float
    focus: float  # disparity that stays in place, pixels
    phase: float


@dataclass(frozen=True)
class ProceduralWorld:
    """A world and the clip that is filmed in it; the same arguments give the same pixels.

    Attributes:
        seed: of everything that is random.
        height: H, pixels.
        width: W, pixels.
        num_frames: T.
        num_objects: number of objects, without floor and wall.
        max_disparity: upper bound, pixels; None is 8 % of the width.
        camera_sweep: how far the camera goes to either side, in baselines. What the right eye sees of what
            stands still, the left eye sees when it has moved by one baseline.
        camera_period: frames until the camera is back.
    """

    seed: int
    height: int
    width: int
    num_frames: int
    num_objects: int = 12
    max_disparity: float | None = None
    camera_sweep: float = 2.0
    camera_period: float = 20.0

    def __post_init__(self) -> None:
        smallest = {"seed": 0, "height": 16, "width": 16, "num_frames": 1, "num_objects": 0}
        for name, least in smallest.items():
            if (value := getattr(self, name)) < least:
                raise UserError(f"{name} of a procedural world must be at least {least}, got {value}")
        if not 0 < self.largest_disparity <= self.width / 2:
            raise UserError(
                f"max_disparity of a procedural world must be above 0 and at most half the width of "
                f"{self.width} px, got {self.max_disparity}"
            )

    @property
    def largest_disparity(self) -> float:
        return 0.08 * self.width if self.max_disparity is None else self.max_disparity

    def render(self) -> StereoClip:
        """Draw all frames."""
        frames = [self.frame(t) for t in range(self.num_frames)]
        return StereoClip(*(torch.stack(views) for views in zip(*frames, strict=True)))

    def frame(self, t: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Left view, right view, disparity and hole, shaped as in a clip but without T, at frame t; between
        frames if t is no whole number."""
        eye = self.eye(t)
        left, right = self._place(t, eye), self._place(t, eye.right)
        disparity = self.trace(t, eye).disparity
        return self._draw(left), self._draw(right), disparity[None], self._hole(left, right)[None]

    def eye(self, t: float) -> Eye:
        """The left eye at frame t; `.right` is the other."""
        camera = self._camera
        turn = 2 * math.pi * t / self.camera_period + camera.phase
        x, y = camera.sweep * math.sin(turn), camera.lift * math.sin(0.7 * turn)
        wobble = camera.wobble * math.cos(0.6 * turn)
        # The camera turns with its way, so that what is at the disparity of its focus stays where it is.
        return Eye(x, y, x * camera.focus + wobble, y * camera.focus)

    def trace(self, t: float, eye: Eye) -> Hit:
        """The surface that an eye sees at each pixel centre of frame t."""
        rows, columns = self._positions(1)
        return trace(self._place(t, eye), rows, columns)

    def _place(self, t: float, eye: Eye) -> list[PlacedSurface]:
        return [surface.place(t, eye) for surface in self.surfaces]

    def _positions(self, samples: int) -> tuple[Tensor, Tensor]:
        """Rows (H·samples, 1) and columns (W·samples,) of the samples; pixel centres are whole numbers."""
        rows, columns = ((torch.arange(n * samples) + 0.5) / samples - 0.5 for n in (self.height, self.width))
        return rows[:, None], columns

    def _hole(self, left: list[PlacedSurface], right: list[PlacedSurface]) -> Tensor:
        rows, columns = self._positions(1)
        disparity = trace(right, rows, columns).disparity
        nearest = trace(left, rows, columns, shift=disparity).disparity
        outside = columns + disparity >= self.width - 0.5
        return outside | (nearest > disparity + _HIDDEN_BY)

    def _draw(self, placed: list[PlacedSurface]) -> Tensor:
        """(3, H, W) uint8."""
        hit = trace(placed, *self._positions(SUPERSAMPLING))
        rows, side = self._atlas.shape[-2:]
        u, v = (self._fold(axis, side) for axis in (hit.u, hit.v))
        # From the whole texture being [-1, 1] to the whole atlas being it.
        v = (
            v.mul_((side - 1) / (rows - 1))
            .add_(hit.surface, alpha=2 * side / (rows - 1))
            .sub_((rows - side) / (rows - 1))
        )
        colours = F.grid_sample(self._atlas[None], torch.stack((u, v), -1)[None], align_corners=True)
        return F.avg_pool2d(colours[0], SUPERSAMPLING).round_().clamp_(0, 255).to(torch.uint8)

    @staticmethod
    def _fold(axis: Tensor, side: int) -> Tensor:
        """Surface coordinate -> [-1, 1] over a texture; beyond it its mirror image follows."""
        return 1 - axis.mul_(2 * TEXELS_PER_PIXEL / (side - 1)).add_(1).remainder_(4).sub_(2).abs_()

    @cached_property
    def surfaces(self) -> list[Surface]:
        rng = np.random.default_rng([self.seed, 0])
        return furnish(rng, self.height, self.width, self.num_objects, self.largest_disparity)

    @cached_property
    def _atlas(self) -> Tensor:
        """(3, S·surfaces, S) float, the textures one below the other."""
        rng = np.random.default_rng([self.seed, 1])
        side = min(TEXELS_PER_PIXEL * max(self.height, self.width), _MAX_TEXELS)
        textures = [make_texture(rng, side) for _ in self.surfaces]
        return torch.from_numpy(np.concatenate(textures, axis=1))

    @cached_property
    def _camera(self) -> _Camera:
        rng = np.random.default_rng([self.seed, 2])
        return _Camera(
            sweep=self.camera_sweep,
            lift=min(0.3, 0.1 / self.surfaces[1].slope[1]),
            focus=rng.uniform(0.3, 0.5) * self.largest_disparity,
            wobble=rng.uniform(0, 0.03) * self.width,
            phase=rng.choice([0, math.pi]) + rng.uniform(-0.5, 0.2),
        )


def make_shards(
    out: Path,
    clips: int,
    frames: int = 16,
    height: int = 256,
    width: int = 256,
    seed: int = 0,
    split: Literal["train", "val", "test"] = "train",
    fps: int = 8,
    objects: int = 12,
    max_disparity: float | None = None,
) -> list[Path]:
    """Write clips of procedural worlds into shards, one world for each clip.

    Args:
        out: Folder for the shards.
        clips: Number of clips.
        frames: Frames a clip.
        height: Pixels, even.
        width: Pixels, even.
        seed: Of all worlds; each split has worlds of its own.
        split: What the clips are for: train, val or test.
        fps: Frame rate that the clips are given.
        objects: Objects a world.
        max_disparity: No disparity is larger, pixels; 8 % of the width if not given.

    Returns:
        The shards.
    """
    writer = ShardWriter(out, prefix=f"procedural-{split}")
    with writer:
        for i in track(range(clips), description=f"procedural {split} clips"):
            state = np.random.SeedSequence([seed, *split.encode(), i]).generate_state(1)
            world = ProceduralWorld(int(state[0]), height, width, frames, objects, max_disparity)
            writer.write(_clip(world, f"{split}-{seed}-{i:05d}", fps, split))
    return writer.paths


def _clip(world: ProceduralWorld, key: str, fps: int, split: str) -> Clip:
    seen = world.render()
    return Clip(
        key=key,
        left=seen.left,
        right=seen.right,
        fps=Fraction(fps),
        disparity=seen.disparity,
        dataset="procedural",
        source=f"world {world.seed}",
        split=split,
    )
