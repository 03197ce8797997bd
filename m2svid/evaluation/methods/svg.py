"""SVG, a method without training (Dai et al. 2025; published code at commit 9466625).

Shapes: V views, T frames, H W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKLTemporalDecoder, DDPMScheduler, UNet3DConditionModel
from torch import Generator, Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.evaluation.methods.base import Method, Trained
from m2svid.evaluation.methods.frame_matrix import FrameMatrix, Schedule
from m2svid.evaluation.methods.warps import Layered, warped_by
from m2svid.weights.fetch import resolve

Part = TypeVar("Part")

ZEROSCOPE = "cerspense/zeroscope_v2_576w"
_ZEROSCOPE_FILES = (
    "unet/config.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/tokenizer_config.json",
)
SVD_XT = "stabilityai/stable-video-diffusion-img2vid-xt"


class SVG(Method):
    """Inpaint views between the left eye and the right one together, with a frozen text-to-video model.

    The right view's disparity is the clip's, as for all methods, where SVG's own script stretches it to a
    baseline.

    Args:
        path: folder or hub id with `unet`, `scheduler`, `text_encoder` and `tokenizer`.
        vae: folder or hub id with Stable Video Diffusion's `vae`.
        prompt: description of the films; its script requires one, here it may be empty.
        negative_prompt: description of faults.
        num_views: of the matrix, both eyes among them.
        schedule: see `Schedule`; about 2,950 network passes of 16 frames with the defaults.
        half: run the U-Net in float16; the published code runs the VAE in it, too, where it may overflow.
        name: see `Method`; None = "svg".

    Attributes:
        matrix: the networks in their loop; made by `prepare`, unless it has been set.
    """

    own_name = "svg"
    warp = Layered()
    licence = "Zeroscope's weights: CC-BY-NC-4.0"

    def __init__(
        self,
        path: str = ZEROSCOPE,
        vae: str = SVD_XT,
        prompt: str = "",
        negative_prompt: str = "low-quality, blurry, flickering, ghost",
        num_views: int = 8,
        schedule: Schedule = Schedule(),  # noqa: B008 (frozen)
        half: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if num_views < 2:
            raise UserError(f"method {self.name}: num_views must be at least 2, got {num_views}")
        self.path, self.vae = path, vae
        self.steps = schedule.num_steps
        self._prompts = [negative_prompt, prompt]
        self._num_views, self._schedule = num_views, schedule
        self._dtype = torch.float16 if half else torch.float32
        self.matrix: FrameMatrix | None = None

    def check(self, frames: int | None = None) -> None:
        for path, layout, files in (
            (self.path, "Zeroscope", _ZEROSCOPE_FILES),
            (self.vae, "Stable Video Diffusion", ("vae/config.json",)),
        ):
            try:
                folder = resolve(path, files=files)
            except UserError as error:
                raise UserError(f"method {self.name}: {error}") from error
            missing = [file for file in files if not (folder / file).is_file()]
            if missing:
                raise UserError(
                    f"method {self.name}: {path} has no {', '.join(missing)}: give a folder of "
                    f"{layout}'s layout"
                )

    def prepare(self, trained: Trained, device: torch.device) -> None:
        if self.matrix is not None:
            return
        self.check()
        unet = self._load(UNet3DConditionModel, self.path, "unet", torch_dtype=self._dtype).to(device).eval()
        vae = self._load(AutoencoderKLTemporalDecoder, self.vae, "vae").to(device).eval()
        scheduler = self._load(DDPMScheduler, self.path, "scheduler")
        text = self._embed().to(device)
        self.matrix = FrameMatrix(unet, vae, scheduler, text, self._schedule)

    @torch.no_grad()
    def _embed(self) -> Tensor:
        """(2, L, D) embeddings of both prompts."""
        tokenizer = self._load(CLIPTokenizer, self.path, "tokenizer")
        encoder = self._load(CLIPTextModel, self.path, "text_encoder").eval()
        tokens = tokenizer(self._prompts, padding="max_length", truncation=True, return_tensors="pt")
        return encoder(tokens.input_ids).last_hidden_state

    def _load(self, kind: type[Part], path: str, subfolder: str, **options: Any) -> Part:
        try:
            return kind.from_pretrained(path, subfolder=subfolder, **options)
        except (OSError, ValueError, TypeError) as error:
            where = f"{path}/{subfolder}" if Path(path).is_dir() else f"{subfolder} of {path}"
            first = str(error).strip().partition("\n")[0]
            raise UserError(
                f"method {self.name}: can't load {where}: give a folder of Zeroscope's layout ({first})"
            ) from error

    def predict(self, clip: StereoBatch, generator: Generator) -> Tensor:
        shares = [view / (self._num_views - 1) for view in range(1, self._num_views)]
        seen = [warped_by(self.warp, clip, share) for share in shares]
        views = torch.cat([clip.left, *(view.warped for view in seen)])  # (V, T, 3, H, W)
        known = torch.cat([torch.ones_like(clip.hole), *(~view.hole for view in seen)])
        return self.matrix(views, known, generator)[None]
