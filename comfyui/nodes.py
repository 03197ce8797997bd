"""From a clip to a stereo clip, node by node, and from film to film in one node that streams.

Shapes: T images of a clip, H W pixels. An IMAGE is (T, H, W, 3), a MASK (T, H, W), float in [0, 1].
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import comfy.model_management
import comfy.utils
import numpy as np
import torch
import torch.nn.functional as F
from comfy_api.latest import ComfyExtension, InputImpl, io
from torch import Tensor

import m2svid
from m2svid.convert.options import DEFAULT_DEPTH
from m2svid.convert.presets import PresetName
from m2svid.convert.report import Event
from m2svid.convert.setup import pick_devices, pick_dtype
from m2svid.convert.stereo import RightView
from m2svid.depth.base import DepthRequest
from m2svid.depth.registry import open_depth
from m2svid.depth.shot import ShotDepth, to_disparity
from m2svid.inference.inpainter import BackgroundFill
from m2svid.inference.refiner import Refiner
from m2svid.inference.windows import plan_windows
from m2svid.video.anaglyph import anaglyph
from m2svid.video.layouts import LAYOUTS, LayoutName
from m2svid.video.pictures import shift, to_pixels
from m2svid.video.shots import Shot
from m2svid.warping.edges import clean_edges
from m2svid.warping.view import warp_view

Model = io.Custom("M2SVID_MODEL")

_CATEGORY = "video/M2SVid"
_CLIP_LAYOUTS = ["sbs", "sbs-half", "cross", "cross-half", "tb", "tb-half", "anaglyph"]
_DTYPES = ["auto", "float32", "bfloat16", "float16"]
_WHOLE_CLIP = "All images are in memory together: films belong into the node Convert film."


class LoadModel(io.ComfyNode):
    """Open weights."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="M2SVidLoadModel",
            display_name="Load M2SVid",
            category=_CATEGORY,
            description="Opens weights that `python -m m2svid weights import` has written.",
            inputs=[
                io.String.Input("weights", tooltip="folder, file, or hub id"),
                io.String.Input("device", default="auto", tooltip="auto, cpu, cuda, cuda:1, ..."),
                io.Combo.Input("dtype", options=_DTYPES, default="auto", tooltip="auto: float16 on a GPU"),
            ],
            outputs=[Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, weights: str, device: str, dtype: str) -> io.NodeOutput:
        (place,) = pick_devices(device)
        return io.NodeOutput((m2svid.load(weights, dtype=pick_dtype(dtype, place)).eval(), place))


class Depth(io.ComfyNode):
    """Estimate the depth of a clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="M2SVidDepth",
            display_name="Depth of a clip",
            category=_CATEGORY,
            description=f"Inverse depth of one shot on one scale: white is near. {_WHOLE_CLIP}",
            inputs=[
                io.Image.Input("images", tooltip="one shot, without a cut"),
                io.String.Input("depth", default=DEFAULT_DEPTH, tooltip="as --depth of convert"),
                io.String.Input("device", default="auto", tooltip="auto, cpu, cuda, cuda:1, ..."),
            ],
            outputs=[io.Image.Output(display_name="depth")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, images: Tensor, depth: str, device: str) -> io.NodeOutput:
        (place,) = pick_devices(device)
        estimator = open_depth(DepthRequest(depth, place, pick_dtype("auto", place)))
        frames = list(to_pixels(_video(images), 8))
        estimator.check(len(frames), *frames[0].shape[1::-1])
        progress = _Progress(cls.hidden.unique_id, len(frames))
        with TemporaryDirectory() as folder:
            shot = ShotDepth(estimator, Shot(0, 0, len(frames)), lambda a, b: frames[a:b], Path(folder))
            shot.prepare(progress.add)
            maps = to_disparity(shot.get(0, len(frames), frames), *images.shape[1:3], 1.0)
        return io.NodeOutput(_images(maps.expand(-1, 3, -1, -1)))


class Warp(io.ComfyNode):
    """Warp a clip to the right eye."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="M2SVidWarp",
            display_name="Warp to the right eye",
            category=_CATEGORY,
            description="Shifts the pixels of the left view by their depth; what nothing covers is a hole.",
            inputs=[
                io.Image.Input("images", tooltip="left view"),
                io.Image.Input("depth", tooltip="inverse depth, white is near, of any size"),
                io.Float.Input(
                    "max_disparity",
                    default=0.03,
                    min=0.001,
                    max=0.5,
                    step=0.001,
                    tooltip="shift of the nearest against the farthest point, as a share of the width",
                ),
                io.Boolean.Input(
                    "for_model",
                    default=True,
                    tooltip="as the model was trained, with closed holes; False: with soft, clean edges, for "
                    "filling without a model",
                ),
            ],
            outputs=[io.Image.Output(display_name="warped"), io.Mask.Output(display_name="hole")],
        )

    @classmethod
    def execute(cls, images: Tensor, depth: Tensor, max_disparity: float, for_model: bool) -> io.NodeOutput:
        left = _video(images)
        near = depth[..., 0].float().cpu().numpy()
        if len(near) != len(left):
            raise m2svid.UserError(f"depth has {len(near)} images, but images has {len(left)}: give one each")
        disparity = to_disparity(near, *left.shape[-2:], max_disparity * left.shape[-1])
        if for_model:
            warped, hole = warp_view(left, disparity)
        else:
            warped, hole = BackgroundFill().warp(left, clean_edges(disparity))
        return io.NodeOutput(_images(warped), hole[:, 0].float())


class Refine(io.ComfyNode):
    """Fill and repair a warped clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="M2SVidRefine",
            display_name="Refine the right view",
            category=_CATEGORY,
            description="Fills the holes of the warped view and repairs the rest, in windows of any number; "
            f"without a model it only fills holes from the background around them. {_WHOLE_CLIP}",
            inputs=[
                io.Image.Input("images", tooltip="left view"),
                io.Image.Input("warped"),
                io.Mask.Input("hole"),
                io.Float.Input("fps", default=24.0, min=1.0, max=1000.0, step=0.001),
                io.Combo.Input(
                    "blend",
                    options=["full", "holes"],
                    default="full",
                    tooltip="holes: the warped view's own pixels stay outside of holes",
                ),
                io.Boolean.Input("match_color", default=False, tooltip="give it the left view's colors"),
                Model.Input("model", optional=True),
            ],
            outputs=[io.Image.Output(display_name="right")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        warped: Tensor,
        hole: Tensor,
        fps: float,
        blend: str,
        match_color: bool,
        model: tuple[m2svid.M2SVid, torch.device] | None = None,
    ) -> io.NodeOutput:
        inpainter: BackgroundFill | Refiner = BackgroundFill()
        if model is not None:
            comfy.model_management.unload_all_models()  # the device's memory is for this one now
            inpainter, hole = Refiner(*model), hole > 0.5
        view = RightView(inpainter, "holes" if blend == "holes" else "full", match_color, fps, 16)
        clips = _video(images), _video(warped), hole[:, None].cpu()
        progress, done, made = _Progress(cls.hidden.unique_id, len(images)), [], None
        for window in plan_windows([Shot(0, 0, len(images))], inpainter.window, inpainter.overlap):
            shared = made[-window.shared :] if made is not None and window.shared else None
            made = view(window, *(clip[window.start : window.stop] for clip in clips), shared)
            emitted = made[window.emit_start - window.start : window.emit_stop - window.start]
            done.append(torch.from_numpy(emitted.astype("float32") / 65535))
            progress.add(len(emitted))
        return io.NodeOutput(torch.cat(done))


class Layout(io.ComfyNode):
    """Put both views into one picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="M2SVidLayout",
            display_name="Stereo layout",
            category=_CATEGORY,
            description="Side by side, top-bottom, crossed, or anaglyph for red-cyan glasses.",
            inputs=[
                io.Image.Input("left"),
                io.Image.Input("right"),
                io.Combo.Input("layout", options=_CLIP_LAYOUTS, default="sbs"),
                io.Float.Input(
                    "shift",
                    default=0.02,
                    min=-0.25,
                    max=0.25,
                    step=0.001,
                    tooltip="how far the right view moves to the right, as a share of the width: things of "
                    "this disparity lie on the screen; convert takes 0.667 times max_disparity",
                ),
            ],
            outputs=[io.Image.Output(display_name="images")],
        )

    @classmethod
    def execute(cls, left: Tensor, right: Tensor, layout: str, shift: float) -> io.NodeOutput:
        if left.shape != right.shape:
            raise m2svid.UserError(
                f"left is {tuple(left.shape)}, right {tuple(right.shape)}: they must agree"
            )
        return io.NodeOutput(_images(_arranged(_video(left), _video(_moved(right, shift)), layout)))


class ConvertFilm(io.ComfyNode):
    """Convert a film from path to path, as `python -m m2svid convert` does."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        presets = ["none", *get_args(PresetName)]
        return io.Schema(
            node_id="M2SVidConvertFilm",
            display_name="Convert film",
            category=_CATEGORY,
            description="A stereo film of a film of any length: it streams, keeps sound and subtitles, and "
            "continues after an interruption when it is queued again.",
            inputs=[
                io.String.Input("film", tooltip="path of the film"),
                io.String.Input("output", default="", tooltip="path or folder; if empty, beside the film"),
                io.String.Input("weights", default="", tooltip="M2SVid folder; empty: fill without a model"),
                io.String.Input("depth", default=DEFAULT_DEPTH, tooltip="model or file, as --depth"),
                io.Combo.Input(
                    "preset",
                    options=presets,
                    default="none",
                    tooltip="chooses layout, max_disparity and convergence in place of the three below",
                ),
                io.Combo.Input("layout", options=list(get_args(LayoutName)), default="sbs"),
                io.Float.Input("max_disparity", default=0.03, min=0.001, max=0.5, step=0.001),
                io.Float.Input("convergence", default=0.667, min=0.0, max=1.0, step=0.001),
                io.String.Input("start", default="", tooltip="such as 00:01:10.5; empty: from the beginning"),
                io.String.Input("end", default="", tooltip="such as 00:02:00 or +10s; empty: to the end"),
                io.Boolean.Input("restart", default=False, tooltip="make an output again that exists"),
            ],
            outputs=[io.Video.Output(display_name="video"), io.String.Output(display_name="path")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        film: str,
        output: str,
        weights: str,
        preset: str,
        layout: str,
        max_disparity: float,
        convergence: float,
        **options: Any,
    ) -> io.NodeOutput:
        progress = _Progress(cls.hidden.unique_id)
        chosen = {name: value for name, value in options.items() if value != ""}
        chosen |= {"weights": weights} if weights else {"refine": "none"}
        if preset == "none":
            chosen |= {"layout": layout, "max_disparity": max_disparity, "convergence": convergence}
        else:
            chosen["preset"] = preset
        comfy.model_management.unload_all_models()
        made = m2svid.convert(film, output or None, on_event=progress.follow, **chosen)
        (path,) = map(str, made.values())
        return io.NodeOutput(InputImpl.VideoFromFile(path), path)


class _Progress:
    """The bar of a node; ComfyUI raises the user's interruption when it moves.

    Args:
        node: its id, since work may be done in several threads.
        total: images; 0 = not known.
    """

    def __init__(self, node: str, total: int = 0) -> None:
        self._bar, self._done = comfy.utils.ProgressBar(total, node_id=node), 0

    def add(self, images: int) -> None:
        self._done += images
        self._bar.update_absolute(self._done)

    def follow(self, event: Event) -> None:
        """Follow a conversion, stage by stage."""
        if event.name == "progress":
            done, total = event.fields["done"], event.fields["total"]
            self._bar.update_absolute(done, max(done, total))


def _video(images: Tensor) -> Tensor:
    """(T, H, W, 3 or 4) -> (T, 3, H, W) on the CPU."""
    return images[..., :3].float().cpu().movedim(-1, 1).contiguous()


def _images(video: Tensor) -> Tensor:
    """(T, 3, H, W) -> (T, H, W, 3)."""
    return video.movedim(1, -1).contiguous()


def _moved(images: Tensor, share: float) -> Tensor:
    columns = round(share * images.shape[2])
    return torch.from_numpy(np.stack([shift(image, columns) for image in images.float().cpu().numpy()]))


def _arranged(left: Tensor, right: Tensor, name: str) -> Tensor:
    layout, height, width = LAYOUTS[name], *left.shape[-2:]
    if layout.mixed:
        return anaglyph(left, right)
    views = [right, left] if layout.right_first else [left, right]
    if layout.squeezed:
        size = height // layout.rows, width // layout.columns
        views = [F.interpolate(view, size, mode="area") for view in views]
    return torch.cat(views, dim=-1 if layout.columns == 2 else -2)


class Extension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadModel, Depth, Warp, Refine, Layout, ConvertFilm]


async def comfy_entrypoint() -> Extension:
    """Give ComfyUI the nodes (its V3 interface)."""
    return Extension()
