"""Videos to shards, end to end on made videos."""

import json
from fractions import Fraction

import numpy as np
import pytest

from data_prep.steps.video import StereoVideo, gray, split_evenly
from data_prep.stereo_video import main
from m2svid.data.clips import ClipReader, Region
from m2svid.data.sources import read_shard
from m2svid.errors import UserError
from tests.data_prep.scenes import BOX, HEIGHT, WIDTH, pair, stereo, texture, video

CALL = ("--layout", "side-by-side")


def clips(folder):
    return [ClipReader(raw) for shard in sorted(folder.glob("*.tar")) for raw in read_shard(str(shard))]


def luma_error(decoded, view):
    """Mean absolute error; chroma is stored at half the resolution, which noise does not survive."""
    return np.abs(gray(decoded.permute(1, 2, 0).numpy()).astype(float) - gray(view)).mean()


def test_clips_hold_all_frames_in_order(tmp_path):
    path = stereo(tmp_path / "my film.mp4", frames=25)
    assert main([str(path), "-o", str(tmp_path / "out"), *CALL, "--clip_seconds", "1"]) == 0
    made = clips(tmp_path / "out")
    assert [clip.info.num_frames for clip in made] == [12, 13]
    assert [clip.info.fps for clip in made] == [10, 10]
    assert (made[0].info.width, made[0].info.height) == (WIDTH, HEIGHT)
    assert (made[0].info.dataset, made[0].info.source) == ("out", "my film.mp4")
    for clip, first in zip(made, (0, 12), strict=True):
        for index in (0, clip.info.num_frames - 1):
            left, right, truth = pair(near=14 + (first + index) % 3)
            for name, view in (("left", left), ("right", right)):
                assert luma_error(clip.video(name, [index])[0], view) < 4
            disparity = clip.disparity([index], Region(0, 0, HEIGHT, WIDTH))[0, 0].numpy()
            assert np.median(disparity[BOX]) == pytest.approx(truth[BOX].max(), abs=0.5)
            assert np.abs(disparity - truth).mean() < 1


def test_top_bottom_swapped_is_put_right(tmp_path):
    views = [pair()[:2][::-1]] * 6
    path = video(tmp_path / "a.mp4", views, "top-bottom", Fraction(30000, 1001))
    call = [str(path), "-o", str(tmp_path / "out"), "--layout", "top-bottom"]
    assert main(call) == 1
    assert not list((tmp_path / "out").glob("*"))
    assert main([*call, "--swap_eyes", "true", "--split", "val"]) == 0
    (clip,) = clips(tmp_path / "out")
    assert clip.info.fps == Fraction(30000, 1001) and clip.info.split == "val"
    assert clip.info.notes["swapped_eyes"] is True
    assert luma_error(clip.video("left", [0])[0], pair()[0]) < 4


def test_odd_sizes_and_negative_disparities_are_noted(tmp_path):
    views = [tuple(view[:-1, :-1] for view in pair(far=-12, near=-2)[:2])] * 4
    path = video(tmp_path / "a.mkv", views)
    assert main([str(path), "-o", str(tmp_path / "out"), *CALL]) == 0
    (clip,) = clips(tmp_path / "out")
    assert clip.info.notes["disparity_shift"] == 16 and clip.info.notes["cropped_rows_columns"] == [1, 1]
    assert (clip.info.width, clip.info.height) == (WIDTH - 2 - 16, HEIGHT - 2)
    disparity = clip.disparity([0], Region(0, 0, clip.info.height, clip.info.width))
    assert disparity.min() >= 0 and disparity.median() == pytest.approx(4, abs=0.5)


def test_size_is_that_of_a_view(tmp_path):
    path = stereo(tmp_path / "a.mp4", frames=3)
    assert main([str(path), "-o", str(tmp_path / "out"), *CALL, "--size", "[384,192]"]) == 0
    (clip,) = clips(tmp_path / "out")
    assert (clip.info.width, clip.info.height) == (384, 192)
    assert clip.disparity([0], Region(0, 0, 192, 384)).median() == pytest.approx(8, abs=1)


def test_bad_videos_of_a_folder_are_reported_and_the_others_done(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    stereo(folder / "good.mp4")
    (folder / "corrupt.mp4").write_bytes(b"no video at all")
    (folder / "cut.mp4").write_bytes((folder / "good.mp4").read_bytes()[:-5000])
    mono = [(texture(HEIGHT, WIDTH, seed), texture(HEIGHT, WIDTH, seed + 50)) for seed in range(4)]
    video(folder / "mono.mp4", mono)
    (folder / "readme.txt").write_text("not a video")
    assert main([str(folder), "-o", str(tmp_path / "out"), *CALL]) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good-000000.tar"]
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("not prepared")]
    assert [name in message for name, message in zip(("corrupt", "cut", "mono"), errors, strict=True)] == [
        True
    ] * 3


def test_existing_shards_are_kept_unless_overwritten(tmp_path, capsys):
    path = stereo(tmp_path / "a.mp4", frames=4)
    call = [str(path), "-o", str(tmp_path / "out"), *CALL]
    assert main(call) == 0
    before = (tmp_path / "out" / "a-000000.tar").read_bytes()
    assert main(call) == 1
    assert "a-000000.tar exists already; give --overwrite true" in capsys.readouterr().err
    assert main([*call, "--overwrite", "true", "--split", "test"]) == 0
    after = (tmp_path / "out" / "a-000000.tar").read_bytes()
    assert after != before
    assert (
        json.loads(next(iter(read_shard(str(tmp_path / "out" / "a-000000.tar")))).members["json"])["split"]
        == "test"
    )


def test_wrong_calls(tmp_path, capsys):
    out = ["-o", str(tmp_path / "out"), *CALL]
    assert main([str(tmp_path / "missing.mp4"), *out]) == 2
    assert main([str(tmp_path), *out]) == 2
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        stereo(tmp_path / folder / "x.mp4", frames=2)
    assert main([str(tmp_path / "a"), str(tmp_path / "b" / "x.mp4"), *out]) == 2
    assert "would both be named x" in capsys.readouterr().err
    with pytest.raises(SystemExit) as wrong:
        main([str(tmp_path / "a"), "-o", "out", "--layout", "sbs"])
    assert wrong.value.code == 2


def test_odd_frame_cannot_be_halved(tmp_path):
    path = video(tmp_path / "a.mkv", [(np.zeros((8, 9, 3), np.uint8), np.zeros((8, 8, 3), np.uint8))])
    with pytest.raises(UserError, match=r"a\.mkv.*17 px"):
        next(StereoVideo(path, "side-by-side").frames())


def test_survey_is_spread_over_the_video(tmp_path):
    shades = [np.full((16, 16, 3), 10 * index, np.uint8) for index in range(21)]
    survey = StereoVideo(video(tmp_path / "a.mkv", zip(shades, shades, strict=True)), "side-by-side").survey(
        4
    )
    assert survey.num_frames == 21 and survey.fps == 10
    assert [int(left[0, 0, 0]) for left, _ in survey.pairs] == [0, 40, 80, 120, 160, 200]


def test_split_evenly_uses_every_frame():
    assert split_evenly(51, 50) == [51]
    assert split_evenly(51, 15) == [17, 17, 17]
    assert split_evenly(25, 10) == [12, 13]
    assert split_evenly(3, 100) == [3]
