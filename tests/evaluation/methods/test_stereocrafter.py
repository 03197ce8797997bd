"""StereoCrafter's numbers against diffusers' modules in the steps of its published pipeline."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
from transformers import CLIPVisionModelWithProjection

from m2svid.errors import UserError
from m2svid.evaluation.methods import StereoCrafter, Trained
from m2svid.evaluation.methods.warps import warped_by
from m2svid.model.image_encoder import preprocess
from m2svid.model.sampler import Sampler
from tests.evaluation.methods.clips import make_clip
from tests.model.test_neighbours import small_unet

T = 3
CPU = torch.device("cpu")
SVD_SCHEDULER = {
    "prediction_type": "v_prediction",
    "use_karras_sigmas": True,
    "timestep_type": "continuous",
    "timestep_spacing": "leading",
    "sigma_min": 0.002,
    "sigma_max": 700.0,
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("stereocrafter") / "unet_diffusers"
    small_unet(9).save_pretrained(path)
    return path


@torch.no_grad()
def published(unet_path, svd, warped, hole, steps, guidance, generator):
    """(T, 3, H, W): the published pipeline's steps."""
    unet = UNetSpatioTemporalConditionModel.from_pretrained(unet_path).eval()
    vae = AutoencoderKLTemporalDecoder.from_pretrained(svd / "vae").eval()
    clip = CLIPVisionModelWithProjection.from_pretrained(svd / "image_encoder").eval()
    embedding = clip(preprocess(warped[:1], clip.config.image_size)).image_embeds[:, None]
    embedding = torch.cat([torch.zeros_like(embedding), embedding])
    frames = vae.encode(warped * 2 - 1).latent_dist.mode()[None]
    frames = torch.cat([torch.zeros_like(frames), frames])
    mask = F.interpolate(hole.float(), scale_factor=1 / 8)[None]
    mask = torch.cat([torch.zeros_like(mask), mask])
    ids = torch.tensor([[6.0, 127.0, 0.0]] * 2)
    scheduler = EulerDiscreteScheduler(**SVD_SCHEDULER)
    scheduler.set_timesteps(steps)
    z = torch.randn(1, T, 4, 8, 8, generator=generator) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = torch.cat([scheduler.scale_model_input(torch.cat([z, z]), t), frames, mask], dim=2)
        free, wanted = unet(x, t, embedding, ids).sample.chunk(2)
        z = scheduler.step(free + guidance * (wanted - free), t, z).prev_sample
    z = z[0] / vae.config.scaling_factor
    parts = [vae.decode(z[i : i + 2], num_frames=len(z[i : i + 2])).sample for i in range(0, T, 2)]
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize(("steps", "guidance"), [(1, 1.01), (8, 1.0), (8, 3.0), (25, 1.01)])
def test_the_published_pipeline(path, folder, steps, guidance):
    method = StereoCrafter(str(path), str(folder), steps, guidance)
    method.prepare(Trained(None, Sampler(), 0.02), CPU)
    clip = warped_by(method.warp, make_clip(T))
    right = method.predict(clip, torch.Generator().manual_seed(4))
    expected = published(
        path, folder, clip.warped[0], clip.hole[0], steps, guidance, torch.Generator().manual_seed(4)
    )
    # one step's estimate is a difference of numbers as large as the noise, 700·3
    assert (right[0] - expected).abs().max() < (1e-3 if steps == 1 else 1e-5)
    assert method.name == f"stereocrafter_{steps}" and method.steps == steps


def test_frames_are_decoded_two_at_a_time(path, folder):
    method = StereoCrafter(str(path), str(folder), 1)
    method.prepare(Trained(None, Sampler(), 0.02), CPU)
    clip = warped_by(method.warp, make_clip(T))
    right = method.predict(clip, torch.Generator().manual_seed(4))
    method.model.vae.decode_chunk = None
    whole = method.predict(clip, torch.Generator().manual_seed(4))
    assert (right - whole).abs().max() > 0.01  # the decoder sees time


def test_more_frames_than_its_window_are_refused(path, folder):
    method = StereoCrafter(str(path), str(folder), 1)
    method.prepare(Trained(None, Sampler(), 0.02), CPU)
    with pytest.raises(UserError, match=r"stereocrafter_1 takes 23 frames.*made/a has 24.*eval_clip\.frames"):
        method.predict(make_clip(24), torch.Generator())


def test_long_clips_are_refused_before_anything_is_measured(path, folder):
    method = StereoCrafter(str(path), str(folder))
    method.check(23)
    with pytest.raises(UserError, match=r"takes 23 frames, and data.eval_clip.frames is 24: set it to 23"):
        method.check(24)


def test_other_weights_are_refused(folder):
    method = StereoCrafter(str(folder / "unet"), str(folder))
    with pytest.raises(UserError, match=r"method stereocrafter_25: .*"):
        method.prepare(Trained(None, Sampler(), 0.02), CPU)
