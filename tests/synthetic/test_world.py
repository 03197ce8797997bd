"""The procedural world against the warp, against hand calculation, and against itself at other moments."""

import math
import tarfile

import pytest
import torch

from m2svid.data.shards import ClipInfo
from m2svid.errors import UserError
from m2svid.synthetic.surfaces import Eye, Outline, Surface, rectangle, trace
from m2svid.synthetic.world import ProceduralWorld, make_shards
from m2svid.warping.splat import warp

WORLDS = [ProceduralWorld(seed, 96, 96, 4) for seed in range(3)]


@pytest.fixture(scope="module")
def rendered():
    return [world.render() for world in WORLDS]


def psnr(a, b, where):
    error = (a.float() - b.float())[where.expand_as(a)]
    return 10 * math.log10(255**2 / error.square().mean())


def psnr_of_warp(seen, offset=0.0):
    warped, hole = warp(seen.left, (seen.disparity + offset).clamp(min=0))
    return psnr(warped, seen.right, ~(hole | seen.hole))


def test_shapes_types_and_ranges(rendered):
    for world, seen in zip(WORLDS, rendered, strict=True):
        assert seen.left.shape == seen.right.shape == (4, 3, 96, 96)
        assert seen.left.dtype == seen.right.dtype == torch.uint8
        assert seen.disparity.shape == seen.hole.shape == (4, 1, 96, 96)
        assert seen.disparity.dtype == torch.float32 and seen.hole.dtype == torch.bool
        assert seen.disparity.min() >= 0 and seen.disparity.max() <= world.largest_disparity


@pytest.mark.parametrize("size", [(64, 64), (32, 160), (160, 32)])
def test_disparity_stays_in_its_range_for_every_shape(size):
    for seed in range(20):
        world = ProceduralWorld(seed, *size, num_frames=5, camera_period=4, max_disparity=6)
        for t in range(5):
            disparity = world.trace(t, world.eye(t)).disparity
            assert disparity.min() > 0 and disparity.max() <= 6


def test_same_seed_same_pixels_other_seed_other_pixels(rendered):
    again = ProceduralWorld(0, 96, 96, 4).render()
    for name in ("left", "right", "disparity", "hole"):
        assert torch.equal(getattr(again, name), getattr(rendered[0], name))
    assert not torch.equal(rendered[0].left, rendered[1].left)


def test_a_longer_clip_begins_with_the_shorter_one(rendered):
    longer = ProceduralWorld(0, 96, 96, 6).render()
    assert torch.equal(longer.left[:4], rendered[0].left)
    assert not torch.equal(longer.left[3], longer.left[4])


def test_without_objects_the_warped_left_view_is_the_right_view():
    """Two slanted planes: all that differs is interpolation. A fifth of a pixel more or less is worse."""
    seen = ProceduralWorld(5, 96, 96, 3, num_objects=0).render()
    assert psnr_of_warp(seen) > 40
    for offset in (-0.2, 0.2):
        assert psnr_of_warp(seen, offset) < psnr_of_warp(seen) - 4


def test_with_objects_no_shift_agrees_better(rendered):
    """Edges are blended in the views but not in the disparity, so less than without objects."""
    for seen in rendered:
        assert psnr_of_warp(seen) > 26
        for offset in (-1, -0.5, 0.5, 1):
            assert psnr_of_warp(seen, offset) < psnr_of_warp(seen) - 1.5


def test_hole_agrees_with_the_warp(rendered):
    """Splatting on two pixels narrows a hole by up to a pixel a side, and never makes one."""
    for seen in rendered:
        warped_hole = warp(seen.left, seen.disparity)[1]
        core = seen.hole.clone()
        core[..., 1:] &= seen.hole[..., :-1]
        core[..., :-1] &= seen.hole[..., 1:]
        assert (warped_hole & seen.hole).sum() / warped_hole.sum() > 0.98
        assert (warped_hole & core).sum() / core.sum() > 0.93
        assert 0.01 < seen.hole.float().mean() < 0.3


def test_one_plane_facing_the_camera_by_hand():
    """Disparity 3.25 everywhere: the right view is the left one 3.25 px to the left, 3.25 columns new."""
    plane = Surface(Outline(), (10.0, 5.0), 3.25)
    left, right = (plane.place(0, eye) for eye in (Eye(0.0, 0.0, 0.0, 0.0), Eye(1.0, 0.0, 0.0, 0.0)))
    rows, columns = torch.arange(4.0)[:, None], torch.arange(12.0)
    seen_left, seen_right = (trace([placed], rows, columns) for placed in (left, right))
    assert (seen_left.disparity == 3.25).all()
    assert torch.equal(seen_left.u, (columns - 10).expand(4, -1))
    assert torch.equal(seen_right.u, seen_left.u + 3.25)
    assert torch.equal(seen_right.v, seen_left.v)


def test_slanted_piece_by_hand():
    """d = 2 + 0.1·(X - 8); the right eye sees X at X - d, so u = X - 8 = (column - 6) / 0.9."""
    piece = Surface(rectangle(3, 2), (8.0, 4.0), 2.0, slope=(0.1, 0.0))
    wall = Surface(Outline(), (0.0, 0.0), 1.0)
    placed = [surface.place(0, Eye(1.0, 0.0, 0.0, 0.0)) for surface in (wall, piece)]
    hit = trace(placed, torch.arange(8.0)[:, None], torch.arange(14.0))
    u = (torch.arange(14.0) - 6) / 0.9
    on_piece = (u.abs() < 3) & ((torch.arange(8.0)[:, None] - 4).abs() < 2)
    assert torch.equal(hit.surface == 1, on_piece)
    torch.testing.assert_close(hit.u[on_piece], u.expand(8, -1)[on_piece])
    torch.testing.assert_close(hit.disparity[on_piece], (2 + 0.1 * u).expand(8, -1)[on_piece])
    assert (hit.disparity[~on_piece] == 1).all()


def test_what_the_right_eye_sees_in_a_hole_the_left_eye_sees_at_another_moment():
    """The points behind holes, named by surface and coordinates, are looked up in the left views."""
    world = ProceduralWorld(7, 64, 64, 8)
    now, hole = 3, world.render().hole[3, 0]
    hidden = points(world.trace(now, world.eye(now).right))[hole.flatten()]
    seen = [points(world.trace(t, world.eye(t))) for t in range(8)]
    others = torch.cat(seen[:now] + seen[now + 1 :])
    assert share_found(hidden, others) > 0.6
    assert share_found(hidden, seen[now]) < 0.4  # the neighbours of what is seen


def points(hit):
    """(pixels, 3): surface coordinates, and the surface, far from every other."""
    return torch.stack((hit.u, hit.v, 1000 * hit.surface), -1).flatten(0, 1)


def share_found(wanted, among):
    """Share of the points that lie within a pixel's half diagonal of another."""
    return (torch.cdist(wanted, among).amin(1) < 0.75).float().mean().item()


def test_make_shards_writes_what_the_world_shows(tmp_path):
    paths = make_shards(tmp_path, clips=2, frames=2, height=32, width=48, seed=3, split="val", fps=6)
    with tarfile.open(paths[0]) as tar:
        names = tar.getnames()
        info = ClipInfo.from_json(tar.extractfile("val-3-00001.json").read())
    assert {f"val-3-0000{i}.{end}" for i in (0, 1) for end in ("left.mp4", "right.mp4")} <= set(names)
    assert (info.width, info.height, info.num_frames, info.fps) == (48, 32, 2, 6)
    assert info.dataset == "procedural" and info.split == "val" and info.disparity_max <= 0.08 * 48
    other = make_shards(tmp_path, clips=1, frames=2, height=32, width=48, seed=3, split="train")
    with tarfile.open(other[0]) as tar:
        assert ClipInfo.from_json(tar.extractfile("train-3-00000.json").read()).source != info.source


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"height": 8}, "height .* at least 16, got 8"),
        ({"num_frames": 0}, "num_frames .* at least 1, got 0"),
        ({"seed": -1}, "seed .* at least 0, got -1"),
        ({"max_disparity": 40.0}, "max_disparity .* half the width of 64 px, got 40.0"),
        ({"max_disparity": float("nan")}, "max_disparity"),
    ],
)
def test_refuses_impossible_worlds(wrong, message):
    with pytest.raises(UserError, match=message):
        ProceduralWorld(**({"seed": 0, "height": 64, "width": 64, "num_frames": 2} | wrong))
