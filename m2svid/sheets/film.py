"""A converted film at a glance.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from m2svid.errors import UserError
from m2svid.files import check_output
from m2svid.sheets.draw import contact_sheet, save_png, spread
from m2svid.video.anaglyph import anaglyph
from m2svid.video.pictures import to_tensor
from m2svid.video.read import Frame, Video


def sheet(
    film: Path,
    warped: Path,
    converted: Path,
    output: Path = Path("sheet.png"),
    frames: int = 5,
    panel_width: int = 400,
) -> None:
    """Write a contact sheet of a conversion: left, warped, right and anaglyph, frames downwards.

    Args:
        film: what was converted.
        warped: warped.mkv, as `warp` writes it.
        converted: the stereo film, side by side or top-bottom at full size, or its right view alone.
        output: PNG to write.
        frames: rows, spread evenly over the film.
        panel_width: pixels of one picture.

    Raises:
        UserError: the films don't belong together.
    """
    for name, value in {"frames": frames, "panel_width": panel_width}.items():
        if value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    check_output(output, (film, warped, converted))
    video = Video(film)
    length = video.info.frames or sum(1 for _ in video.frames())
    places = spread(length, frames)
    size = (video.info.height, video.info.width)
    left, seen, made = (_pick(path, places) for path in (film, warped, converted))
    right = _right_view(made, size, converted)
    if seen.shape[-2:] != size:
        raise UserError(f"{warped} is {seen.shape[-1]}×{seen.shape[-2]}, the film {size[1]}×{size[0]}")
    columns = {"left": left, "warped": seen, "right": right, "anaglyph": anaglyph(left, right)}
    numbers = ", ".join(map(str, places))
    title = f"{film.name}: {size[1]}x{size[0]}, frames {numbers} of {length}"
    save_png(contact_sheet(columns, title, panel_width), output)


def _pick(path: Path, places: list[int]) -> Tensor:
    """(T, 3, H, W) in [0, 1]: frames of a film by number."""
    found = [frame.rgb() for frame in _chosen(Video(path), set(places))]
    if len(found) < len(places):
        raise UserError(f"{path} ends before frame {places[len(found)]}")
    return to_tensor(found).float() / 255


def _chosen(video: Video, places: set[int]) -> Iterator[Frame]:
    for frame in video.frames():
        if frame.index in places:
            yield frame
        if frame.index == max(places):
            return


def _right_view(made: Tensor, size: tuple[int, int], path: Path) -> Tensor:
    """The right view out of pictures of one or both."""
    for columns, rows in ((1, 1), (2, 1), (1, 2)):
        height, width = made.shape[-2] // rows, made.shape[-1] // columns
        if 0 <= height - size[0] <= 1 and 0 <= width - size[1] <= 1:  # encoders pad odd sizes
            view = made[..., (rows - 1) * height :, (columns - 1) * width :]
            return view[..., : size[0], : size[1]]
    raise UserError(
        f"{path} is {made.shape[-1]}×{made.shape[-2]}: it must have the size of the film, "
        f"{size[1]}×{size[0]}, or twice its width or height"
    )
