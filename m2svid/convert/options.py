"""The options of the verbs on films. Every verb takes a class of them; what verbs share is said once.

A class declares the options of one heading of --help.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from m2svid.convert.report import Mode
from m2svid.depth.base import Kind, Span
from m2svid.errors import UserError
from m2svid.video.excerpt import parse_range
from m2svid.video.hwaccel import Hwaccel
from m2svid.video.read import parse_rate

DEFAULT_DEPTH = "depth-anything/Depth-Anything-V2-Small-hf"


@dataclass(frozen=True)
class FilmOptions:
    """Options of how the film is read.

    Attributes:
        section: heading in --help of the options that a class declares.

    Args:
        start: take the film from here on: a time such as 00:01:10.5 or 70.5s, or the number of a frame, such
            as 1692f, counted from 0. Sound and subtitles are cut to match.
        end: take it up to here: a time or frame as above, which is not included; or how much: +2s, +50f.
        fps: frames per second of a folder of pictures, for instance 24 or 24000/1001.
        cuts: find shots, which depth and windows never cross; False takes the film as one shot.
        autocrop: keep black bars out of depth and model, and put them back, where they are certain: black in
            every frame and alike on both sides.
        deinterlace: make whole pictures of the two fields of each frame of an interlaced film.
        to_sdr: convert HDR to SDR (BT.709). Else it stays HDR, of 10 bits: networks are shown a tone-mapped
            copy, and what they make is mapped back.
        hwaccel: what decodes the film once its cuts are found: "off" is the CPU; "auto" a device that gives
            the same frames, and else the CPU; one that is named must be there. The result is the same. No
            device has been tried yet.
    """

    section: ClassVar[str] = "film"
    start: str | None = None
    end: str | None = None
    fps: str | None = None
    cuts: bool = True
    autocrop: bool = True
    deinterlace: bool = False
    to_sdr: bool = False
    hwaccel: Hwaccel = "off"

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            allowed = get_args(hint)
            if getattr(hint, "__origin__", None) is Literal and getattr(self, name) not in allowed:
                given = getattr(self, name)
                raise UserError(f"{flag(name)} must be one of {', '.join(map(str, allowed))}, not {given!r}")

        parse_range(self.start, self.end)  # checks them

    @property
    def rate(self) -> Fraction | None:
        """`fps` as a number."""
        return None if self.fps is None else parse_rate(self.fps)


@dataclass(frozen=True)
class RunOptions(FilmOptions):
    """Options of every verb on films.

    Args:
        devices: where the models run, for instance cuda, cpu, or cuda:0,cuda:1, which share out the shots.
        vram: limit of the memory that models may take on each GPU, for instance 8G; auto = all of it. Where
            it doesn't suffice, the run says so, lowers tile, decode chunk and decode tile, or DepthCrafter's
            window, and continues; those that are given stay as they are.
        dtype: numbers that models of videos calculate with; auto = float16 on a GPU, float32
            elsewhere.
        seed: of all noise; the same seed gives the same film.
        restart: make an output again that exists, or was begun with other settings.
        progress: "bar", "quiet", or "json": one object a line on standard error.
    """

    section: ClassVar[str] = "running"
    devices: str = "auto"
    vram: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    seed: int = 0
    restart: bool = False
    progress: Mode = "bar"

    def settings(self) -> dict[str, Any]:
        """The options that the result depends on: not where the run computes, what it shows, and
        what is only joined to the pictures."""
        aside = {"restart", "progress", "devices", "vram", "hwaccel"}
        aside |= {"drop_streams", "convert_streams", "preset"}
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in aside}


@dataclass(frozen=True)
class DepthOptions(RunOptions):
    """Options of the verbs that need depth.

    Args:
        depth: depth of the film: an npz with `depth` (T, H, W), or npy; a gray video; one or a folder of
            pictures; a depth model of transformers (local folder or hub id); video-depth-anything, or a file
            or folder of its weights; or DepthCrafter: its folder, or tencent/DepthCrafter. A model that is
            not on this machine is downloaded, and the log says so.
        depth_backbone: Stable Video Diffusion's folder or hub id, whose autoencoder and image encoder
            DepthCrafter uses.
        depth_kind: values of a depth file: "inverse" (near is large), "flipped" (near is small), "metric"
            (distance), or "auto": as the file says, else by which of bottom and top of the picture is nearer
            and by the values' range; it is printed.
    """

    section: ClassVar[str] = "depth"
    depth: str = DEFAULT_DEPTH
    depth_backbone: str | None = None
    depth_kind: Kind = "auto"


@dataclass(frozen=True)
class DisparityOptions(RunOptions):
    """The option of how deep the picture is.

    Args:
        max_disparity: how far the nearest and the farthest point are shifted against each other between the
            eyes: below 1 a share of the width, from 1 on pixels; or "auto": in every shot as much as
            `profile` allows, at most the 0.05 of the paper's demo. 0.03 with the convergence of 0.667 keeps
            any film from 1 % of the width in front of the screen to 2 % behind it, as broadcasters ask for.
    """

    section: ClassVar[str] = "picture"
    max_disparity: float | Literal["auto"] = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_disparity != "auto":
            require(self.max_disparity > 0, "max_disparity", "above 0", self.max_disparity)

    def disparity_px(self, width: int) -> float:
        """Largest disparity in pixels of a film of this width.

        Raises:
            UserError: it is more than half of the width, or "auto", which is chosen by shot.
        """
        if self.max_disparity == "auto":
            raise UserError("--max-disparity auto is known to `convert` and `comfort` only: give a number")
        pixels = self.max_disparity * width if self.max_disparity < 1 else self.max_disparity
        require(pixels <= width / 2, "max_disparity", f"at most half of the width, {width / 2:g} px", pixels)
        return pixels


@dataclass(frozen=True)
class WarpOptions(DisparityOptions, DepthOptions):
    """Options of the verbs that warp.

    Args:
        depth_range: "auto" takes integer files, and floats that fill 0 to 1, as they are, and normalises all
            else; "shot" normalises every shot to its own near and far.
        clean_edges: how far depth is sharpened at its edges before warping, so that no pixel is torn off
            between both sides: 1 suits depth estimated at about 500 px, less is less, 0 changes nothing.
            1 if not given for `--refine none`, and 0 for a model, which was trained so.
    """

    section: ClassVar[str] = "depth"
    depth_range: Span = "auto"
    clean_edges: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        strength = self.clean_edges
        require(strength is None or 0 <= strength <= 10, "clean_edges", "from 0 to 10", strength)


def require(valid: bool, name: str, allowed: str, value: object) -> None:
    if not valid:
        raise UserError(f"{flag(name)} must be {allowed}, not {value}")


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")
