"""Pictures of stereo clips: error maps, strips, contact sheets of shards.

Shapes: T frames, H W pixels, (...) any leading dimensions. Images and videos are float in [0, 1], on any
device; hole masks are bool.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.io import write_png

from m2svid.data.clips import ClipReader, RawClip, Region
from m2svid.data.codec import VideoDecoder
from m2svid.data.shards import ClipInfo
from m2svid.data.sources import expand_shards, read_shard
from m2svid.errors import UserError
from m2svid.files import check_output, whole
from m2svid.video.anaglyph import anaglyph
from m2svid.video.colormap import colorize
from m2svid.warping.view import close_view, warp_view

log = logging.getLogger(__name__)

ERROR_SCALE = 0.25
"""Mean absolute error (of the range 0..1) that is drawn in the colour map's last colour."""

_HOLE_COLOR = (1.0, 0.0, 1.0)


def error_map(pred: Tensor, truth: Tensor) -> Tensor:
    """Absolute error, mean over the channels, in "inferno" colours: 0 black, `ERROR_SCALE` pale yellow.

    The scale is fixed, so maps of different steps and models can be compared.

    Args:
        pred: (..., 3, H, W) in [0, 1].
        truth: same shape.

    Returns:
        (..., 3, H, W) in [0, 1].
    """
    return colorize((pred - truth).abs().mean(-3, keepdim=True), 0, ERROR_SCALE, "inferno")


def mark_hole(video: Tensor, hole: Tensor) -> Tensor:
    """The video (..., 3, H, W) with the hole (..., 1, H, W) painted magenta, unlike any real filling."""
    return torch.where(hole, video.new_tensor(_HOLE_COLOR)[:, None, None], video)


def largest_hole(hole: Tensor, size: int) -> tuple[int, int, int]:
    """Frame, top and left of the window of size×size pixels that holds most of a hole (T, 1, H, W)."""
    share = F.avg_pool2d(hole.float(), size, stride=1)
    frame, _, top, left = torch.unravel_index(share.argmax(), share.shape)
    return int(frame), int(top), int(left)


def heat(video: Tensor, weights: Tensor) -> Tensor:
    """The video (T, 3, H, W), dark, under weights (T, h, w) in "inferno" colours, black to their maximum."""
    spread_out = F.interpolate(weights[:, None].float(), video.shape[-2:], mode="nearest")
    return 0.4 * video + 0.6 * colorize(spread_out, 0, float(weights.max()), "inferno")


def grid(columns: Sequence[Tensor], gap: int = 2) -> Tensor:
    """Videos side by side, frames downwards, white gaps between.

    Args:
        columns: n videos (T, 1 or 3, H, W) in [0, 1], all of one T, H and W.
        gap: pixels between two panels.

    Returns:
        (3, T·(H+gap)-gap, n·(W+gap)-gap) in [0, 1].
    """
    panels = torch.stack([column.float().expand(-1, 3, -1, -1) for column in columns], dim=3)  # T 3 H n W
    panels = F.pad(panels, (0, gap, 0, 0, 0, gap), value=1.0)
    T, _, H, n, W = panels.shape
    return panels.permute(1, 0, 2, 3, 4).reshape(3, T * H, n * W)[:, : T * H - gap, : n * W - gap]


def strip(
    left: Tensor, warped: Tensor, hole: Tensor, generated: Tensor, right: Tensor | None = None, rows: int = 4
) -> Tensor:
    """One picture of a clip for the training log: left | warped | mask | generated | truth, a row a frame.

    Args:
        left: (T, 3, H, W) in [0, 1]; so are warped, generated and right.
        warped: the left view warped to the right eye.
        hole: (T, 1, H, W) bool.
        generated: the model's right view.
        right: the true right view; without it there is no last column.
        rows: how many frames are shown, spread evenly over the clip; all if there are fewer.

    Returns:
        (3, rows·(H+2)-2, 5·(W+2)-2) in [0, 1].
    """
    videos = [left, warped, hole, generated] + ([] if right is None else [right])
    frames = spread(left.shape[0], rows)
    return grid([video[frames] for video in videos])


def film_strip(columns: Sequence[Tensor], panel_width: int = 256) -> Tensor:
    """Videos side by side as one video, for the training log.

    Args:
        columns: n videos (T, 1 or 3, H, W) in [0, 1], all of one T, H and W.
        panel_width: largest width of a panel in pixels; wider ones are made smaller.

    Returns:
        (T, 3, h, n·(w+2)-2) in [0, 1].
    """
    if columns[0].shape[3] > panel_width:
        columns = [_resize(column, panel_width) for column in columns]
    return torch.stack([grid([column[t : t + 1] for column in columns]) for t in range(len(columns[0]))])


def encode_gif(video: Tensor, fps: float) -> bytes:
    """An animated GIF, which repeats for ever.

    Args:
        video: (T, 3, H, W) in [0, 1].
        fps: frames per second; GIF counts in 1/100 s.
    """
    frames = (video.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    first, *others = [Image.fromarray(frame).quantize() for frame in frames]
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
    return file.getvalue()


def spread(length: int, count: int) -> list[int]:
    """`count` indices from 0 to length - 1, evenly spread, both ends included; all if there are fewer."""
    return torch.linspace(0, length - 1, min(count, length)).round().long().tolist()


def contact_sheet(columns: Mapping[str, Tensor], title: str, panel_width: int = 320) -> Tensor:
    """One clip as a labelled picture: a title line, a line of column names, a row a frame.

    Args:
        columns: name -> video (T, 1 or 3, H, W) in [0, 1], all of one shape.
        title: text of the first line.
        panel_width: width in pixels to which every panel is resized; the aspect is kept.

    Returns:
        (3, H', W') in [0, 1].
    """
    panels = [_resize(video, panel_width) for video in columns.values()]
    body = grid(panels)
    names = [_text_line(name, panel_width + 2) for name in columns]
    header = torch.cat(names, dim=2)[:, :, : body.shape[2]]
    return torch.cat([_text_line(title, body.shape[2]), header, body.cpu()], dim=1)


def stack(sheets: Sequence[Tensor]) -> Tensor:
    """Contact sheets (3, H, W) under each other, narrower ones padded with white."""
    width = max(picture.shape[2] for picture in sheets)
    return torch.cat(
        [F.pad(picture, (0, width - picture.shape[2], 0, 8), value=1.0) for picture in sheets], dim=1
    )


def save_png(image: Tensor, path: Path) -> None:
    """Write (3, H, W) in [0, 1] as an 8-bit PNG; makes the folder if it is missing."""
    with whole(path) as temporary:
        write_png((image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8), str(temporary))


def _resize(video: Tensor, width: int) -> Tensor:
    height = max(1, round(video.shape[2] * width / video.shape[3]))
    return F.interpolate(video.float(), (height, width), mode="bilinear", antialias=True)


def _text_line(text: str, width: int) -> Tensor:
    line = np.full((22, width, 3), 255, np.uint8)
    cv2.putText(line, text, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return torch.from_numpy(line).permute(2, 0, 1).float() / 255


def sheet(
    shards: str,
    output: Path = Path("sheet.png"),
    clips: int = 2,
    frames: int = 4,
    panel_width: int = 320,
    predictions: Path | None = None,
) -> None:
    """Write a contact sheet of shards: left, warped, hole, right, anaglyph and disparity over time.

    Args:
        shards: path, glob, braces or URL of shards, such as 'data/*.tar'.
        output: PNG to write.
        clips: how many clips of each shard.
        frames: rows a clip, spread evenly over it.
        panel_width: pixels of one picture.
        predictions: folder of predicted right views, `**/{clip}.right.mp4`; adds the columns generated and
            error for the clips it has.
    """
    for name, value in {"clips": clips, "frames": frames, "panel_width": panel_width}.items():
        if value < 1:
            raise UserError(f"--{name} must be at least 1, got {value}")
    urls = expand_shards(shards)
    check_output(output, map(Path, urls))
    sheets = [
        _clip_sheet(raw, frames, panel_width, predictions)
        for url in urls
        for raw in islice(read_shard(url), clips)
    ]
    if not sheets:
        raise UserError(f"there is no clip in {shards}")
    save_png(stack(sheets), output)
    log.info("%d clips on %s", len(sheets), output)


def _clip_sheet(raw: RawClip, frames: int, panel_width: int, predictions: Path | None) -> Tensor:
    with raw.naming_errors():
        reader = ClipReader(raw)
        info = reader.info
        indices = spread(info.num_frames, frames)
        left, right = (reader.video(name, indices) for name in ("left", "right"))
        if reader.has_disparity:
            disparity = reader.disparity(indices, Region(0, 0, info.height, info.width))
            warped, hole = warp_view(left, disparity)
        else:
            disparity, whole = None, Region(0, 0, info.height, info.width)
            warped, hole = close_view(reader.video("warped", indices), reader.hole(indices, whole))
    left, warped, right = (video.float() / 255 for video in (left, warped, right))
    columns = {
        "left": left,
        "warped": warped,
        "hole": hole.float(),
        "right": right,
        "anaglyph": anaglyph(left, right),
    }
    size = f"{info.width}x{info.height}, {info.num_frames} frames, {float(info.fps):.4g} fps"
    title = f"{info.dataset}/{raw.key}  {size}"
    if disparity is not None:
        columns["disparity"] = colorize(disparity, info.disparity_min, info.disparity_max, "turbo")
        title += f", disparity {info.disparity_min:.1f} to {info.disparity_max:.1f} px"
    generated = _prediction(predictions, raw.key, indices, info) if predictions else None
    if generated is not None:
        columns |= {"generated": generated, "error": error_map(generated, right)}
    return contact_sheet(columns, title, panel_width)


def _prediction(folder: Path, key: str, indices: Sequence[int], info: ClipInfo) -> Tensor | None:
    path = next(iter(sorted(folder.rglob(f"{key}.right.mp4"))), None)
    if path is None:
        return None
    try:
        video = VideoDecoder(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} cannot be read as a video; predict it again") from error
    if len(video) != info.num_frames:
        raise UserError(
            f"{path} has {len(video)} frames and clip {key} {info.num_frames}; predict whole clips"
        )
    generated = video[indices].float() / 255
    if generated.shape[2:] != (info.height, info.width):
        size = f"{generated.shape[3]}×{generated.shape[2]}"
        raise UserError(
            f"{path} is {size} px and clip {key} {info.width}×{info.height}; predict at the clips' size"
        )
    return generated
