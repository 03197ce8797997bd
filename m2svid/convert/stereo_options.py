"""The options of the verbs that end with a stereo film: model, screen plane, picture, encoding.

A class declares the options of one heading of --help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from m2svid.comfort.profiles import Placement, ProfileName, keep, open_profile
from m2svid.convert.options import DisparityOptions, RunOptions, WarpOptions, require
from m2svid.convert.presets import PresetName
from m2svid.errors import UserError
from m2svid.inference.memory import TILES
from m2svid.video.anaglyph import Method
from m2svid.video.codecs import CodecChoice, EncoderName
from m2svid.video.layouts import LAYOUTS, LayoutName


@dataclass(frozen=True)
class ModelOptions(RunOptions):
    """Options of the model that fills and repairs the warped view.

    Args:
        refine: "model" repairs and fills the warped view; "none" only fills its holes from the background
            around them, which needs no weights.
        weights: folder or hub id of an M2SVid model, as `weights import` writes it.
        blend: "full" takes the model's whole view, "holes" only what it puts into holes, and the rest as
            `--refine none` has it. Windows without holes then need no model.
        decode_area: with `--blend holes`, "needed" runs the model in tiles with holes only, and decodes only
            what surrounds holes where that is less: the decoder's norms then see 2 frames of a window, which
            with random weights differs by 36 to 45 dB in holes. "whole" is exact; auto = needed, or whole
            with --compile or --match-color, which need whole frames.
        match_color: give the right view the colours of the left one.
        window: frames that the model refines together; those that it was made for if not given.
        overlap: frames that neighbouring windows share; the later one knows the first half as the earlier one
            made it, the rest is cross-faded. The model's own if not given.
        tile: side of the squares into which large frames are cut, px; 0 = whole frames, which is taken if not
            given and there is memory for it.
        tile_overlap: px that neighbouring tiles share.
        decode_chunk: frames decoded at a time; the window, which is exact, if not given and there is memory
            for it. The decoder looks at neighbouring frames, and a chunk ends its view.
        decode_tile: side of the squares in which frames are decoded, px, joined softly; 0 = whole frames,
            which is exact, and taken if not given and there is memory to decode one.
        encode_dtype: numbers that the model's encoder calculates with; auto = those of `dtype`. With random
            weights, views made with float16 are 57 dB or more from those made with float32, with bfloat16
            38 dB.
        compile: compile the blocks of the networks for the GPU at hand, which makes the first window of each
            size take minutes; the log says how long. Results differ by rounding.
        num_steps: runs of the network for every window; the model's own if not given, 1 for M2SVid.
        noise_aug: level of the noise on the model's input; the model's own if not given, 0.02 for M2SVid.
        add_noise: whether that noise is really added, or the model only told of it.
    """

    section: ClassVar[str] = "model"
    refine: Literal["model", "none"] = "model"
    weights: str | None = None
    blend: Literal["full", "holes"] = "full"
    decode_area: Literal["auto", "needed", "whole"] = "auto"
    match_color: bool = False
    window: int | None = None
    overlap: int | None = None
    tile: int | None = None
    tile_overlap: int = 128
    decode_chunk: int | None = None
    decode_tile: int | None = None
    encode_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: bool = False
    num_steps: int | None = None
    noise_aug: float | None = None
    add_noise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("window", "decode_chunk", "num_steps"):
            number = getattr(self, name)
            require(number is None or number >= 1, name, "at least 1", number)
        for name in ("tile", "decode_tile"):
            side = getattr(self, name)
            squares = side is None or (side >= 0 and side % 64 == 0)
            require(squares, name, "a multiple of 64 px, or 0", side)
        self._check_tile_overlap()
        if self.decode_area == "needed" and (self.blend != "holes" or self.match_color or self.compile):
            raise UserError(
                "--decode-area needed is for --blend holes without --match-color and --compile, which need "
                "whole frames"
            )
        for name in ("overlap", "noise_aug"):
            number = getattr(self, name)
            require(number is None or number >= 0, name, "at least 0", number)
        if self.needs_model and self.weights is None:
            raise UserError(
                "--weights is missing: name a folder that `python -m m2svid weights import` made from the "
                "released weights, or give --refine none to fill holes without a model"
            )

    @property
    def needs_model(self) -> bool:
        """True if a model refines the views."""
        return self.refine == "model"

    def _check_tile_overlap(self) -> None:
        smallest = min(TILES) if self.tile is None else self.tile
        than = (
            f"than {smallest} px, the smallest tile that may be taken" if self.tile is None else "than --tile"
        )
        fits = self.tile_overlap % 8 == 0 and 0 <= self.tile_overlap < (smallest or 1 << 30)
        require(fits, "tile_overlap", f"a multiple of 8 px, smaller {than}", self.tile_overlap)


@dataclass(frozen=True)
class PlacementOptions(DisparityOptions):
    """Options of where the depth of the picture lies.

    Args:
        convergence: inverse depth, 0 (farthest) to 1 (nearest), that lies on the screen; nearer things come
            out of it; or "auto": in every shot the one that keeps to `profile`. The right view is shifted
            after refinement; its freed border is black.
        profile: way of watching whose limits of parallax "auto" keeps: tv, cinema, or headset.
        fov: horizontal angle that the picture fills, degrees: in a headset (60 if not given); for vr180, that
            of the film's camera, of which a phone has about 65.
    """

    convergence: float | Literal["auto"] = 0.667
    profile: ProfileName = "tv"
    fov: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.convergence != "auto":
            require(0 <= self.convergence <= 1, "convergence", "from 0 to 1", self.convergence)
        open_profile(self.profile, self.fov)  # checks the angle

    @property
    def by_shot(self) -> bool:
        """True if something depends on the depth of each shot."""
        return "auto" in (self.max_disparity, self.convergence)

    def placement(self, width: int, spread: tuple[float, float] | None = None) -> Placement:
        """Strength, px, and screen plane of a shot of a film of this width.

        Args:
            width: px.
            spread: inverse depth of the shot's far and near end; needed if `by_shot`.

        Raises:
            UserError: the disparity is more than half of the width.
        """
        percent = width / 100
        strength = None if self.max_disparity == "auto" else self.disparity_px(width)
        plane = None if self.convergence == "auto" else self.convergence
        if strength is not None and plane is not None:
            return Placement(strength, plane)
        assert spread is not None  # see above
        given = None if strength is None else strength / percent
        kept = keep(open_profile(self.profile, self.fov), *spread, given, plane)
        return Placement(strength or kept.max_disparity * percent, kept.convergence)


@dataclass(frozen=True)
class PictureOptions(PlacementOptions):
    """Options of how the views are put together.

    Args:
        layout: sbs, tb (top-bottom), cross (side by side for eyes that cross), each also -half; rows (those
            of both views alternate, for polarised displays); anaglyph; right (that view alone); pair (two
            files); vr180 (side by side as half spheres, for which the left view is resampled too); spatial
            (MV-HEVC: two layers, as Apple describes it); rgbd (the film beside its depth), also -half.
        anaglyph: for red-cyan glasses: "dubois" has the least ghosting; "color", "half-color", "optimized",
            "gray", and "true" for red-blue ones.
    """

    layout: LayoutName = "sbs"
    anaglyph: Method = "dubois"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout == "vr180" and self.fov is None:
            raise UserError("--layout vr180 needs --fov, the film's horizontal angle in degrees")
        if self.fov is not None and self.layout not in ("vr180", "spatial") and self.profile != "headset":
            raise UserError("--fov is for --layout vr180 and spatial, and for --profile headset")


@dataclass(frozen=True)
class EncodingOptions(RunOptions):
    """Options of how the stereo film is stored.

    Args:
        codec: of the output; auto = h264 where players, and cards for nvenc, have it for such pictures, else
            h265.
        crf: constant quality, smaller = better; the codec's own default if not given.
        speed: the encoder's preset, for instance slow, for av1 4, with nvenc p1 (fast) to p7; its own default
            if not given.
        encoder: "software", or "nvenc" on an NVIDIA card for h264, h265 and av1, whose crf means about the
            same there. A film that was begun with it is continued on the same card and driver. Not yet tried
            on a card.
        bits: 8 or 10 bits a sample; those of the source if not given.
        drop_streams: streams of the source to leave out: their numbers, or audio, subtitle, attachment, all,
            for instance 2,subtitle.
        convert_streams: convert sound that the output's container doesn't take, although that loses quality.
            Without it the run asks before it begins; conversions that lose nothing are always made.
    """

    section: ClassVar[str] = "encoding"
    codec: CodecChoice = "auto"
    crf: int | None = None
    speed: str | None = None
    encoder: EncoderName = "software"
    bits: Literal[8, 10] | None = None
    drop_streams: str | None = None
    convert_streams: bool = False


@dataclass(frozen=True)
class StereoOptions(PictureOptions, ModelOptions, EncodingOptions):
    """Options of the verbs that end with a stereo film."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout == "spatial" and (self.codec not in ("auto", "h265") or self.bits == 10):
            raise UserError("--layout spatial is H.265 of 8 bits: leave --codec and --bits out")

    @property
    def needs_model(self) -> bool:
        """True if a model refines the views: not where depth takes the place of one."""
        return super().needs_model and not LAYOUTS[self.layout].depth


@dataclass(frozen=True)
class Options(StereoOptions, WarpOptions):
    """Options of `convert`.

    Args:
        preset: options for a way of watching: quest, vision, tv, youtube, or cardboard. The log says what it
            sets; every option that is given goes before it.
        eyes: "right" keeps the left view as it is; "both" gives half of the disparity to each eye.
    """

    section: ClassVar[str] = "picture"
    preset: PresetName | None = None
    eyes: Literal["right", "both"] = "right"


MOST_USED = ("preset", "depth", "max_disparity", "refine", "weights", "layout")  # explained first in --help


def sections() -> dict[str, str]:
    """Option -> the heading that it stands under in --help, in the order of the headings."""
    declared: dict[str, list[str]] = {name: [] for name in ("film", "depth", "picture", "model", "encoding")}
    for kind in reversed(Options.__mro__):
        own = [name for name in vars(kind).get("__annotations__", {}) if name != "section"]
        declared.setdefault(getattr(kind, "section", ""), []).extend(own)
    return {name: section for section, names in declared.items() for name in names if name not in MOST_USED}
