"""The batch that travels between data, model, recipes and metrics.

Shapes: B clips, T frames, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass
class Original:
    """The sources of a clip's views, before they were cropped and resized.

    Methods of an evaluation that warp in a way of their own start from it.

    Attributes:
        left: (T, 3, H, W) uint8 left view at the clip's resolution.
        disparity: (T, 1, H, W) float, pixels of this resolution.
        region: top, left, height and width of the part that the batch shows, pixels.
    """

    left: Tensor
    disparity: Tensor
    region: tuple[int, int, int, int]


@dataclass
class StereoBatch:
    """A batch of clips of one size.

    Videos are uint8 0..255 while they travel from the loader to the device, and float in [0, 1] everywhere
    else (`as_float`).

    Attributes:
        left: (B, T, 3, H, W) left view.
        warped: (B, T, 3, H, W) left view warped to the right eye; black inside `hole`.
        hole: (B, T, 1, H, W) bool, True = disoccluded, after the 11×11 closing (REFERENCE "Mask", step 2).
        fps: (B,) float, frames per second after temporal subsampling.
        right: (B, T, 3, H, W) true right view, or None where there is no ground truth (conversion).
        replaced: (B, T) bool, frames of `warped` that are not warped but known right frames (ground truth
            in training, frames generated before in conversion); None = no frame. Their mask value is -1
            (paper, Appendix E).
        keys: one name a clip, unique in its dataset.
        originals: one a clip in evaluation, None where the clip has no disparity; else empty.
        index: number of the batch in the training stream of this rank; seeds what is random in a step.
        skipped: broken clips that the loader left out since its last batch (`on_error: skip`).
    """

    left: Tensor
    warped: Tensor
    hole: Tensor
    fps: Tensor
    right: Tensor | None = None
    replaced: Tensor | None = None
    keys: tuple[str, ...] = ()
    originals: tuple[Original | None, ...] = ()
    index: int = 0
    skipped: int = 0

    def __post_init__(self) -> None:
        shape = tuple(self.left.shape)
        if len(shape) != 5 or shape[2] != 3:
            raise ValueError(f"left must be (B, T, 3, H, W), got {shape}")
        B, T, _, H, W = shape
        expected = {
            "warped": (self.warped, shape),
            "hole": (self.hole, (B, T, 1, H, W)),
            "fps": (self.fps, (B,)),
            "right": (self.right, shape),
            "replaced": (self.replaced, (B, T)),
        }
        for name, (tensor, want) in expected.items():
            if tensor is not None and tuple(tensor.shape) != want:
                raise ValueError(
                    f"{name} must be {want} for a left view of {shape}, got {tuple(tensor.shape)}"
                )
        for name in ("hole", "replaced"):
            tensor = getattr(self, name)
            if tensor is not None and tensor.dtype != torch.bool:
                raise ValueError(f"{name} must be bool, got {tensor.dtype}")
        if self.keys and len(self.keys) != B:
            raise ValueError(f"{len(self.keys)} keys for {B} clips")

    @property
    def num_frames(self) -> int:
        return self.left.shape[1]

    def as_float(self) -> StereoBatch:
        """The same batch with videos as float in [0, 1]."""
        return replace(self, **{name: to_float(video) for name, video in self._tensors().items()})

    def to(self, device: torch.device | str, non_blocking: bool = False) -> StereoBatch:
        """The same batch on a device; `originals` stay where they are.

        Args:
            device: where to.
            non_blocking: don't wait until pinned memory has been copied to it.
        """
        moved = {
            name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self._tensors().items()
        }
        return replace(self, **moved)

    def pin_memory(self) -> StereoBatch:
        """The same batch in memory that a GPU copies from by itself; a `DataLoader` calls it."""
        return replace(self, **{name: tensor.pin_memory() for name, tensor in self._tensors().items()})

    def clip(self, index: int) -> StereoBatch:
        """One clip as a batch of one."""
        one = slice(index, index + 1)
        tensors = {name: tensor[one] for name, tensor in self._tensors().items()}
        return replace(self, **tensors, keys=self.keys[one], originals=self.originals[one])

    def _tensors(self) -> dict[str, Tensor]:
        """The tensors that are there, by field."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def to_float(video: Tensor) -> Tensor:
    """A uint8 video 0..255 as float in [0, 1]; anything else as it is."""
    return video.float() / 255 if video.dtype == torch.uint8 else video
