"""The codecs: what encodes them, which containers take them, and what players have of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from av.video.reformatter import ColorRange

from m2svid.video import nvenc
from m2svid.video.info import Color
from m2svid.video.planes import PixelFormat

CodecName = Literal["h264", "h265", "av1", "prores", "ffv1"]
EncoderName = Literal["software", "nvenc"]
CodecChoice = Literal["auto", "h264", "h265", "av1", "prores", "ffv1"]
ENCODERS = {"h264": "libx264", "h265": "libx265", "av1": "libsvtav1", "prores": "prores_ks", "ffv1": "ffv1"}
CRF = {"h264": 18, "h265": 20, "av1": 25}
SPEEDS = {"h264": "medium", "h265": "medium", "av1": "8"}
_CONTAINERS = {  # the first one is the best known
    "h264": (".mp4", ".m4v", ".mov", ".mkv"),
    "h265": (".mp4", ".m4v", ".mov", ".mkv"),
    "av1": (".mp4", ".mkv"),
    "prores": (".mov", ".mkv"),
    "ffv1": (".mkv",),
}
# Most samples of a picture at the highest level that players have: H.264's 5.2 (ITU-T H.264 A.3.1), HEVC's
# 6.2 (H.265 A.4.1), AV1's 6.3 (A.3); no side may be longer than the root of eight times that.
_LARGEST = {"h264": 36864 * 256, "h265": 35_651_584, "av1": 35_651_584}
_X26 = "ultrafast, superfast, veryfast, faster, fast, medium, slow, slower, veryslow, placebo"
SPEED_NAMES = dict.fromkeys(("h264", "h265"), f"its speeds are {_X26}")
SPEED_NAMES |= {"av1": "its speeds are numbers, 0 (slow) to 13"}


def encoder_format(codec: CodecName, source: PixelFormat, bits: int | None) -> PixelFormat:
    """Format of the stored pictures: 4:2:0 for players, 4:2:2 for ProRes, the source's for FFV1."""
    depth = bits or source.bits
    if codec == "prores":
        return PixelFormat("444" if source.chroma == "444" else "422", 10)
    return PixelFormat(source.chroma if codec == "ffv1" else "420", depth)


def stored_color(source: Color, codec: CodecChoice) -> Color:
    """Colours of the stored pictures: the source's, but ProRes has no full range."""
    return replace(source, range=int(ColorRange.MPEG)) if codec == "prores" else source


def containers(codec: CodecChoice, layers: bool = False) -> tuple[str, ...]:
    """Suffixes of the containers that take a codec, the best known one first."""
    allowed = _CONTAINERS["h264" if codec == "auto" else codec]
    return tuple(suffix for suffix in allowed if suffix != ".mkv") if layers else allowed


def pick_codec(
    codec: CodecChoice,
    source: PixelFormat,
    bits: int | None,
    size: tuple[int, int],
    encoder: EncoderName = "software",
) -> CodecName:
    """The codec that is meant: "auto" is H.264 where players and the encoder have it for such pictures, else
    H.265.

    Args:
        codec: given.
        source: format of the film.
        bits: given for a sample; None = those of the film.
        size: width and height of the pictures, px.
        encoder: that shall make them.
    """
    if codec != "auto":
        return codec
    encodable = encoder != "nvenc" or max(size) <= nvenc.LONGEST_H264
    return "h264" if (bits or source.bits) == 8 and encodable and is_playable("h264", *size) else "h265"


def is_playable(codec: str, width: int, height: int) -> bool:
    """Tell whether players have the codec for pictures of this size."""
    largest = _LARGEST.get(codec, math.inf)
    return width * height <= largest and max(width, height) <= math.sqrt(8 * largest)
