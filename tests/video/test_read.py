"""What can't be read is named."""

from __future__ import annotations

import av
import numpy as np
import pytest

from m2svid.errors import UserError
from m2svid.video.planes import QUALITY
from m2svid.video.read import Video
from m2svid.video.shots import survey
from tests.convert.films import make_film


def test_a_file_that_is_no_video(tmp_path):
    (tmp_path / "film.mp4").write_text("not a film")
    with pytest.raises(UserError, match=r"film\.mp4 is not a video that can be read: Invalid data"):
        Video(tmp_path / "film.mp4")


def test_sound_alone(tmp_path):
    with av.open(str(tmp_path / "sound.mka"), "w", format="matroska") as container:
        track = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    with pytest.raises(UserError, match=r"sound\.mka has no video stream"):
        Video(tmp_path / "sound.mka")


def test_no_frame(tmp_path):
    with av.open(str(tmp_path / "empty.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=24, width=64, height=48, pix_fmt="yuv420p")
        container.start_encoding()
        assert not list(stream.encode(None))
    with pytest.raises(UserError, match=r"empty\.avi has a video stream without a frame"):
        Video(tmp_path / "empty.avi")


def test_a_film_that_was_cut_off_is_told(tmp_path, caplog):
    whole = make_film(tmp_path / "whole.mp4", 48)
    with (
        av.open(str(whole)) as source,
        av.open(str(tmp_path / "fast.mp4"), "w", options={"movflags": "faststart"}) as target,
    ):
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    data = (tmp_path / "fast.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    found = survey(Video(tmp_path / "cut.mp4"))
    assert 0 < len(found.times) < 48
    ends = f"it ends at 0:00:0{len(found.times) / 24:.1f}, but announces 0:00:02.0"
    assert ends in caplog.text


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj422p", "yuv444p", "yuv420p10le", "gray", "bgr0"])
@pytest.mark.parametrize("bits", [8, 16])
def test_rgb_is_what_ffmpeg_gives(tmp_path, pix_fmt, bits):
    codec = "ffv1" if pix_fmt == "bgr0" else "libx264"
    film = make_film(tmp_path / "film.mkv", 2, size=(66, 50), codec=codec, pix_fmt=pix_fmt)
    frame = list(Video(film).frames())[1]
    wanted = frame.raw.reformat(
        format="rgb24" if bits == 8 else "rgb48le",
        src_colorspace="ITU601",
        dst_colorspace="ITU601",
        src_color_range="JPEG" if pix_fmt in ("yuvj422p", "bgr0") else "MPEG",
        dst_color_range="JPEG",
        interpolation=QUALITY,
    )
    rgb = frame.rgb(bits)
    assert np.array_equal(rgb, wanted.to_ndarray())
    assert rgb.transpose(2, 0, 1).flags.c_contiguous
