"""Turn films of one camera into training clips: the film's frames are the right views.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.dataset import ClipSpec, Dataset, Facts, Rejected, Source
from data_prep.driver import main
from data_prep.steps.devices import pick_device
from data_prep.steps.reading import ForwardReader, even_clips, find_videos, video_source
from data_prep.steps.stretches import reject_stretch
from data_prep.steps.video import resize_view, split_evenly
from data_prep.steps.virtual_view import sharpen_edges, virtual_views
from m2svid.convert.options import DEFAULT_DEPTH
from m2svid.data.shards import Clip
from m2svid.depth.base import DepthEstimator, DepthRequest, Kind
from m2svid.depth.registry import open_depth
from m2svid.depth.shot import ShotDepth, to_disparity
from m2svid.errors import UserError
from m2svid.video.read import IMAGE_SUFFIXES, Video
from m2svid.video.shots import Shot, survey

Pixels = NDArray[np.uint8]

_FEWEST_FRAMES = 4  # the shortest sample that is trained on (paper, Appendix C)
_FLAT = 1e-3  # of the range of depth


@dataclass(frozen=True)
class _Opened:
    """Data shared by the clips of a shard."""

    video: ForwardReader
    depth: DepthEstimator


@dataclass(frozen=True, kw_only=True)
class Monocular(Dataset):
    """Options of films.

    Attributes:
        films: films, or folders with films in them.
        depth: depth of the films: a depth model of transformers (folder or hub id), video-depth-anything,
            DepthCrafter (its folder, or tencent/DepthCrafter), the depth file of one film, or a folder with
            one for each film, of the film's name with or without `_depth`: npz, gray video, or folder of
            pictures.
        depth_backbone: Stable Video Diffusion's folder or hub id, which DepthCrafter uses.
        depth_kind: what a depth file holds: "inverse" (near is large), "flipped" (near is small), "metric"
            (distance), or "auto": inverse or flipped, by which of bottom and top of the picture is nearer.
        max_disparity: smallest and largest share of the width by which the nearest point of a clip is moved;
            each clip draws its own, which it keeps.
        clip_seconds: length of a clip; all frames of a shot are used, so clips may be up to half as long
            again.
        seed: of what is drawn.
    """

    films: list[Path]
    depth: str = DEFAULT_DEPTH
    depth_backbone: str | None = None
    depth_kind: Kind = "auto"
    max_disparity: tuple[float, float] = (0.02, 0.08)
    clip_seconds: float = 5.0
    seed: int = 0

    name: ClassVar[str] = "monocular"
    positional: ClassVar[str] = "films"
    inputs: ClassVar[tuple[str, ...]] = ("films",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip_seconds <= 0:
            raise UserError(f"--clip_seconds must be positive, got {self.clip_seconds}")
        low, high = self.max_disparity
        if not 0 < low <= high <= 0.5:
            raise UserError(
                f"--max_disparity must be two shares of the width, 0 < low <= high <= 0.5, got [{low},{high}]"
            )

    def sources(self) -> list[Source]:
        """Every film found."""
        return [video_source(name, path) for name, path in find_videos(self.films).items()]

    def survey(self, source: Source) -> Facts:
        """Find the shots and cut them into clips."""
        video = Video(source.path)
        found = survey(video)
        # Cuts lie half a frame before the first frame of a clip, also where frames do not come evenly.
        middles = [Fraction(earlier + later, 2) for earlier, later in pairwise([*found.times, found.end])]
        edges = [found.times[0] - (middles[0] - found.times[0]), *middles]
        seconds = [str((edge - found.times[0]) * video.info.time_base) for edge in edges]
        length = float(video.info.rate) * self.clip_seconds
        clips = [(start, stop, seconds[start], seconds[stop]) for start, stop in _cut(found.shots, length)]
        return {"frames": len(found.times), "rate": str(video.info.rate), "clips": clips}

    def plan(self, source: Source, survey: Facts) -> list[ClipSpec]:
        """The clips that the survey has cut."""
        if not survey:
            frames, rate = source.facts.get("frames", 0), Fraction(source.facts.get("rate", 1))
            return even_clips(source.name, frames, rate, self.clip_seconds) if frames else []
        return [
            ClipSpec(
                f"{source.name}-{index:04d}", Fraction(begin), Fraction(end), {"start": start, "stop": stop}
            )
            for index, (start, stop, begin, end) in enumerate(survey["clips"])
        ]

    @contextmanager
    def opened(self, source: Source, survey: Facts, specs: Sequence[ClipSpec]) -> Iterator[_Opened]:
        """The film, read forwards, and its depth."""
        video = Video(source.path)
        device = pick_device(self.device)
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        name = depth_of(self.depth, source.path)
        depth = open_depth(DepthRequest(name, device, dtype, self.seed, self.depth_backbone, self.depth_kind))
        depth.check(survey["frames"], video.info.width, video.info.height)
        yield _Opened(ForwardReader(source.path), depth)

    def clip(self, reader: _Opened, spec: ClipSpec, source: Source, survey: Facts) -> Clip:
        """Estimate depth, and make the virtual left view and the holes of the right one."""
        shot = Shot(0, spec.facts["start"], spec.facts["stop"])
        if len(shot) < _FEWEST_FRAMES:
            raise Rejected("shots", f"short shot: {len(shot)} frames, {_FEWEST_FRAMES} are the least")
        pictures = [_prepared(frame.rgb(), self.size) for frame in reader.video.between(spec.begin, spec.end)]
        if len(pictures) != len(shot):
            raise Rejected(
                "video", f"other frames: {len(pictures)} are read where the survey saw {len(shot)}"
            )
        reason = reject_stretch(pictures)
        if reason is not None:
            raise Rejected("stretches", reason)
        maps = shot_depth(reader.depth, pictures, shot)
        if maps.max() - maps.min() < _FLAT:
            raise Rejected("depth", "flat: the depth is the same all over")
        share = draw_strength(f"{self.seed}/{spec.key}", self.max_disparity)
        return make_clip(spec.key, pictures, maps, share, Fraction(survey["rate"]), reader.depth.name)


def depth_of(given: str, film: Path) -> str:
    """The depth of one film: that of its name in a folder of depth files, otherwise what was given.

    Raises:
        UserError: the folder has none for this film, or more than one.
    """
    folder = Path(given)
    if not folder.is_dir() or any((folder / name).exists() for name in ("config.json", "model_index.json")):
        return given
    found = sorted(file for file in folder.iterdir() if file.stem in (film.stem, f"{film.stem}_depth"))
    if len(found) > 1:
        raise UserError(f"{' and '.join(map(str, found))} could both be the depth of {film}; leave one there")
    if found:
        return str(found[0])
    if any(file.suffix.lower() in IMAGE_SUFFIXES | {".exr"} for file in folder.iterdir()):
        return given  # the pictures of one film
    raise UserError(
        f"{folder} holds no depth for {film}; name its file {film.stem}.npz or {film.stem}_depth.mkv"
    )


def _cut(shots: Sequence[Shot], length: float) -> Iterator[tuple[int, int]]:
    """First and end frames of clips of about `length` frames: every frame is in one, none crosses a cut."""
    for shot in shots:
        edges = accumulate(split_evenly(len(shot), length), initial=shot.start)
        yield from pairwise(edges)


def _prepared(picture: Pixels, size: tuple[int, int] | None) -> Pixels:
    if size is not None:
        picture = resize_view(picture, size)
    height, width = picture.shape[:2]
    return picture[: height - height % 2, : width - width % 2]  # 4:2:0 video has even sizes only


def shot_depth(estimator: DepthEstimator, pictures: Sequence[Pixels], shot: Shot) -> NDArray[np.float32]:
    """Inverse depth (T, h, w) in [0, 1] of the T pictures of a shot, normalised over it as `convert` does."""
    pictures = list(pictures)

    def read(start: int, stop: int) -> list[Pixels]:
        return pictures[start - shot.start : stop - shot.start]

    with TemporaryDirectory() as folder:
        depth = ShotDepth(estimator, shot, read, Path(folder))
        if estimator.relative:
            depth.prepare(lambda _: None)
        return depth.get(shot.start, shot.stop, pictures)


def make_clip(
    key: str, pictures: Sequence[Pixels], maps: NDArray[np.float32], share: float, fps: Fraction, depth: str
) -> Clip:
    """A training clip of T pictures (H, W, 3) whose inverse depth (T, h, w) in [0, 1] is known.

    Args:
        key: of the clip.
        pictures: the right views.
        maps: their inverse depth.
        share: of the width by which inverse depth 1 is moved.
        fps: exact frame rate.
        depth: where the depth is from, for the notes.
    """
    right = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    height, width = right.shape[-2:]
    disparity = to_disparity(maps, height, width, share * width)
    sharp = np.stack([sharpen_edges(picture[0].numpy()) for picture in disparity])[:, None]
    views = virtual_views(right, torch.from_numpy(sharp))
    return Clip(
        key,
        views.left,
        right,
        fps,
        warped=views.warped,
        hole=views.hole,
        notes={
            "made_from": "one camera: right is the film, left is virtual",
            "depth": depth,
            "max_disparity_px": round(share * width, 2),
            "hole_share": round(float(views.hole.float().mean()), 4),
            "left_filled_share": round(float(views.left_gap.float().mean()), 4),
        },
    )


def draw_strength(name: str, limits: tuple[float, float]) -> float:
    """Share of the width by which the nearest point of a clip is moved; the name alone decides."""
    digest = hashlib.sha256(name.encode()).digest()
    return float(np.random.default_rng(list(digest)).uniform(*limits))


if __name__ == "__main__":
    sys.exit(main(Monocular))
