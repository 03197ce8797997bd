"""NVENC, the encoder on NVIDIA's cards: its names and options in FFmpeg, and what it is not asked for."""

from __future__ import annotations

from m2svid.errors import UserError

NAMES = {"h264": "h264_nvenc", "h265": "hevc_nvenc", "av1": "av1_nvenc"}
SPEED = "p5"
LONGEST_H264 = 4096  # px, most cards' limit of a side; of h265 and av1 it is 8192
NEEDS = (
    f"NVENC needs an NVIDIA card and a driver that take such pictures (most take h264 of at most "
    f"{LONGEST_H264} px a side, h265 and av1 of 8192): give --encoder software or another codec"
)
_SPEEDS = tuple(f"p{number}" for number in range(1, 8))


def options(quality: int, speed: str) -> dict[str, str]:
    """Options of the encoder, as FFmpeg names them: constant quality without a limit of the rate.

    Args:
        quality: 1 and up, smaller = better, on about the scale of the software encoders' crf.
        speed: p1 (fast) to p7.
    """
    return {"preset": speed, "rc": "vbr", "cq": str(quality), "b": "0"}


def pix_fmt(name: str) -> str:
    """FFmpeg's name of the samples that it takes for those of a planar format."""
    return "p010le" if name == "yuv420p10le" else name


def check(codec: str, bits: int, layers: bool, quality: int | None, speed: str | None) -> None:
    """Check what can be known without a card.

    Args:
        codec: of the film.
        bits: of a sample.
        layers: the views are layers of the stream.
        quality: as of `options`.
        speed: as of `options`.

    Raises:
        UserError: it can't encode that.
    """
    if codec not in NAMES or layers:
        kind = "--layout spatial" if layers else f"--codec {codec}"
        raise UserError(f"--encoder nvenc is for {', '.join(NAMES)}: {kind} needs --encoder software")
    if codec == "h264" and bits > 8:
        raise UserError("--encoder nvenc has no H.264 of 10 bits: give --codec h265 or --bits 8")
    if speed not in _SPEEDS:
        raise UserError(f"--speed must be one of {', '.join(_SPEEDS)} with --encoder nvenc, not {speed}")
    if quality is None or quality < 1:  # it takes 0 for "choose yourself"
        raise UserError(f"--crf must be at least 1 with --encoder nvenc, not {quality}")
