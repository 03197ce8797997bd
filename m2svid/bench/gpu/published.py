"""The published implementation, timed beside this one with the same weights and the same clip."""

from __future__ import annotations

import gc
import json
import subprocess
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from m2svid.batch import StereoBatch
from m2svid.bench.gpu import published_process
from m2svid.bench.gpu.agreement import relative_error
from m2svid.bench.gpu.refining import Size
from m2svid.bench.gpu.setting import GB, Setting
from m2svid.bench.networks import make_clip
from m2svid.bench.weights import PUBLISHED, SMALL, generate
from m2svid.errors import UserError
from m2svid.inference.refiner import Refiner
from m2svid.model.conditioning import MOTION_BUCKET_ID
from m2svid.warping.mask import mask_latent
from m2svid.warping.view import close_view
from m2svid.weights.load import load

NAME = "m2svid_weights.pt"  # by which weights have full attention
DOWNSCALE = 8  # of the autoencoder

_CODERS = (
    "conditioner_config.params.emb_models.3.params.encoder_config.params.ddconfig",
    "conditioner_config.params.emb_models.5.params.encoder_config.params.ddconfig",
    "first_stage_config.params.encoder_config.params",
    "first_stage_config.params.decoder_config.params",
)
_SMALL_SIZES: dict[str, Any] = {
    "network_config.params.model_channels": 64,
    "network_config.params.channel_mult": [1, 1, 1, 1],
    "network_config.params.context_dim": 32,
    **{f"{coder}.ch": 32 for coder in _CODERS},
    **{f"{coder}.ch_mult": [1, 1, 1, 1] for coder in _CODERS},
}
"""The changes that `SMALL` makes to the published configuration, in its own keys."""
_SMALL_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 224,
        "layers": 1,
        "width": 1280,
        "head_width": 80,
        "mlp_ratio": 32 / 1280,
        "patch_size": 14,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 64, "width": 32, "heads": 1, "layers": 1},
}


@dataclass(frozen=True)
class _Ours:
    seconds: list[float]
    peak: int
    view: Tensor  # (3, T, H, W) in [-1, 1], as the published code gives it


def beside_published(setting: Setting, size: Size) -> dict[str, Any]:
    """Measure both implementations on a clip: ours, the published one in its own process, and ours again.

    On a GPU both calculate in float16, as the published script does; its guidance, which doubles the U-Net's
    work and changes nothing, is left as it is. No noise is added to the conditioning.

    Returns:
        Figures of each, how many times faster ours is, and the difference of the right views, relative to the
        published one's norm.

    Raises:
        UserError: the published code can't be run.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        generate(folder / NAME, SMALL if setting.small else PUBLISHED)
        clip = make_clip(*size)
        before = _ours(setting, folder / NAME, clip)
        theirs = _theirs(setting, folder, clip)
        after = _ours(setting, folder / NAME, clip)
    seconds = before.seconds + after.seconds
    ours = {
        "seconds": median(seconds),
        "least": min(seconds),
        "most": max(seconds),
        "peak_gb": after.peak / GB,
    }
    figures = theirs["figures"]
    return {
        "seconds": ours["seconds"],
        "ours": ours,
        "published": figures,
        "times_faster": figures["seconds"] / ours["seconds"],
        "difference": relative_error(after.view, theirs["view"].clamp(-1, 1)),
    }


def _ours(setting: Setting, weights: Path, clip: StereoBatch) -> _Ours:
    gpu, clock = setting.device.type == "cuda", setting.clock
    model = load(weights, dtype=torch.float16 if gpu else torch.float32).eval()
    refiner = Refiner(model, setting.device, window=clip.num_frames, overlap=0, add_noise=False)
    views = clip.left[0], clip.warped[0], clip.hole[0], float(clip.fps)
    for _ in range(2):
        view = refiner(*views)
    clock.restart_peak()
    seconds = [clock.time(partial(refiner, *views)) for _ in range(setting.repeats)]
    peak = clock.peak()
    del model, refiner
    gc.collect()
    if gpu:
        torch.cuda.empty_cache()  # for the other process
    return _Ours(seconds, peak, view.transpose(0, 1) * 2 - 1)


def _theirs(setting: Setting, folder: Path, clip: StereoBatch) -> dict[str, Any]:
    view, hole = close_view(clip.warped[0], clip.hole[0])
    H, W = view.shape[-2:]
    mask = mask_latent(hole[None], (H // DOWNSCALE, W // DOWNSCALE))
    left, warped = (video.transpose(0, 1)[None] * 2 - 1 for video in (clip.left[0], view))
    content = {
        "video": left,
        "video_2nd_view": left,
        "reprojected_video": warped,
        "reprojected_mask": mask.transpose(1, 2),
        "fps_id": clip.fps,
        "motion_bucket_id": torch.tensor([MOTION_BUCKET_ID]),
    }
    torch.save({name: tensor.contiguous() for name, tensor in content.items()}, folder / "clip.pt")
    (folder / "small-clip.json").write_text(json.dumps(_SMALL_CLIP))
    job = {
        "checkout": str(setting.published.resolve()),
        "device": str(setting.device),
        "weights": str(folder / NAME),
        "clip": str(folder / "clip.pt"),
        "result": str(folder / "result.pt"),
        "repeats": setting.repeats,
        "sizes": _SMALL_SIZES if setting.small else {},
        "clip_model": str(folder / "small-clip.json") if setting.small else None,
    }
    (folder / "job.json").write_text(json.dumps(job))
    run_published(setting.published, setting.python, folder / "job.json")
    return torch.load(folder / "result.pt", weights_only=True)


def run_published(checkout: Path, python: str, job: Path) -> None:
    """Run a job of `published_process` with an interpreter. Raises UserError where it can't be run."""
    command = [python, published_process.__file__, str(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=checkout)
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""
    except OSError as error:
        reason = str(error)
    if reason:
        raise UserError(
            f"--published {checkout} can't be run by {python} ({reason}): give a checkout with its "
            "third_party folders, and with --python the interpreter of an environment that has its packages"
        )
