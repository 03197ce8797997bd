"""Parts of films: the same frames as of the whole film, however it is stored."""

from fractions import Fraction

import av
import numpy as np
import pytest

from m2svid.convert.stereo_options import Options
from m2svid.convert.verbs import convert, depth
from m2svid.errors import UserError
from m2svid.video.excerpt import Excerpt, parse_place
from m2svid.video.read import Video
from m2svid.video.shots import survey
from tests.convert.films import make_depth, make_film, picture, read_rgb, read_times

RATE = 24


@pytest.fixture(scope="module", params=[".mp4", ".mkv", ".ts"])
def film(request, tmp_path_factory):
    """4 s with two cuts, where the decoder reorders frames and key frames are rare."""
    folder = tmp_path_factory.mktemp("excerpt")
    return make_film(folder / f"film{request.param}", 96, cuts=(40, 70))


@pytest.fixture(scope="module")
def whole(film):
    return [frame.rgb() for frame in Video(film).frames()]


@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        ("1s", "2s", range(24, 48)),
        ("00:00:01.01", "0:02.99", range(25, 72)),
        ("61f", "66f", range(61, 66)),
        ("50f", "+0.5s", range(50, 62)),
        ("0:02", "+7f", range(48, 55)),
        (None, "12f", range(12)),
        ("90f", None, range(90, 96)),
        ("2s", "50f", range(48, 50)),
    ],
)
def test_a_part_has_the_frames_of_the_whole_film(start, end, frames, film, whole):
    part = Excerpt(film, None, start, end)
    found = list(part.frames())
    assert [frame.index for frame in found] == list(range(len(frames)))
    assert all(np.array_equal(frame.rgb(), whole[place]) for frame, place in zip(found, frames, strict=True))
    assert part.frames_before() == frames.start
    seen = survey(part)
    assert seen.times[0] == 0
    assert [shot.start + frames.start for shot in seen.shots[1:]] == [
        cut for cut in (40, 70) if frames.start + 5 <= cut < frames.stop - 5
    ]
    again = [frame.rgb() for frame in seen.frames(part, len(frames) // 2)]  # as a later window reads them
    assert np.array_equal(again, whole[frames.start + len(frames) // 2 : frames.stop])


def test_the_film_is_not_decoded_from_its_beginning(tmp_path, monkeypatch):
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.options = 64, 48, {"g": "10"}
        for index in range(200):
            frame = av.VideoFrame.from_ndarray(picture(index, 64, 48), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    decoded = []
    monkeypatch.setattr("m2svid.video.decode._from", counting(decoded))
    part = Excerpt(path, None, "150f", "155f")
    decoded.clear()
    assert len(list(part.frames())) == 5
    assert len(decoded) < 30


def counting(decoded):
    from m2svid.video import decode

    original = decode._from

    def _from(*args, **kwargs):
        for frame in original(*args, **kwargs):
            decoded.append(frame)
            yield frame

    return _from


def test_a_folder_of_pictures(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(10):
        av.VideoFrame.from_ndarray(picture(index, 32, 24), "rgb24").to_image().save(folder / f"{index}.png")
    for start, end, frames in (("0.25s", "2s", range(1, 8)), ("3f", "+2f", (3, 4)), ("9f", None, (9,))):
        part = Excerpt(folder, Fraction(4), start, end)
        assert np.array_equal([frame.rgb() for frame in part.frames()], [picture(i, 32, 24) for i in frames])
        assert part.frames_before() == frames[0] and not part.is_picture


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("00:01:10.5", Fraction(141, 2)),
        ("1:10.5", Fraction(141, 2)),
        ("2:00:00", Fraction(7200)),
        ("70.5s", Fraction(141, 2)),
        ("1692f", 1692),
    ],
)
def test_places(text, place):
    assert parse_place("--start", text) == place
    assert isinstance(parse_place("--start", text), type(place))


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("70", None, r"--start must be a time such as 00:01:10.5 or 70.5s, or .* 1692f, not '70'"),
        ("-1s", None, "--start must be a time"),
        ("1:2:3:4", None, "--start must be a time"),
        ("5s", "0:03", "--end 0:03 must be behind --start 5s"),
        ("5f", "5f", "--end 5f must be behind --start 5f"),
        (None, "soon", "--end must be a time"),
        (None, "+0f", "leaves nothing"),
    ],
)
def test_places_that_are_none_are_refused_before_a_film_is_opened(start, end, message):
    with pytest.raises(UserError, match=message):
        Options(start=start, end=end, refine="none")


@pytest.mark.parametrize(("start", "end"), [("10s", None), ("300f", None), ("3.99s", "+0.001s")])
def test_a_part_without_a_frame_is_refused(start, end, film):
    with pytest.raises(UserError, match="no frame"):
        Excerpt(film, None, start, end)


def test_a_conversion_of_a_part_equals_that_part_of_a_conversion(tmp_path):
    """The depth file is that of the whole film, and the work folder knows which part it holds."""
    film = make_film(tmp_path / "film.mp4", 40, cuts=(20,))
    maps = np.random.default_rng(0).random((40, 6, 8), np.float32)
    maps[:, 0, 0], maps[:, 0, 1] = 0, 1
    np.savez(tmp_path / "depth.npz", depth=maps)
    options = {"depth": str(tmp_path / "depth.npz"), "depth_kind": "inverse", "refine": "none"}
    options |= {"progress": "quiet", "crf": 0}
    convert(str(film), tmp_path / "whole.mp4", **options)
    convert(str(film), tmp_path / "part.mp4", start="15f", end="30f", **options)
    assert np.array_equal(read_rgb(tmp_path / "part.mp4"), read_rgb(tmp_path / "whole.mp4")[15:30])
    assert read_times(tmp_path / "part.mp4") == [Fraction(index, RATE) for index in range(15)]
    np.savez(tmp_path / "part.npz", depth=maps[15:30])  # or that of the part alone
    convert(
        str(film),
        tmp_path / "same.mp4",
        start="15f",
        end="30f",
        **(options | {"depth": str(tmp_path / "part.npz")}),
    )
    assert np.array_equal(read_rgb(tmp_path / "same.mp4"), read_rgb(tmp_path / "part.mp4"))
    depth(film, tmp_path / "maps.mkv", depth=options["depth"], start="15f", end="+3f", progress="quiet")
    assert len(read_rgb(tmp_path / "maps.mkv")) == 3
    short = make_depth(tmp_path / "short.npz", 20)
    with pytest.raises(UserError, match="has 20 frames, but the part of the film has those from 15 to 29"):
        convert(str(film), tmp_path / "x.mp4", start="15f", end="30f", **(options | {"depth": str(short)}))


def packets(path, kind):
    """Time, s, length, s, and content of the packets of a stream."""
    with av.open(str(path)) as container:
        (stream,) = getattr(container.streams, kind)
        found = [packet for packet in container.demux(stream) if packet.dts is not None]
        unit = float(stream.time_base)
        return [(p.pts * unit, p.duration * unit, bytes(p).rstrip(b"\0")) for p in found]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_sound_is_cut_to_the_packet(suffix, tmp_path):
    film = make_film(tmp_path / f"film{suffix}", 96, sound=1)
    given = {"depth": str(make_depth(tmp_path / "depth.npz", 96)), "refine": "none", "progress": "quiet"}
    output = tmp_path / f"part{suffix}"
    convert(str(film), output, start="36f", end="60f", **given)
    wanted = [packet for packet in packets(film, "audio") if 1.5 <= packet[0] < 2.5]
    cut = packets(output, "audio")
    assert [content for _, _, content in cut] == [content for _, _, content in wanted]
    assert len(cut) == pytest.approx(48000 / 1024, abs=1)
    shifts = [time - new for (time, _, _), (new, _, _) in zip(wanted, cut, strict=True)]
    assert shifts == pytest.approx([1.5] * len(cut), abs=0.0011)
    assert read_times(output)[0] == 0


def test_subtitles_and_chapters_are_cut(tmp_path):
    """Of what is seen from 0 to 0.1 s, the part from 1/24 s on has the rest, and a later part has nothing."""
    film = make_film(tmp_path / "film.mkv", 24, subtitle=True, chapters=True)
    given = {"depth": str(make_depth(tmp_path / "depth.npz", 24)), "refine": "none", "progress": "quiet"}
    convert(str(film), tmp_path / "part.mkv", start="1f", end="+12f", **given)
    ((time, length, content),) = packets(tmp_path / "part.mkv", "subtitles")
    assert (time, content) == (0, b"hello, stereo")
    assert length == pytest.approx(0.1 - 1 / 24, abs=0.001)
    with av.open(str(tmp_path / "part.mkv")) as container:
        (chapter,) = container.chapters()
        assert chapter["start"] == 0
        assert float(chapter["end"] * chapter["time_base"]) == pytest.approx(0.1 - 1 / 24, abs=0.001)
    convert(str(film), tmp_path / "later.mkv", start="0.5s", **given)
    assert packets(tmp_path / "later.mkv", "subtitles") == []
    with av.open(str(tmp_path / "later.mkv")) as container:
        assert container.chapters() == []


def test_sound_that_is_converted_is_cut_too(tmp_path):
    film = make_film(tmp_path / "film.mp4", 48, sound=1)
    wave = tmp_path / "film.mkv"
    with av.open(str(film)) as source, av.open(str(wave), "w") as target:
        picture_stream = target.add_stream_from_template(source.streams.video[0])
        sound = target.add_stream("pcm_s16le", rate=48000, layout="mono")
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = picture_stream
                target.mux(packet)
        source.seek(0)
        for frame in source.decode(audio=0):
            target.mux(sound.encode(av.AudioResampler("s16", "mono", 48000).resample(frame)[0]))
        target.mux(sound.encode(None))
    given = {"depth": str(make_depth(tmp_path / "depth.npz", 48)), "refine": "none", "progress": "quiet"}
    convert(str(wave), tmp_path / "part.mp4", start="24f", end="36f", convert_streams=True, **given)
    cut = packets(tmp_path / "part.mp4", "audio")
    assert sum(length for _, length, _ in cut) == pytest.approx(0.5, abs=0.05)
    assert cut[0][0] == pytest.approx(0, abs=0.03)
