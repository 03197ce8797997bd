"""SVG against its published loop, which takes all views through all steps, on small networks of diffusers.

All noise is one constant here, so that both meet the same noise whatever the order of their draws; its
places and factors are checked all the same.
"""

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, DDPMScheduler, UNet3DConditionModel

from m2svid.errors import UserError
from m2svid.evaluation.methods import SVG
from m2svid.evaluation.methods.frame_matrix import FrameMatrix, Schedule, latent_mask
from m2svid.evaluation.methods.warps import Layered, warped_by
from m2svid.synthetic.networks import make_networks
from tests.evaluation.methods.clips import make_clip

V, T, H, W, DOWN = 3, 2, 32, 48, 2
NOISE = 0.3
CPU = torch.device("cpu")
ZEROSCOPE_SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def networks():
    torch.manual_seed(0)
    unet = UNet3DConditionModel(
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=16,
        norm_num_groups=8,
    )
    for parameter in unet.parameters():  # temporal layers begin as identities
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4
    )
    return unet.eval(), vae.eval(), DDPMScheduler(**ZEROSCOPE_SCHEDULER)


@pytest.fixture
def constant_noise(monkeypatch):
    def constant(shape, generator=None, device=None, dtype=None, layout=None):
        return torch.full(tuple(shape), NOISE, dtype=dtype or torch.float32)

    for module in (
        "m2svid.evaluation.methods.frame_matrix",
        "diffusers.schedulers.scheduling_ddpm",
        "diffusers.models.autoencoders.vae",
    ):
        monkeypatch.setattr(f"{module}.randn_tensor", constant)


def matrix(seed=1):
    random = torch.Generator().manual_seed(seed)
    views = torch.rand(V, T, 3, H, W, generator=random)
    known = torch.ones(V, T, 1, H, W, dtype=torch.bool)
    for view in range(1, V):
        known[view, :, :, 6:22, 10 : 12 + 6 * view] = False
        known[view, :, :, 28, 40] = False
    return views, known


def mask_by_opencv(known):
    """The published masks of one frame: (H, W) bool -> eroded mask and soft latent mask."""
    eroded = cv2.erode(known.astype(np.float64), np.ones((3, 3)))
    box = cv2.filter2D(eroded, -1, np.ones((DOWN, DOWN)) / DOWN**2)
    reliable = np.where(box < 0.7, 0.0, 1.0) * eroded
    hard = np.where(cv2.resize(reliable, (W // DOWN, H // DOWN)) < 1, 0.0, 1.0)
    return eroded, cv2.GaussianBlur(hard, (5, 5), 0) * hard


@torch.no_grad()
def published(views, known, text, schedule):
    """Latents are (V, 1, C, T, h, w), as the published code has them."""
    unet, vae, scheduler = networks()
    factor = vae.config.scaling_factor
    masks = [[mask_by_opencv(known[v, t, 0].numpy()) for t in range(T)] for v in range(V)]
    pixels = torch.tensor(np.array([[m[0] for m in row] for row in masks])).float()[:, :, None]
    mask = torch.tensor(np.array([[m[1] for m in row] for row in masks])).float()[:, None, None]
    images = views * pixels

    def noise():
        return torch.full_like(source, NOISE)

    def encode(frames):
        posterior = vae.encode(frames * 2 - 1).latent_dist
        return ((posterior.mean + posterior.std * NOISE) * factor).permute(1, 0, 2, 3)[None]

    def decode(z):
        frames = (z / factor)[0].permute(1, 0, 2, 3)
        return (vae.decode(frames, num_frames=T).sample / 2 + 0.5).clamp(0, 1)

    def predict(z, t):
        free, wanted = unet(torch.cat([z, z]), t, text).sample.chunk(2)
        return free + schedule.guidance * (wanted - free)

    source = torch.stack([encode(images[v]) for v in range(V)])
    scheduler.set_timesteps(schedule.num_steps)
    timesteps = scheduler.timesteps
    z = noise()
    for i, t in enumerate(timesteps):
        after = timesteps[i + 1] if i + 1 < len(timesteps) else None
        active = range(V) if t > 500 else [V - 1]
        new = torch.zeros_like(z)
        for v in active:
            step = scheduler.step(predict(z[v], t), t, z[v])
            new[v] = step.prev_sample
            inpainted = decode(step.pred_original_sample) * (1 - pixels[v]) + images[v] * pixels[v]
            source[v] = encode(inpainted)
        z = new
        if after is not None:
            for turn in range(schedule.last_rounds if t < 500 else schedule.rounds):
                kept = 1.0
                for j in range(int(t - after)):
                    kept = kept * (1 - scheduler.betas[after + j])
                back = kept.sqrt() * z + (1 - kept).sqrt() * noise()
                back = back * (1 - mask) + scheduler.add_noise(source, noise(), t[None]) * mask
                new = torch.zeros_like(z)
                if t <= 500:
                    new[-1] = scheduler.step(predict(back[-1], t), t, back[-1]).prev_sample
                elif turn % 2 == 0:
                    for v in range(V):
                        new[v] = scheduler.step(predict(back[v], t), t, back[v]).prev_sample
                else:
                    for time in range(T):
                        row = back[:, 0, :, time].permute(1, 0, 2, 3)[None]  # (1, C, V, h, w)
                        guess = predict(row, t) if turn % 4 == 1 else predict(row.flip(2), t).flip(2)
                        new[:, 0, :, time] = scheduler.step(guess, t, row).prev_sample[0].permute(1, 0, 2, 3)
                z = new
            z = z * (1 - mask) + scheduler.add_noise(source, noise(), after[None]) * mask
        else:
            z = z * (1 - mask) + source * mask
    return decode(z[-1])


def test_the_published_loop(constant_noise):
    unet, vae, scheduler = networks()
    text = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(2))
    schedule = Schedule(num_steps=5, guidance=3.0, rounds=4, last_rounds=2)
    views, known = matrix()
    result = FrameMatrix(unet, vae, scheduler, text, schedule)(views, known, torch.Generator())
    expected = published(views, known, text, schedule)
    assert expected.std() > 0.05
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)


def test_masks_are_opencvs():
    _, known = matrix()
    random = torch.rand(known.shape, generator=torch.Generator().manual_seed(5)) > 0.02
    for case in (known, known & random):
        eroded = torch.tensor(
            np.array([[mask_by_opencv(case[v, t, 0].numpy())[0] for t in range(T)] for v in range(V)])
        )[:, :, None]
        expected = np.array([[mask_by_opencv(case[v, t, 0].numpy())[1] for t in range(T)] for v in range(V)])
        soft = latent_mask(eroded > 0, DOWN)
        np.testing.assert_allclose(soft[:, :, 0].numpy(), expected, atol=1e-6)
        assert ((soft > 0) & (soft < 1)).any()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of Zeroscope's and of Stable Video Diffusion's layout."""
    folder = tmp_path_factory.mktemp("small") / "networks"
    make_networks(folder)
    return str(folder / "zeroscope"), str(folder / "svd")


def test_a_clip_through_views_of_its_own_warp(folders):
    short = Schedule(num_steps=2, rounds=2, last_rounds=1)
    method = SVG(*folders, num_views=V, schedule=short)
    method.prepare(None, CPU)
    clip = make_clip(T, H, W)
    right = method.predict(warped_by(method.warp, clip), torch.Generator().manual_seed(0))
    assert right.shape == clip.left.shape and right.min() >= 0 and right.max() <= 1
    again = method.predict(clip, torch.Generator().manual_seed(0))
    assert torch.equal(right, again)  # it warps itself, and all its noise comes from the generator
    prompted = SVG(*folders, prompt="a street", num_views=V, schedule=short)
    prompted.prepare(None, CPU)
    assert not torch.equal(prompted.predict(clip, torch.Generator().manual_seed(0)), right)


def test_the_matrix_goes_from_the_left_eye_to_the_right_one(folders):
    method = SVG(*folders, num_views=3)
    clip = make_clip(T, H, W)
    given = {}

    def keep(views, known, generator):
        given.update(views=views, known=known)
        return views[-1]

    method.matrix = keep
    right = method.predict(clip, torch.Generator())
    assert torch.equal(given["views"][0], clip.left[0]) and given["known"][0].all()
    for view, share in ((1, 0.5), (2, 1.0)):
        seen = warped_by(Layered(), clip, share)
        assert torch.equal(given["views"][view], seen.warped[0])
        assert torch.equal(given["known"][view], ~seen.hole[0])
    assert torch.equal(right[0], given["views"][2])


def test_mistakes_are_named(folders):
    with pytest.raises(UserError, match="method svg: num_views must be at least 2, got 1"):
        SVG(num_views=1)
    with pytest.raises(UserError, match=r"method svg: .* has no unet/config.json, .*: .* Zeroscope's layout"):
        SVG(f"{folders[0]}/unet", folders[1]).check()
    with pytest.raises(UserError, match=r"has no vae/config.json: give a folder of Stable Video Diffusion's"):
        SVG(folders[0], folders[0]).check()
    with pytest.raises(UserError, match="method svg: nowhere does not exist"):
        SVG("nowhere").check()
    SVG(*folders).check()
