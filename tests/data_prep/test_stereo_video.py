"""Videos to shards, end to end on made videos."""

import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from data_prep import driver
from data_prep.steps.reading import ForwardReader
from data_prep.steps.video import gray, resize_view
from data_prep.stereo_video import StereoVideos
from m2svid.data.clips import ClipReader, Region
from m2svid.data.sources import read_shard
from m2svid.video.planes import to_planes
from tests.data_prep.scenes import BOX, HEIGHT, WIDTH, pair, stereo, texture, video

CALL = ("--workers", "0")


def main(words):
    return driver.main(StereoVideos, words)


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
    assert (made[0].info.dataset, made[0].info.source) == ("stereo_video", "my film.mp4")
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
    assert main([str(path), "-o", str(tmp_path / "out"), *CALL, "--split", "val"]) == 0
    (clip,) = clips(tmp_path / "out")
    assert clip.info.fps == Fraction(30000, 1001) and clip.info.split == "val"
    assert clip.info.notes["layout"] == "top-bottom" and clip.info.notes["swapped_eyes"] is True
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


def test_half_width_is_enlarged_without_repeating_pixels(tmp_path):
    views = [tuple(resize_view(view, (WIDTH // 2, HEIGHT)) for view in pair()[:2])] * 3
    path = video(tmp_path / "a.mkv", views)
    assert main([str(path), "-o", str(tmp_path / "out"), *CALL, "--size", f"[{WIDTH},{HEIGHT}]"]) == 0
    (clip,) = clips(tmp_path / "out")
    assert (clip.info.width, clip.info.height) == (WIDTH, HEIGHT)
    assert clip.disparity([0], Region(0, 0, HEIGHT, WIDTH)).median() == pytest.approx(4, abs=1)
    # Repeated pixels would leave every second step at 0, but for the noise of coding.
    steps = np.abs(np.diff(gray(clip.video("left", [0])[0].permute(1, 2, 0).numpy()).astype(float), axis=1))
    even, odd = steps[:, ::2].mean(), steps[:, 1::2].mean()
    assert 0.8 < even / odd < 1.25


def colour_bars(path, height):
    """A film without colour tags; PyAV's default writes none."""
    picture = np.zeros((height, 64, 3), np.uint8)
    picture[:] = (250, 90, 40)
    yuv = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)  # BT.601: only read back, never compared
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(yuv, "yuv420p")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("height", [480, 720])
def test_untagged_films_have_the_colours_that_convert_sees(tmp_path, height):
    """BT.709 from 720 rows on: one YUV value gives two colours (ITU-R BT.709 and BT.601 matrices)."""
    path = colour_bars(tmp_path / "a.mp4", height)
    with av.open(str(path)) as container:
        y, u, v = (int(plane[0, 0]) for plane in to_planes(next(container.decode(video=0))))
    kr, kb = (0.2126, 0.0722) if height >= 720 else (0.299, 0.114)
    luma, blue, red = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    (frame,) = ForwardReader(path).between(Fraction(0), Fraction(1, 10))
    np.testing.assert_allclose(
        frame.rgb()[height // 2, 32], np.clip(np.array([r, g, b]) * 255, 0, 255), atol=2
    )


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
    assert [path.name for path in (tmp_path / "out").glob("*.tar")] == ["train-good-000.tar"]
    told = json.loads(capsys.readouterr().out)
    assert told["videos_without_clips"] == ["corrupt", "cut", "mono"]
    assert told["rejected"] == {"error: unusable": 2, "layout: no stereo": 1}


def test_a_film_that_ends_before_it_says_keeps_what_is_whole(tmp_path):
    views = [pair(seed=7 * index)[:2] for index in range(40)]
    path = video(tmp_path / "a.mkv", views, container={"cluster_time_limit": "300"})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    assert main([str(path), "-o", str(tmp_path / "out"), *CALL, "--clip_seconds", "1"]) == 0
    report = json.loads((tmp_path / "out" / "train-a-000.json").read_text())
    assert 0 < len(report["clips"]) < 4 and len(report["clips"]) + len(report["rejected"]) == 4
    assert all(line["reason"].startswith(("cut off: ", "damaged: ")) for line in report["rejected"])
    assert all(clip["frames"] == 10 for clip in report["clips"])


def test_wrong_calls(tmp_path, capsys):
    out = ["-o", str(tmp_path / "out"), *CALL]
    assert main([str(tmp_path / "missing.mp4"), *out]) == 2
    assert main([str(tmp_path), *out]) == 2
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        stereo(tmp_path / folder / "x.mp4", frames=2)
    assert main([str(tmp_path / "a"), str(tmp_path / "b" / "x.mp4"), *out]) == 2
    assert "would both be named x" in capsys.readouterr().err
    assert main([str(tmp_path / "a"), "-o", "out", "--layout", "sbs"]) == 2
    assert "--layout must be one of side-by-side, top-bottom or null, not sbs" in capsys.readouterr().err
