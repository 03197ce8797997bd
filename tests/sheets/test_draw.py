"""Pictures: known colours, sizes and positions."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from m2svid.data.codec import encode_video
from m2svid.data.shards import Clip, ShardWriter
from m2svid.errors import UserError
from m2svid.sheets.draw import (
    ERROR_SCALE,
    colorize,
    contact_sheet,
    error_map,
    grid,
    heat,
    largest_hole,
    mark_hole,
    save_png,
    sheet,
    spread,
    stack,
    strip,
)


def flat(color: tuple[float, float, float], height: int = 2, width: int = 3) -> torch.Tensor:
    return torch.tensor(color)[:, None, None].expand(3, height, width)


def test_the_window_is_around_the_most_hole_pixels():
    hole = torch.zeros(3, 1, 8, 10, dtype=torch.bool)
    hole[0, 0, 0, :3] = hole[2, 0, 4:7, 6:9] = True
    assert largest_hole(hole, 3) == (2, 4, 6)


def test_heat_is_brightest_where_the_weight_is():
    weights = torch.zeros(2, 2, 3)
    weights[1, 0, 2] = 0.25
    pictures = heat(torch.ones(2, 3, 4, 6), weights)
    first, last = (colorize(torch.full((1, 1, 1), v), 0, 1, "inferno")[:, 0, 0] for v in (0.0, 1.0))
    expected = (0.4 + 0.6 * first)[None, :, None, None].repeat(2, 1, 4, 6)
    expected[1, :, :2, 4:] = (0.4 + 0.6 * last)[:, None, None]
    torch.testing.assert_close(pictures, expected)


def test_error_map_has_a_fixed_scale():
    truth = torch.zeros(2, 3, 4, 5)
    first, last = (colorize(torch.full((1, 1, 1), v), 0, 1, "inferno")[:, 0, 0] for v in (0.0, 1.0))
    assert torch.equal(error_map(truth, truth)[0, :, 0, 0], first)
    assert torch.equal(error_map(truth + ERROR_SCALE, truth)[1, :, 3, 4], last)
    assert torch.equal(error_map(truth + 1, truth)[1, :, 3, 4], last)
    assert last.sum() > 2 > 0.1 > first.sum()


def test_colorize_orders_channels_as_rgb():
    far, near = colorize(torch.tensor([[[3.0, 9.0]]]), 2, 10, "turbo").unbind(-1)
    assert far[2] > far[0] and near[0] > near[2]


def test_mark_hole():
    hole = torch.tensor([[[[True, False]]]])
    marked = mark_hole(torch.full((1, 3, 1, 2), 0.5), hole)
    assert marked[0, :, 0, 0].tolist() == [1, 0, 1] and marked[0, :, 0, 1].tolist() == [0.5] * 3


def test_grid_places_every_frame():
    frames = torch.tensor([0.0, 0.1]).view(2, 1, 1, 1).expand(2, 1, 3, 4)
    columns = [frames + 0.2, frames + 0.4]
    picture = grid(columns, gap=1)
    assert picture.shape == (3, 7, 9)
    assert picture[0, 0, 0].item() == pytest.approx(0.2) and picture[1, 4, 0].item() == pytest.approx(0.3)
    assert picture[2, 0, 5].item() == pytest.approx(0.4) and picture[0, 6, 8].item() == pytest.approx(0.5)
    assert (picture[:, 3] == 1).all() and (picture[:, :, 4] == 1).all()


def test_strip_with_and_without_truth():
    video, hole = torch.rand(5, 3, 6, 8), torch.zeros(5, 1, 6, 8, dtype=torch.bool)
    whole = strip(video, video, hole, video, video, rows=2)
    assert whole.shape == (3, 2 * 6 + 2, 5 * 8 + 4 * 2)
    torch.testing.assert_close(whole[:, 8:, 40:], video[-1])
    assert strip(video, video, hole, video, rows=9).shape == (3, 5 * 6 + 4 * 2, 4 * 8 + 3 * 2)


def test_spread_includes_both_ends():
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(2, 4) == [0, 1]
    assert spread(7, 1) == [0]


def test_contact_sheet_is_labelled_and_saved(tmp_path):
    clip = {"left": torch.full((2, 3, 20, 40), 0.5), "hole": torch.zeros(2, 1, 20, 40, dtype=torch.bool)}
    sheet = contact_sheet(clip, "street 0001", panel_width=80)
    assert sheet.shape == (3, 44 + 2 * 40 + 2, 80 + 2 + 80)
    assert (sheet[:, :22] < 0.5).any() and (sheet[:, 22:44, 82:] < 0.5).any()
    save_png(stack([sheet, sheet[:, :, :50]]), tmp_path / "new" / "sheet.png")
    read = cv2.imread(str(tmp_path / "new" / "sheet.png"))
    assert (
        read.shape == (2 * (126 + 8), 162, 3)
        and (read[60, 10] == 128).all()
        and (read[-10, 100] == 255).all()
    )


def shard(folder, keys=("a", "b", "c"), frames=6):
    """Clips whose left view is dark and right view bright, moved by 4 px on a ramp."""
    with ShardWriter(folder) as writer:
        for key in keys:
            left = torch.linspace(0, 120, 64).byte().expand(frames, 3, 32, 64).contiguous()
            disparity = torch.full((frames, 1, 32, 64), 4.0)
            writer.write(Clip(key, left, left.roll(-4, -1) + 100, Fraction(10), disparity, dataset="made"))
    return str(folder / "*.tar")


def test_sheet_of_a_shard(tmp_path):
    sheet(shard(tmp_path), tmp_path / "sheet.png", clips=2, frames=3, panel_width=64)
    picture = cv2.imread(str(tmp_path / "sheet.png")).astype(int)
    panel = 64 + 2
    assert picture.shape == (2 * (44 + 3 * 34 - 2 + 8), 6 * panel - 2, 3)
    rows = slice(44, 44 + 32)
    left, warped, hole, right = (picture[rows, index * panel : index * panel + 64] for index in range(4))
    assert np.abs(warped[:, 4:56] - left[:, 8:60]).max() < 6  # moved by 4 px to the left
    assert hole[:, 60:].min() == 255 and hole[:, :60].max() == 0 and warped[:, 60:].max() == 0
    assert (right - warped)[:, 4:56].min() > 90


def test_sheet_with_predictions(tmp_path):
    pattern = shard(tmp_path, keys=("a", "b"), frames=4)
    white = torch.full((4, 3, 32, 64), 255, dtype=torch.uint8)
    (tmp_path / "made").mkdir()
    path = tmp_path / "made" / "a.right.mp4"
    path.write_bytes(encode_video(white, Fraction(10), crf=12))
    sheet(pattern, tmp_path / "sheet.png", frames=1, panel_width=64, predictions=tmp_path)
    picture = cv2.imread(str(tmp_path / "sheet.png"))
    assert picture.shape[1] == 8 * 66 - 2
    assert picture[44:76, 6 * 66 : 6 * 66 + 64].min() > 250
    path.write_bytes(encode_video(white[:2], Fraction(10), crf=12))
    with pytest.raises(UserError, match=r"a\.right\.mp4 has 2 frames and clip a 4"):
        sheet(pattern, tmp_path / "sheet.png", predictions=tmp_path)
    path.write_bytes(b"no video")
    with pytest.raises(UserError, match=r"a\.right\.mp4 cannot be read"):
        sheet(pattern, tmp_path / "sheet.png", predictions=tmp_path)


def test_sheet_refuses_nonsense(tmp_path):
    with pytest.raises(UserError, match="--clips must be at least 1, got 0"):
        sheet(shard(tmp_path), tmp_path / "sheet.png", clips=0)
    with pytest.raises(UserError, match="no shard matches"):
        sheet(str(tmp_path / "none-*.tar"), tmp_path / "sheet.png")
