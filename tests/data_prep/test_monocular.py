"""Films of one camera become training clips: shots, depth, strength, and what is rejected."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessor,
)

from data_prep.driver import main
from data_prep.monocular import Monocular, depth_of, draw_strength, make_clip
from data_prep.steps.video import gray
from data_prep.steps.virtual_view import virtual_views
from m2svid.data.buckets import Bucket
from m2svid.data.clips import ClipReader, Region
from m2svid.data.sources import read_shard
from m2svid.data.transforms import Augmentation
from m2svid.errors import UserError
from tests.data_prep.scenes import texture

HEIGHT, WIDTH = 64, 96


def shot(seed, count, step=2):
    """A camera that moves over a texture; each shot has colours of its own, so that cuts are seen."""
    wide = texture(HEIGHT, WIDTH + step * count, seed)
    wide = (wide * np.roll([1.0, 0.6, 0.3], seed)).astype(np.uint8)
    return [wide[:, step * index : step * index + WIDTH] for index in range(count)]


def film(path, frames, fps=Fraction(10)):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=fps, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode())
    return path


def box_depth(count):
    """A near box, farther ground: inverse depth that fills 0 to 1."""
    depth = np.zeros((count, HEIGHT, WIDTH), np.float32)
    depth[:, 20:44, 30:60] = 1
    return depth


def call(films, depth, out, *options):
    return main(Monocular, [str(films), "--depth", str(depth), "-o", str(out), "--workers", "0", *options])


def luma_error(decoded, given):
    """Mean absolute error of (T, 3, H, W); chroma is stored at half the resolution, which noise does not
    survive."""
    grays = [
        [gray(frame.permute(1, 2, 0).numpy()).astype(float) for frame in video] for video in (decoded, given)
    ]
    return np.abs(np.array(grays[0]) - np.array(grays[1])).mean()


def clips(folder):
    return [ClipReader(raw) for shard in sorted(folder.glob("*.tar")) for raw in read_shard(str(shard))]


def rejected(folder):
    return [
        line for path in sorted(folder.glob("*.json")) for line in json.loads(path.read_text())["rejected"]
    ]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A film of two good shots, between them black, a still picture, and a letterboxed shot."""
    folder = tmp_path_factory.mktemp("mono")
    bars = [frame.copy() for frame in shot(3, 12)]
    for frame in bars:
        frame[:10] = frame[-10:] = 0
    black = [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 12
    still = [texture(HEIGHT, WIDTH, 2)] * 12
    frames = [*shot(0, 12), *black, *bars, *still, *shot(1, 12)]
    film(folder / "my film.mp4", frames)
    np.savez(folder / "depth.npz", depth=box_depth(len(frames)))
    assert call(folder / "my film.mp4", folder / "depth.npz", folder / "out", "--depth_kind", "inverse") == 0
    return folder


def test_every_stretch_is_a_clip_or_rejected_with_its_reason(prepared):
    made = clips(prepared / "out")
    assert [clip.info.num_frames for clip in made] == [12, 12] and made[0].info.fps == 10
    assert made[0].info.dataset == "monocular" and made[0].info.source == "my film.mp4"
    reasons = [(line["step"], line["reason"].partition(":")[0]) for line in rejected(prepared / "out")]
    assert reasons == [("stretches", "black"), ("stretches", "letterboxed"), ("stretches", "still")]


def test_a_clip_is_the_film_as_right_view_with_black_holes(prepared):
    for clip, seed in zip(clips(prepared / "out"), (0, 1), strict=True):
        right = clip.video("right", range(12))
        truth = torch.from_numpy(np.stack(shot(seed, 12))).permute(0, 3, 1, 2)
        assert luma_error(right, truth) < 4
        pixels = clip.info.notes["max_disparity_px"]
        assert 0.02 * WIDTH <= pixels <= 0.08 * WIDTH
        disparity = torch.from_numpy(box_depth(12))[:, None] * pixels
        expected = virtual_views(truth, disparity)
        hole = clip.hole(range(12), region())
        assert torch.equal(hole, expected.hole)
        # To the right of the box, as wide as the box is nearer than the ground.
        assert hole[0, 0, 30].nonzero().flatten().tolist() == list(range(60, 60 + round(pixels)))
        assert luma_error(clip.video("warped", range(12)), expected.warped) < 4
        assert luma_error(clip.video("left", range(12)), expected.left) < 4


def region():
    return Region(0, 0, HEIGHT, WIDTH)


def test_a_clip_trains_as_any_other(prepared):
    """Through the loader's own transform, at another size."""
    (reader, _) = clips(prepared / "out")
    augmentation = Augmentation(fps=(5, 10), scale=(0.8, 1.0))
    sample = augmentation(reader, Bucket(4, 32, 48, 1), np.random.default_rng(0))
    assert sample.left.shape == sample.warped.shape == (4, 3, 32, 48) and sample.hole.any()
    apart = (sample.warped.float() - sample.right.float()).abs()
    assert apart[..., :8].mean() < 4 < apart[sample.hole.expand_as(apart)].mean()


def test_the_strength_is_the_clips_own(prepared):
    first, second = (clip.info.notes["max_disparity_px"] for clip in clips(prepared / "out"))
    assert first != second
    drawn = [draw_strength(f"0/a-{index}", (0.02, 0.08)) for index in range(200)]
    assert min(drawn) > 0.02 and max(drawn) < 0.08 and np.mean(drawn) == pytest.approx(0.05, abs=0.005)
    assert draw_strength("0/a-0", (0.02, 0.08)) == drawn[0] != draw_strength("1/a-0", (0.02, 0.08))


def test_depth_of_each_film_from_a_folder(tmp_path):
    films, depths = tmp_path / "films", tmp_path / "depths"
    films.mkdir(), depths.mkdir()
    for name in ("a", "b"):
        film(films / f"{name}.mp4", shot(0, 8))
    np.savez(depths / "a.npz", depth=box_depth(8))
    np.savez(depths / "b_depth.npz", depth=1 - box_depth(8))
    assert call(films, depths, tmp_path / "out", "--depth_kind", "inverse") == 0
    near, far = clips(tmp_path / "out")
    assert (
        near.hole([0], region())[0, 0, 30, 60:62].all()
        and not near.hole([0], region())[0, 0, 30, 30:58].any()
    )
    assert far.hole([0], region())[0, 0, 30, 30:32].all()  # the box is the hollow
    assert depth_of(str(depths), films / "a.mp4") == str(depths / "a.npz")
    with pytest.raises(UserError, match=r"holds no depth for c\.mp4.*c\.npz"):
        depth_of(str(depths), films.relative_to(films) / "c.mp4")
    np.savez(depths / "b.npz", depth=box_depth(8))
    with pytest.raises(UserError, match=r"could both be the depth"):
        depth_of(str(depths), films / "b.mp4")


def test_a_depth_model_is_run_and_normalised_per_clip(tmp_path, tiny_depth):
    film(tmp_path / "a.mp4", shot(0, 8))
    assert call(tmp_path / "a.mp4", tiny_depth, tmp_path / "out", "--max_disparity", "[0.08,0.08]") == 0
    (clip,) = clips(tmp_path / "out")
    assert clip.info.notes["max_disparity_px"] == pytest.approx(0.08 * WIDTH, abs=0.01)
    assert clip.info.notes["depth"] == str(tiny_depth)
    again = tmp_path / "again"
    assert call(tmp_path / "a.mp4", tiny_depth, again, "--max_disparity", "[0.08,0.08]") == 0
    tars = [next(folder.glob("*.tar")).read_bytes() for folder in (tmp_path / "out", again)]
    assert tars[0] == tars[1]


@pytest.fixture(scope="module")
def tiny_depth(tmp_path_factory):
    """A random depth model in the published format."""
    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14,
        out_features=["stage1", "stage2"], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[8, 16], fusion_hidden_size=8,
        reassemble_factors=[2, 1], head_hidden_size=8,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("depth_model")
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessor(size={"height": 56, "width": 84}, ensure_multiple_of=14).save_pretrained(folder)
    return folder


def test_depth_of_another_length_is_named(tmp_path):
    film(tmp_path / "a.mp4", shot(0, 8))
    np.savez(tmp_path / "d.npz", depth=box_depth(9))
    assert call(tmp_path / "a.mp4", tmp_path / "d.npz", tmp_path / "out") == 1
    (line,) = rejected(tmp_path / "out")
    assert "has 9 frames, the film 8" in line["reason"]


def test_flat_depth_and_short_shots_are_rejected(tmp_path):
    film(tmp_path / "a.mp4", shot(0, 8))
    np.savez(tmp_path / "flat.npz", depth=np.ones((8, HEIGHT, WIDTH), np.float32))
    assert call(tmp_path / "a.mp4", tmp_path / "flat.npz", tmp_path / "out") == 1
    (line,) = rejected(tmp_path / "out")
    assert line["step"] == "depth" and line["reason"].startswith("flat")
    film(tmp_path / "b.mp4", shot(0, 3))
    np.savez(tmp_path / "b.npz", depth=box_depth(3))
    assert call(tmp_path / "b.mp4", tmp_path / "b.npz", tmp_path / "short") == 1
    (line,) = rejected(tmp_path / "short")
    assert line["step"] == "shots" and line["reason"].startswith("short shot: 3 frames")


def test_odd_sizes_are_cropped_and_size_resizes(tmp_path):
    frames = [frame[:-1, :-1] for frame in shot(0, 6)]
    film(tmp_path / "a.mkv", frames)
    np.savez(tmp_path / "a.npz", depth=box_depth(6))
    assert call(tmp_path / "a.mkv", tmp_path / "a.npz", tmp_path / "odd") == 0
    (clip,) = clips(tmp_path / "odd")
    assert (clip.info.width, clip.info.height) == (WIDTH - 2, HEIGHT - 2)
    assert call(tmp_path / "a.mkv", tmp_path / "a.npz", tmp_path / "small", "--size", "[48,32]") == 0
    (clip,) = clips(tmp_path / "small")
    assert (clip.info.width, clip.info.height) == (48, 32)


def test_a_clip_by_hand():
    pictures = [np.full((4, 8, 3), 100, np.uint8)] * 2
    maps = np.zeros((2, 4, 8), np.float32)
    clip = make_clip("a", pictures, maps, 0.05, Fraction(24), "none")
    clip.check()
    assert not clip.hole.any() and torch.equal(clip.warped, clip.right) and torch.equal(clip.left, clip.right)


@pytest.mark.parametrize("strength", ["[0.08,0.02]", "[0,0.1]", "[0.1,0.7]"])
def test_wrong_strengths_are_refused(tmp_path, strength):
    film(tmp_path / "a.mp4", shot(0, 4))
    assert call(tmp_path / "a.mp4", "none.npz", tmp_path / "out", "--max_disparity", strength) == 2
