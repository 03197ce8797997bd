"""Devices, models and encodings of a run, from the user's options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from m2svid.convert.options import DepthOptions, RunOptions
from m2svid.convert.report import Event
from m2svid.convert.stereo_options import StereoOptions
from m2svid.depth.base import DepthEstimator, DepthRequest, Span
from m2svid.depth.registry import open_depth
from m2svid.errors import UserError
from m2svid.inference.inpainter import BackgroundFill, Inpainter
from m2svid.inference.memory import limit_memory
from m2svid.video import nvenc
from m2svid.video.codecs import CRF, SPEEDS, CodecName, EncoderName, encoder_format, pick_codec, stored_color
from m2svid.video.excerpt import Excerpt
from m2svid.video.info import SDR
from m2svid.video.layouts import LAYOUTS, Layout, picture_size
from m2svid.video.pictures import Composer
from m2svid.video.planes import PixelFormat
from m2svid.video.read import Video
from m2svid.video.shots import Survey
from m2svid.video.vr180 import HalfSphere
from m2svid.video.write import Encoding

if TYPE_CHECKING:
    from m2svid.model.m2svid import M2SVid


def pick_devices(names: str) -> list[torch.device]:
    """Find the named devices; "auto" is CUDA where there is one.

    Raises:
        UserError: there is no such device.
    """
    if names == "auto":
        return [torch.device("cuda" if torch.cuda.is_available() else "cpu")]
    devices = []
    for name in names.split(","):
        try:
            devices.append(torch.empty(0, device=name.strip()).device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"--devices {name} can't be used: {str(error).splitlines()[0]}") from error
    return devices


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Find the named type of number; "auto" is what a device is quick with."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return getattr(torch, name)


class Models:
    """The models of a run: each is loaded once for each device, however many films there are.

    Args:
        options: of the run.

    Raises:
        UserError: a device can't be used, or its memory can't be limited.
    """

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self.devices = pick_devices(options.devices)
        for device in self.devices:
            limit_memory(options.vram, device)
        self._depths: dict[tuple[str, int], DepthEstimator] = {}
        self._refiners: list[M2SVid] = []

    def depths(self, options: DepthOptions, span: Span) -> list[DepthEstimator]:
        """Open the source of depth for every device.

        Raises:
            UserError: it can't be had.
        """
        found = [self._depth(options, span, place) for place in range(len(self.devices))]
        for depth in found[1:]:
            depth.share_memory(found[0])
        return found

    def _depth(self, options: DepthOptions, span: Span, place: int) -> DepthEstimator:
        key = options.depth, place
        if key not in self._depths:
            device = self.devices[place]
            dtype = pick_dtype(options.dtype, device)
            request = DepthRequest(options.depth, device, dtype, options.seed, options.depth_backbone)
            depth = open_depth(replace(request, kind=options.depth_kind, span=span))
            if depth.num_frames is not None:  # a file, which belongs to one film
                return depth
            self._depths[key] = depth
        return self._depths[key]

    def inpainters(
        self,
        options: StereoOptions,
        depths: Sequence[DepthEstimator] = (),
        tell: Callable[[Event], None] | None = None,
    ) -> list[Inpainter]:
        """Make the inpainter of a film for every device.

        Args:
            options: of the stereo film.
            depths: estimators of its depth on the same devices.
            tell: called when a model has been compiled.

        Raises:
            UserError: the weights can't be opened.
        """
        if not options.needs_model:
            return [BackgroundFill() for _ in self.devices]
        from m2svid.inference.refiner import Refiner  # takes seconds to import

        if not self._refiners:
            self._refiners = [self._load(options, device) for device in self.devices]
        names = ("window", "overlap", "tile", "tile_overlap", "decode_chunk", "decode_tile")
        names += ("compile", "num_steps", "noise_aug", "add_noise", "seed")
        given: dict[str, Any] = {name: getattr(options, name) for name in names}
        given["encode_dtype"] = (
            None if options.encode_dtype == "auto" else getattr(torch, options.encode_dtype)
        )
        given["decode_area"] = None if options.decode_area == "auto" else options.decode_area
        given["offload"] = any(depth.offload for depth in depths)
        refiners: list[Inpainter] = []
        for model, device in zip(self._refiners, self.devices, strict=True):
            memory = refiners[0].memory if refiners else None
            refiner = Refiner(model, device, memory=memory, **given)
            if tell is not None:
                refiner.on_compiled = lambda text: tell(Event("compiled", text))
            refiners.append(refiner)
        return refiners

    @staticmethod
    def _load(options: StereoOptions, device: torch.device) -> M2SVid:
        from m2svid.weights.load import load  # takes seconds to import

        return load(options.weights, dtype=pick_dtype(options.dtype, device)).eval()


def open_film(path: Path, options: RunOptions, second_layer: bool = False) -> Video:
    """Open a film, or the part of it that is wanted. Raises UserError as `Video` and `Excerpt` do."""
    reading: dict[str, Any] = {"second_layer": second_layer}
    reading |= {name: getattr(options, name) for name in ("autocrop", "deinterlace", "to_sdr", "hwaccel")}
    if options.start is None and options.end is None:
        return Video(path, options.rate, **reading)
    return Excerpt(path, options.rate, options.start, options.end, **reading)


def fit_depth(depths: Sequence[DepthEstimator], video: Video, film: Survey) -> None:
    """Let the depth of a film begin with the part that is wanted, and leave black bars out of both.

    Args:
        depths: of the film, on every device.
        video: the film, or the part of it.
        film: its survey.

    Raises:
        UserError: the depth can't belong to the film.
    """
    info, count = video.info, len(film.times)
    part = video if isinstance(video, Excerpt) and depths[:1] else None
    if part is not None and depths[0].num_frames not in (None, 1, count):  # it is that of the whole film
        before = part.frames_before()
        for depth in depths:
            depth.excerpt(before, count)
    for depth in depths:
        depth.check(count, info.width, info.height)
        if film.picture is not None:
            depth.crop = partial(film.picture.cut, width=info.width, height=info.height)
    video.crop(film.picture)


def stereo_encoding(video: Video, options: StereoOptions) -> tuple[Encoding | None, Composer]:
    """Encoding of a film's stereo film, None for a picture; and the composer of its views."""
    info, layout = video.info, LAYOUTS[options.layout]
    info = replace(info, color=stored_color(info.color, options.codec))
    sphere = None
    if layout.spherical:
        sphere = HalfSphere(info.width, info.height, options.fov, info.aspect)
    size = (sphere.side, sphere.side) if sphere else None
    encoding = None if video.is_picture else encoding_of(video, layout, options, size)
    stored = encoding and encoding.pixel_format
    return encoding, Composer(layout, stored, info, options.anaglyph, sphere)


def encoding_of(
    video: Video, layout: Layout, options: StereoOptions | None = None, size: tuple[int, int] | None = None
) -> Encoding:
    """Encoding of a film of views.

    Args:
        video: the source.
        layout: of the views.
        options: codec and quality; None = H.264 of 8 bits.
        size: width and height of each view, px, whose pixels are square; None = the source's own.
    """
    info, view = video.info, size or (video.info.width, video.info.height)
    bits = 8 if options is None or layout.layers else options.bits
    color, mastering = info.color, info.mastering
    if info.hdr and options is None:
        color, mastering = SDR, None
    elif info.hdr:
        if layout.layers or layout.depth or bits == 8:
            raise UserError(
                f"{video.path} is HDR, which needs 10 bits and a layout of two pictures: give --to-sdr, or "
                "another --bits or --layout"
            )
        bits = 10
    encoder: EncoderName = "software" if options is None else options.encoder
    if layout.layers:
        codec: CodecName = "h265"
    else:
        chosen = "h264" if options is None else options.codec
        stored = picture_size(layout, PixelFormat("420", 8), *view)
        codec = pick_codec(chosen, info.pixel_format, bits, stored, encoder)
    crf, speed = (None, None) if options is None else (options.crf, options.speed)
    for option, value in (("crf", crf), ("speed", speed)):
        if value is not None and codec not in CRF:
            raise UserError(f"--{option} is for {', '.join(CRF)}: {codec} has none; leave it out")
    pixel_format = encoder_format(codec, info.pixel_format, bits)
    width, height = picture_size(layout, pixel_format, *view)
    return Encoding(
        codec=codec,
        pixel_format=pixel_format,
        width=width,
        height=height,
        rate=info.rate,
        color=stored_color(color, codec),
        aspect=Fraction(1) if size else info.aspect,
        crf=crf if crf is not None else CRF.get(codec),
        speed=speed or (nvenc.SPEED if encoder == "nvenc" else SPEEDS.get(codec)),
        packing=layout.packing,
        layers=layout.layers,
        fov=None if options is None else options.fov,
        mastering=mastering,
        encoder=encoder,
    )


def named_files(options: RunOptions) -> dict[str, Path]:
    """Option -> the file or folder that it names, where it names none of a hub."""
    values = {name: getattr(options, name, None) for name in ("depth", "depth_backbone", "weights")}
    return {name: Path(value) for name, value in values.items() if value and Path(value).exists()}
