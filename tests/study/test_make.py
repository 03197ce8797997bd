"""Studies of made-up methods: what is given away, that it is blind, and what is refused."""

import json
import re
from collections import Counter
from itertools import combinations

import av
import numpy as np
import pytest

from m2svid.errors import UserError
from m2svid.study.films import split_names
from m2svid.study.make import make
from m2svid.video.read import Video
from tests.evaluation.made_films import save_film
from tests.study.made_study import METHODS, given, save_films


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return save_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def desktop(films, tmp_path_factory):
    output = tmp_path_factory.mktemp("made") / "desktop"
    make(given(films), output, left=films / "left", hole=films / "hole", sets=2, seed=7)
    return output


@pytest.fixture(scope="module")
def headset(films, tmp_path_factory):
    output = tmp_path_factory.mktemp("made") / "headset"
    make(given(films, "true", "dark"), output, "headset", left=films / "left", lists=2, seed=7)
    return output


def page_data(study):
    html = (study / "for_participants" / "index.html").read_text()
    return json.loads(re.search(r'type="application/json">(.*?)</script>', html, re.DOTALL)[1])


def pixels(path):
    return np.stack([frame.rgb() for frame in Video(path).frames()]).astype(float)


def test_every_film_is_under_the_number_that_the_key_gives_it(desktop, films):
    key = json.loads((desktop / "key.json").read_text())
    assert Counter(film["method"] for film in key["films"].values()) == dict.fromkeys(METHODS, 3)
    for number, film in key["films"].items():
        shown = pixels(desktop / "for_participants" / "films" / f"{number}.mp4")
        differences = {}
        for method in METHODS:
            for video in ("clip0", "clip1", "clip2"):
                source = pixels(films / method / f"{video}.right.mkv")
                differences[method, video] = np.abs(source - shown).mean()
        assert min(differences, key=differences.get) == (film["method"], film["video"])
    references = {
        trial[role] for part in page_data(desktop)["parts"] for trial in part for role in ("left", "mask")
    }
    there = {path.stem for path in (desktop / "for_participants" / "films").iterdir()}
    assert there == references | key["films"].keys()
    assert len(references) == 6


def test_the_sets_share_the_videos(desktop):
    key = json.loads((desktop / "key.json").read_text())
    assert [len(part) for part in key["parts"].values()] == [2, 1]
    videos = [
        {key["films"][film]["video"] for film in trial} for part in key["parts"].values() for trial in part
    ]
    assert sorted(video for (video,) in videos) == ["clip0", "clip1", "clip2"]
    assert key["parts"] == {
        str(part + 1): [trial["films"] for trial in trials]
        for part, trials in enumerate(page_data(desktop)["parts"])
    }


def test_nothing_that_is_given_away_tells_the_method(desktop, films):
    """Neither words, nor the order of names, nor that of dates, nor what the films' containers say."""
    folder = desktop / "for_participants"
    html = (folder / "index.html").read_text()
    data = html[html.index('type="application/json">') :].partition("</script>")[0]
    assert not any(word in data for word in (*METHODS, "clip0", str(films)))
    assert re.findall(r"https?:[^\"]+", html) == ["http://www.w3.org/2000/svg"]  # a name, which nobody opens
    for part in page_data(desktop)["parts"]:
        for trial in part:
            assert trial["films"] == sorted(trial["films"])
    written = sorted((folder / "films").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert written == sorted(written)
    for path in written:
        with av.open(str(path)) as container:
            assert not container.streams.audio
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuvj420p")
            assert stream.average_rate == 8
            tags = {**container.metadata, **stream.metadata}
        assert tags.keys() <= {"major_brand", "minor_version", "compatible_brands", "encoder"} | {
            "language", "handler_name", "vendor_id"
        }  # fmt: skip


def test_another_seed_gives_other_numbers_and_the_same_seed_the_same(films, tmp_path):
    keys, numbers = [], []
    for seed in (7, 7, 8, None, None):
        output = tmp_path / str(len(keys))
        make(given(films, "true", "dark"), output, left=films / "left", sets=2, seed=seed)
        keys.append((output / "key.json").read_text())
        numbers.append(set(json.loads(keys[-1])["films"]))
    assert keys[0] == keys[1]
    assert not any(a & b for a, b in combinations(numbers[1:], 2))


def test_films_are_encoded_with_little_loss(desktop, films):
    """Luma against the source's, with another decoder's conversion (OpenCV's formula)."""
    key = json.loads((desktop / "key.json").read_text())
    found = []
    for number, film in key["films"].items():
        shown = pixels(desktop / "for_participants" / "films" / f"{number}.mp4")
        source = pixels(films / film["method"] / f"{film['video']}.right.mkv")
        luma = (shown - source) @ (0.2126, 0.7152, 0.0722)
        found.append(10 * np.log10(255**2 / np.mean(luma**2)))
    assert min(found) > 40
    assert key["encoding"]["smallest_luma_psnr"] <= min(found) + 0.1


def test_films_of_the_headset(headset, films):
    key = json.loads((headset / "key.json").read_text())
    folder = headset / "for_participants"
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "list1", "list2"]
    orders = []
    for part, trials in key["parts"].items():
        names = (folder / f"list{part}" / "playlist.m3u8").read_text().split()[1:]
        assert names == [f"00{n}{side}_LRF_Full_SBS.mp4" for n in (1, 2, 3) for side in "AB"]
        shown = [key["films"][film] for trial in trials for film in trial]
        for name, film in zip(names, shown, strict=True):
            both = pixels(folder / f"list{part}" / name)
            left = pixels(films / "left" / f"{film['video']}.mkv")
            right = pixels(films / film["method"] / f"{film['video']}.right.mkv")
            assert np.abs(both - np.concatenate([left, right], 2)).mean() < 12  # 4:2:0 of noise
        assert Counter(film["video"] for film in shown) == dict.fromkeys(["clip0", "clip1", "clip2"], 2)
        assert Counter(film["method"] for film in shown) == {"true": 3, "dark": 3}
        orders.append(trials)
    assert orders[0] != orders[1]


def test_more_than_two_methods_make_all_pairs(films, tmp_path):
    make(given(films, "true", "dark", "gray"), tmp_path / "s", "headset", left=films / "left", seed=1)
    key = json.loads((tmp_path / "s" / "key.json").read_text())
    pairs = Counter(frozenset(key["films"][f]["method"] for f in trial) for trial in key["parts"]["1"])
    assert pairs == {frozenset(p): 3 for p in (("true", "dark"), ("true", "gray"), ("dark", "gray"))}


def test_folders_may_hold_an_equals_sign(tmp_path):
    (tmp_path / "steps=1").mkdir()
    words = [f"{tmp_path}/steps=1", f"five={tmp_path}/steps=1"]
    assert split_names(words) == {"steps=1": tmp_path / "steps=1", "five": tmp_path / "steps=1"}


def test_sides_and_orders_are_drawn(films, tmp_path):
    """In twenty lists each method is first in some, and so is each video."""
    make(given(films, "true", "dark"), tmp_path / "s", "headset", left=films / "left", lists=20, seed=1)
    key = json.loads((tmp_path / "s" / "key.json").read_text())
    first = [key["films"][trials[0][0]] for trials in key["parts"].values()]
    assert {film["method"] for film in first} == {"true", "dark"}
    assert {film["video"] for film in first} == {"clip0", "clip1", "clip2"}


def test_left_views_out_of_the_films_that_predict_and_convert_write(films, tmp_path):
    for name, ending in (("predicted", ".sbs"), ("converted", "_LRF_Full_SBS")):
        for video in ("clip0", "clip1", "clip2"):
            left, right = (pixels(films / f"{view}.mkv") for view in (f"left/{video}", f"true/{video}.right"))
            both = np.concatenate([left, right], 2).astype(np.uint8)
            save_film(tmp_path / name / f"{video}{ending}.mkv", both)
            if name == "predicted":
                save_film(tmp_path / name / f"{video}.right.mkv", right.astype(np.uint8))
        make([str(tmp_path / name), *given(films, "dark")], tmp_path / f"study_{name}", seed=1)
        key = json.loads((tmp_path / f"study_{name}" / "key.json").read_text())
        trial = page_data(tmp_path / f"study_{name}")["parts"][0][0]
        video = key["films"][trial["films"][0]]["video"]
        shown = pixels(tmp_path / f"study_{name}" / "for_participants" / "films" / f"{trial['left']}.mp4")
        assert np.abs(shown - pixels(films / "left" / f"{video}.mkv")).mean() < 12
        assert trial["mask"] is None
        assert key["methods"] == [name, "dark"]


def test_odd_sizes_are_made_even(tmp_path):
    folder = save_films(tmp_path, videos=1, size=(47, 95))
    make(given(folder), tmp_path / "study", left=folder / "left", seed=1)
    for path in (tmp_path / "study" / "for_participants" / "films").iterdir():
        assert pixels(path).shape[1:3] == (48, 96)


def test_own_instructions(films, tmp_path):
    (tmp_path / "text.txt").write_text("Look\nwell.\n\n\nThen judge </script>.\n")
    options = {"left": films / "left", "instructions": tmp_path / "text.txt", "seed": 1}
    make(given(films), tmp_path / "study", **options)
    assert page_data(tmp_path / "study")["instructions"] == ["Look well.", "Then judge </script>."]


@pytest.fixture(scope="module")
def wrong(films, tmp_path_factory):
    """Folders of films that don't fit."""
    folder = tmp_path_factory.mktemp("wrong")
    for video in ("clip0", "clip1", "clip2"):
        right = pixels(films / "true" / f"{video}.right.mkv").astype(np.uint8)
        save_film(folder / "short" / f"{video}.mkv", right[: 3 if video == "clip1" else 4])
        save_film(folder / "small" / f"{video}.mkv", right[:, :, :64])
        if video != "clip2":
            save_film(folder / "lacking" / f"{video}.mkv", right)
        (folder / "fast").mkdir(exist_ok=True)
        with av.open(str(folder / "fast" / f"{video}.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=12)
            stream.height, stream.width, stream.pix_fmt = 48, 96, "bgr0"
            for frame in right:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            container.mux(stream.encode(None))
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["true"]}, r"at least two methods, and only true is given"),
        ({"methods": ["true", "true"]}, r"both called true: give names, NAME=FOLDER"),
        ({"methods": ["true", "none"]}, r"none does not exist"),
        ({"methods": ["true", "lacking"]}, r"lacking of lacking lacks 1 of the 3 films: clip2; all methods"),
        ({"methods": ["lacking", "true"]}, r"lacking of lacking lacks 1 of the 3 films: clip2"),
        ({"methods": ["true", "short"]}, r"short/clip1.mkv has 3 frames and .*left/clip1.mkv has 4: cut all"),
        ({"methods": ["true", "small"]}, r"small/clip0.mkv is 64×48: it must have views of 96×48, alone"),
        ({"methods": ["true", "fast"]}, r"fast/clip0.mkv has 12 frames/s and .* 8: say with --fps"),
        ({"left": None}, r"clip0.right.mkv doesn't show the left view too: give the left views by --left"),
        ({"hole": "lacking"}, r"lacking \(masks\) lacks 1 of the 3 films: clip2"),
        ({"hole": "small"}, r"small/clip0.mkv is 64×48: it must have views of 96×48"),
        ({"sets": 4}, r"--sets 4 are more than there are videos, 3"),
        ({"sets": 0}, r"--sets 0: must be at least 1"),
        ({"lists": 2}, r"--lists 2: .* a desktop study has no lists"),
        ({"kind": "headset", "sets": 2}, r"--sets 2: .* a headset study has no sets"),
        ({"crf": 0}, r"--crf must be 1 to 51, not 0"),
        ({"fps": "fast"}, r"--fps must be a number"),
        ({"instructions": "nothing.txt"}, r"--instructions .*nothing.txt can't be read as text"),
    ],
    ids=str,
)
def test_mistakes_are_refused_before_anything_is_written(films, wrong, change, message, tmp_path):
    def place(name):
        return films / name if (films / name).exists() else wrong / name

    options = {"methods": ["true", "dark"], "left": "left"} | change
    options["methods"] = [str(place(method)) for method in options["methods"]]
    options |= {name: place(options[name]) for name in ("left", "hole", "instructions") if options.get(name)}
    with pytest.raises(UserError, match=message):
        make(output=tmp_path / "study", **options)
    assert not list(tmp_path.iterdir())


def test_a_study_is_never_written_over_another(desktop, films):
    with pytest.raises(UserError, match="exists already: name a new folder"):
        make(given(films), desktop, left=films / "left")


def test_another_rate_is_given_to_all(films, wrong, tmp_path):
    make(
        [str(films / "true"), str(wrong / "fast")], tmp_path / "study", left=films / "left", fps="24000/1001"
    )
    for path in (tmp_path / "study" / "for_participants" / "films").iterdir():
        assert Video(path).info.rate.limit_denominator(1001) == pytest.approx(24000 / 1001)
