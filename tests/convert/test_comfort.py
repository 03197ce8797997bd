"""The verb `comfort` on films whose parallax is known, and its page in a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import av
import numpy as np
import pytest

from m2svid.cli import main
from m2svid.comfort.verdict import TOLERANCE
from m2svid.convert.comfort import comfort
from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.synthetic.film import make_film as make_world
from tests.browser import needs_browser, shown
from tests.convert.films import make_film

QUIET = {"progress": "quiet"}


def read(page: Path) -> dict:
    return json.loads(page.with_suffix(".json").read_text(), parse_constant=pytest.fail)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "made"
    make_world(folder, frames=3, width=512, height=288)
    return folder


@pytest.fixture
def shots(tmp_path) -> tuple[Path, str]:
    """Three shots of half a second; depth: far and near half of each."""
    film = make_film(tmp_path / "film.mkv", 36, cuts=(12, 24))
    halves = np.repeat(np.float32([(0.0, 1.0), (0.5, 0.7), (0.9, 0.95)]), 12, 0)
    depth = np.repeat(np.repeat(halves[:, None], 24, 1), 16, 2)
    np.savez(tmp_path / "depth.npz", depth=depth)
    return film, str(tmp_path / "depth.npz")


def test_depth_by_hand(shots, tmp_path):
    film, depth = shots
    result = comfort(film, depth=depth, max_disparity=0.04, convergence=0.5, depth_kind="inverse", **QUIET)
    assert result["page"] == str(tmp_path / "film_comfort.html")
    facts = read(tmp_path / "film_comfort.html")
    first, second, third = facts["shots"]
    assert [(shot["near"], shot["far"]) for shot in facts["shots"]] == [(-2, 2), (-0.8, 0), (-1.8, -1.6)]
    assert [shot["verdict"] for shot in facts["shots"]] == ["strong", "comfortable", "short"]
    assert (first["beyond"], first["window"]) == (
        {"near": 0.5, "far": 0, "nearest": 0, "farthest": 0},
        [0, 1],
    )
    assert "jump" not in first
    assert (second["jump"], third["jump"]) == (-0.4, -1.3)  # of the middle: the mean of both halves
    assert first["keep"] == {"max_disparity": 0.03, "convergence": 0.667}
    assert second["keep"] == {"max_disparity": 0.05, "convergence": 0.633}
    assert facts["keep"] == first["keep"]  # which has the whole range of the film
    assert facts["verdict"]["seconds"] == {
        "unknown": 0,
        "flat": 0,
        "comfortable": 0.5,
        "short": 0.5,
        "strong": 0.5,
    }
    assert first["degrees"]["range"] == pytest.approx(1.36, abs=0.01)
    assert facts["convention"].startswith("parallax is x in the right view minus x in the left view")


def test_a_part_of_a_film(shots, tmp_path):
    """The second shot of the above alone, with the depth of the whole film."""
    film, depth = shots
    part = {"start": "12f", "end": "1s", "depth": depth, "depth_kind": "inverse"}
    comfort(film, max_disparity=0.04, convergence=0.5, **part, **QUIET)
    facts = read(tmp_path / "film_comfort.html")
    assert [(shot["near"], shot["far"]) for shot in facts["shots"]] == [(-0.8, 0)]
    assert facts["film"]["frames"] == 12 and facts["film"]["seconds"] == pytest.approx(0.5, abs=0.002)


def test_black_bars_are_no_part_of_the_depth(tmp_path):
    """Above and below the picture the depth is farther than anything in it; half of each map is bars."""
    with av.open(str(tmp_path / "film.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=24, width=64, height=64, pix_fmt="gray")
        for picture in np.random.default_rng(0).integers(90, 255, (3, 64, 64)).astype(np.uint8):
            picture[:16] = picture[48:] = 0
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "gray")))
        container.mux(stream.encode(None))
    depth = np.full((3, 64, 64), 0.8, np.float32)
    depth[:, :16] = depth[:, 48:] = 0
    np.savez(tmp_path / "depth.npz", depth=depth)
    options = {"depth": str(tmp_path / "depth.npz"), "max_disparity": 0.05, "convergence": 0.5}
    for autocrop, far in ((True, -1.5), (False, 2.5)):
        comfort(tmp_path / "film.mkv", tmp_path / "a.html", autocrop=autocrop, **options, **QUIET)
        (shot,) = read(tmp_path / "a.html")["shots"]
        assert (shot["near"], shot["far"]) == (-1.5, far)


def test_auto_is_what_convert_would_choose(shots, tmp_path):
    film, depth = shots
    auto = {"max_disparity": "auto", "convergence": "auto", "profile": "headset", "fov": 90.0}
    comfort(film, tmp_path / "a.html", depth=depth, depth_kind="inverse", **auto, **QUIET)
    facts = read(tmp_path / "a.html")
    assert {shot["verdict"] for shot in facts["shots"]} <= {"comfortable", "flat"}
    assert all(shot["placed"] == shot["keep"] for shot in facts["shots"])
    assert facts["shots"][0]["degrees"]["range"] == pytest.approx(1.02, abs=0.02)  # as 3 % of a tv set


def test_a_film_converted_with_auto_is_measured_within_the_profile(world, tmp_path):
    options = {"max_disparity": "auto", "convergence": "auto", "refine": "none"}
    stereo = tmp_path / "stereo.mp4"
    convert(str(world / "film.mp4"), stereo, depth=str(world / "depth.mkv"), **options, **QUIET)
    comfort(stereo, **QUIET)
    facts = read(tmp_path / "stereo_comfort.html")
    (shot,), limits = facts["shots"], facts["profile"]
    assert facts["film"]["source"] == "stereo film, sbs (container), matched"
    assert shot["verdict"] == "comfortable" and shot["keep"] is None
    assert shot["near"] == pytest.approx(limits["near"], abs=2 * TOLERANCE)
    assert shot["far"] == pytest.approx(limits["far"], abs=2 * TOLERANCE)


def test_layers_are_measured_as_views_side_by_side_are(world, tmp_path):
    options = {"depth": str(world / "depth.mkv"), "max_disparity": 0.03, "refine": "none"}
    found = {}
    for layout in ("sbs", "spatial"):
        convert(str(world / "film.mp4"), tmp_path / f"{layout}.mp4", layout=layout, **options, **QUIET)
        comfort(tmp_path / f"{layout}.mp4", tmp_path / f"{layout}.html", **QUIET)
        facts = read(tmp_path / f"{layout}.html")
        found[layout] = [facts["shots"][0][side] for side in ("near", "far")]
    assert facts["film"]["source"] == "stereo film, layers (MV-HEVC), matched"
    assert found["spatial"] == pytest.approx(found["sbs"], abs=0.1)
    comfort(tmp_path / "spatial.mp4", tmp_path / "swapped.html", swap_eyes=True, start="1f", **QUIET)
    (shot,) = read(tmp_path / "swapped.html")["shots"]
    assert [-shot["far"], -shot["near"]] == pytest.approx(found["sbs"], abs=0.2)


def test_a_stereo_film_is_told_how_much_weaker_and_farther_back_it_should_be(world, tmp_path):
    comfort(world / "film.mp4", tmp_path / "a.html", right=world / "right.mp4", **QUIET)
    (shot,) = read(tmp_path / "a.html")["shots"]
    assert shot["verdict"] == "strong"  # all in front of the screen
    kept = [shot[side] * shot["keep"]["factor"] + shot["keep"]["shift"] for side in ("near", "far")]
    assert kept == pytest.approx([-1, 2], abs=0.03)
    depth = str(world / "depth.mkv")
    comfort(
        world / "film.mp4", tmp_path / "b.html", depth=depth, max_disparity=0.05, convergence=0.0, **QUIET
    )
    (known,) = read(tmp_path / "b.html")["shots"]
    assert [shot[side] for side in ("near", "far")] == pytest.approx([known["near"], known["far"]], abs=0.1)


def save_noise(path: Path, shift: int | None) -> Path:
    """Side by side noise, `shift` px farther to the right in the right view; None = unrelated noise."""
    noise = np.random.default_rng(0).integers(0, 255, (4, 64, 400)).astype(np.uint8)
    right = noise[:, :, 200:] if shift is None else noise[:, :, 100 - shift : 300 - shift]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24, width=400, height=64, pix_fmt="gray")
        for picture in np.concatenate([noise[:, :, 100:300] if shift else noise[:, :, :200], right], 2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "gray")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("layout", ["auto", "sbs"])
@pytest.mark.parametrize("swap", [False, True])
def test_swapped_eyes_turn_the_sign(tmp_path, layout, swap):
    film = save_noise(tmp_path / "noise_full_sbs.mkv", 6)
    comfort(film, layout=layout, swap_eyes=swap, **QUIET)
    (shot,) = read(tmp_path / "noise_full_sbs_comfort.html")["shots"]
    assert [shot["near"], shot["far"]] == pytest.approx([-3 if swap else 3] * 2, abs=0.1)


def test_a_film_in_which_nothing_matches(tmp_path):
    result = comfort(save_noise(tmp_path / "noise_sbs.mkv", None), **QUIET)
    assert result["verdict"] == "Not measured: too little of it matches"
    facts = read(tmp_path / "noise_sbs_comfort.html")
    assert (facts["keep"], facts["shots"][0]["keep"], facts["shots"][0]["samples"]) == (None, None, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fov": 60.0}, "--fov is for --profile headset"),
        ({"output": "page.txt"}, "must end in .html"),
        ({"layout": "anaglyph"}, "--layout must be one of auto, single, sbs, sbs-half, tb, tb-half"),
        ({"profile": "phone"}, "--profile must be one of tv, cinema, headset, not 'phone'"),
    ],
)
def test_mistakes_are_named(tmp_path, options, message):
    film = make_film(tmp_path / "film.mkv", 2)
    with pytest.raises(UserError, match=re.escape(message)):
        comfort(film, **{name: Path(v) if name == "output" else v for name, v in options.items()})


@needs_browser
def test_the_page_in_a_browser(shots, tmp_path, capsys):
    """The page after its scripts have run, offline."""
    film, depth = shots
    page = tmp_path / "a </script>.html"
    words = ["--depth", depth, "--max-disparity", "0.04", "--convergence", "0.5", "--depth-kind", "inverse"]
    main(["comfort", str(film), "-o", str(page), *words, "--progress", "quiet"])
    assert json.loads(capsys.readouterr().out)["verdict"].startswith("Too strong: 0.5 s (33 %) too strong")
    html = shown(page.as_uri())
    body = html[html.index("<main>") :]
    body = body[: body.index("</main>")]
    assert body.count("<article") == 3 and body.count("data:image/jpeg;base64,") == 3
    assert len(re.findall(r'<a href="#shot\d"', body)) == 3  # in the timeline
    assert "−2.0 % to +2.0 %" in body and "--max-disparity 0.03 --convergence 0.667" in body
    assert body.count("<tr>") == 1 + 3
    assert not re.search(r'(src|href)="(?!data:|#)', html)
