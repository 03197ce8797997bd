"""Frames by time, against a list of all frames."""

from fractions import Fraction

import av
import numpy as np
import pytest

from data_prep.dataset import Rejected
from data_prep.steps.reading import ForwardReader, find_videos, video_facts
from m2svid.errors import UserError
from tests.data_prep.vr180 import film

RATE = Fraction(30000, 1001)
FRAMES = 400


@pytest.fixture(scope="module", params=["mp4", "mkv"])
def numbered(request, tmp_path_factory):
    """A video whose frames tell their number: its bits as bright and dark fields."""
    pictures = []
    for index in range(FRAMES):
        bits = [(index >> bit) & 1 for bit in range(9)]
        pictures.append(np.full((32, 16, 3), 128, np.uint8).repeat(9, 1))
        for bit, value in enumerate(bits):
            pictures[-1][:, 16 * bit : 16 * bit + 16] = 220 * value + 16
    return film(tmp_path_factory.mktemp("numbered") / f"a.{request.param}", pictures, RATE, crf="12")


def numbers(frames):
    return [sum(int(frame.rgb()[16, 16 * bit + 8, 0] > 128) << bit for bit in range(9)) for frame in frames]


def edge(index):
    return (index - Fraction(1, 2)) / RATE


def test_facts(numbered):
    facts = video_facts(numbered)
    assert (facts.frames, facts.rate, facts.width, facts.height) == (FRAMES, RATE, 144, 32)


@pytest.mark.parametrize(
    "stretches",
    [
        [(0, 10), (10, 30), (30, 31)],
        [(5, 9), (250, 260), (390, 400)],  # over gaps
        [(300, 310), (20, 25), (22, 40), (399, 400)],  # backwards, overlapping, the last frame
    ],
)
def test_stretches(numbered, stretches):
    reader = ForwardReader(numbered)
    for first, last in stretches:
        assert numbers(reader.between(edge(first), edge(last))) == list(range(first, last))


def test_a_stretch_left_early_does_not_harm_the_next(numbered):
    reader = ForwardReader(numbered)
    next(reader.between(edge(3), edge(20)))
    assert numbers(reader.between(edge(6), edge(9))) == [6, 7, 8]
    assert numbers(reader.between(edge(4), edge(7))) == [4, 5, 6]


@pytest.mark.parametrize("first", [0, 7, 200])
@pytest.mark.parametrize("stride", [1, 2])
def test_moments_in_microseconds(numbered, first, stride):
    """As Stereo4D's annotations have them: 33,366.7 a frame, rounded."""
    wanted = [first + stride * index for index in range(20)]
    moments = [Fraction(round(number * 33366.7), 1_000_000) for number in wanted]
    reader = ForwardReader(numbered)
    assert numbers(reader.at(moments)) == wanted
    assert numbers(reader.at([number / RATE for number in (300, 399)])) == [300, 399]


def test_a_moment_without_a_frame_is_rejected(numbered):
    with pytest.raises(Rejected, match=r"no frame: none within half a frame of 13\.4"):
        list(ForwardReader(numbered).at([Fraction(FRAMES + 2) / RATE]))


def test_samples_are_spread_evenly(numbered):
    np.testing.assert_allclose(numbers(ForwardReader(numbered).sample(4)), [50, 150, 250, 350], atol=1)


def test_the_stream_may_begin_late(tmp_path):
    """Times count from the first frame, as a player shows it."""
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 25 * index, np.uint8), "rgb24")
            frame.pts, frame.time_base = index + 35, Fraction(1, 10)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    frames = list(ForwardReader(path).at([Fraction(3, 10), Fraction(7, 10)]))
    np.testing.assert_allclose([frame.rgb().mean() for frame in frames], [75, 175], atol=2)


def test_a_phones_rotation_is_applied(tmp_path):
    path = tmp_path / "turned.mp4"
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, 48:] = 200
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10, width=96, height=64, options={"crf": "4"})
        stream.set_display_rotation(90)
        file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode())
    (frame,) = ForwardReader(path).between(Fraction(0), Fraction(1, 20))
    assert frame.rgb().shape == (96, 64, 3)
    rows = frame.rgb()[[10, 85], 32, 0].astype(int)
    assert abs(rows[0] - rows[1]) > 190  # bright above dark, or dark above bright


def test_a_cover_picture_is_no_film(tmp_path):
    """MP4 marks covers; the first video stream is one here."""
    path = tmp_path / "cover.mp4"
    with av.open(str(path), "w") as file:
        cover = file.add_stream("png", rate=1, width=32, height=32, pix_fmt="rgb24")
        cover.disposition = av.stream.Disposition.attached_pic
        stream = file.add_stream("libx264", rate=10, width=96, height=64, options={"crf": "4"})
        file.mux(cover.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 255, np.uint8), "rgb24")))
        file.mux(cover.encode())
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 90, np.uint8), "rgb24")))
        file.mux(stream.encode())
    frames = list(ForwardReader(path).between(Fraction(0), Fraction(1, 4)))
    assert len(frames) == 3 and frames[0].rgb().shape == (64, 96, 3)


def test_videos_of_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x y.mp4").write_bytes(b"")
    assert find_videos([tmp_path / "a"]) == {"x_y": tmp_path / "a" / "x y.mp4"}
    with pytest.raises(UserError, match="would both be named x_y"):
        find_videos([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(UserError, match="no video in this folder"):
        find_videos([tmp_path])
