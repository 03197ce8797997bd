"""Frames and planes survive the way through a shard."""

import hashlib
import io
import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from m2svid.data.codec import PlaneDecoder, VideoDecoder, encode_planes, encode_video
from tests.tiny_run import ROOT


def smooth_video(frames=10, height=64, width=96):
    rows = torch.linspace(20, 120, height)[:, None].expand(height, width)
    columns = torch.linspace(60, 240, width).expand(height, width)
    picture = torch.stack([rows, columns, 250 - rows])
    return torch.stack([(picture - 5 * t).clamp(0, 255).byte() for t in range(frames)])


def test_colours_come_back():
    video = smooth_video()
    decoded = VideoDecoder(encode_video(video, Fraction(30), crf=1))[range(10)]
    error = decoded.float() - video.float()
    assert error.abs().max() <= 6
    assert error.square().mean().sqrt() < 1.5
    assert error.mean((0, 2, 3)).abs().max() < 1.2  # FFmpeg's conversion itself rounds down


def test_colours_are_the_same_to_another_decoder(tmp_path):
    video = smooth_video()
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode_video(video, Fraction(30000, 1001), crf=1))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(30000, 1001)
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    ours = VideoDecoder(path.read_bytes())[range(10)].permute(0, 2, 3, 1).numpy()
    assert np.abs(frames.astype(int) - ours).max() <= 3


@pytest.mark.parametrize("width", [16, 24, 48, 72, 80, 112, 370])
def test_any_width(width):
    video = smooth_video(3, 32, width)
    decoded = VideoDecoder(encode_video(video, Fraction(30), crf=1))[[0, 2]]
    assert (decoded.float() - video[[0, 2]].float()).abs().mean() < 4


ENCODE_ON_ONE_CORE = """
import hashlib, os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from fractions import Fraction
from m2svid.data.codec import encode_video
from tests.data.test_codec import smooth_video
print(hashlib.sha256(encode_video(smooth_video(height=256, width=256), Fraction(30), 17)).hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux to take cores away")
def test_the_number_of_cores_changes_no_byte():
    """Machines of a cluster make the same shards."""
    here = hashlib.sha256(encode_video(smooth_video(height=256, width=256), Fraction(30), 17)).hexdigest()
    command = [sys.executable, "-c", ENCODE_ON_ONE_CORE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here


def test_frames_at_random():
    video = torch.arange(0, 250, 5, dtype=torch.uint8)[:, None, None, None].expand(50, 3, 96, 96).contiguous()
    decoder = VideoDecoder(encode_video(video, Fraction(30), crf=1))
    assert len(decoder) == 50
    for indices in ([0, 1, 2], [7, 8, 9], [3, 17, 31, 45], [49], [48, 2]):
        assert (decoder[indices].float() - video[indices].float()).abs().max() <= 2


def foreign(codec="libx264", pix_fmt="yuv420p", **options):
    """A clip of 60 frames that another program may have made."""
    buffer, random = io.BytesIO(), np.random.default_rng(0)
    blocks = random.integers(0, 255, (13, 17, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=30, width=130, height=98, options=options)
        stream.pix_fmt = pix_fmt
        for index in range(60):
            picture = np.ascontiguousarray(np.roll(blocks, index, 1)[:98, :130])
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt))
            )
        container.mux(stream.encode(None))
    return buffer.getvalue()


FOREIGN = [
    {"bf": "3", "g": "12"},
    {"x264-params": "open-gop=1:keyint=12:bframes=3:b-pyramid=normal"},
    {"codec": "libx265", "x265-params": "log-level=error:keyint=12:open-gop=1"},
    {"codec": "libx265", "pix_fmt": "yuv420p10le", "x265-params": "log-level=error"},
    {"codec": "mpeg4", "bf": "2", "g": "12"},
    {"pix_fmt": "yuv444p"},
]


@pytest.mark.parametrize("kind", FOREIGN)
def test_random_frames_are_those_of_reading_in_order(kind):
    data = foreign(**kind)
    with av.open(io.BytesIO(data)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    decoder = VideoDecoder(data)
    assert len(decoder) == len(frames) == 60
    for indices in ([0, 1, 2], [5, 11, 17, 23, 29], [59, 0, 30], [31], [7, 7, 8], range(60)):
        assert np.array_equal(decoder[indices].permute(0, 2, 3, 1).numpy(), frames[list(indices)])


def test_frames_that_can_not_be_decoded_are_refused():
    data = foreign(g="12")
    with av.open(io.BytesIO(data)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    decoder = VideoDecoder(data.replace(packets[30], bytes(len(packets[30]))))
    assert len(decoder) == 60
    assert decoder[[0, 23, 24, 59]].shape == (4, 3, 98, 130)  # of other groups, or before it
    with pytest.raises((ValueError, av.FFmpegError)):
        decoder[[20, 30]]
    with pytest.raises(IndexError):
        decoder[[60]]


def test_bytes_that_are_no_video():
    with pytest.raises(ValueError, match="no readable video"):
        VideoDecoder(b"hello" * 100)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_planes_come_back_exactly(dtype):
    planes = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (5, 30, 41), dtype=dtype)
    decoder = PlaneDecoder(encode_planes(planes))
    assert len(decoder) == 5
    for index, plane in zip([4, 0, 2], decoder[[4, 0, 2]], strict=True):
        assert plane.dtype == dtype
        assert np.array_equal(plane, planes[index])


def test_damaged_plane():
    data = bytearray(encode_planes(np.arange(6000, dtype=np.uint16).reshape(1, 60, 100)))
    data[200:260] = bytes(60)
    with pytest.raises(Exception, match=r"CRC|no readable"):
        PlaneDecoder(bytes(data))[[0]]


@pytest.mark.parametrize("first, works", [("m2svid.data.codec", True), ("decord", False)])
def test_decord_does_not_spoil_pngs(first, works):
    code = f"import {first}\nimport m2svid.data.codec"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode == 0) == works, result.stderr
    assert works or "import m2svid before decord" in result.stderr
