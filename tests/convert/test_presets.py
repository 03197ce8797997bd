"""Presets are defaults: they are logged, and whatever is given goes before them."""

from __future__ import annotations

from typing import Any

import av
import pytest

import m2svid.convert
from m2svid import cli
from m2svid.convert import verbs
from m2svid.convert.presets import PRESETS, describe, with_preset
from m2svid.convert.stereo_options import Options
from m2svid.errors import UserError
from tests.convert.films import make_depth, make_film


@pytest.fixture
def chosen(monkeypatch) -> list[Options]:
    found: list[Options] = []
    monkeypatch.setattr(verbs, "convert_films", lambda films, output, options, report: found.append(options))
    return found


def run(*words: str) -> None:
    cli.run(["convert", "film.mp4", "--refine", "none", *words])


@pytest.mark.parametrize("words", [("--preset", "tv"), ("--preset=tv",)])
def test_a_preset_sets_what_is_not_given(chosen, words):
    run(*words)
    got = chosen[0]
    assert (got.layout, got.codec, got.bits, got.profile) == ("sbs-half", "h264", 8, "tv")
    assert (got.max_disparity, got.convergence) == ("auto", "auto")


def test_given_options_go_before_it_even_if_they_are_the_usual_ones(chosen):
    run("--layout", "sbs", "--preset", "tv", "--codec", "auto", "--max-disparity", "0.02")
    got = chosen[0]
    assert (got.layout, got.codec, got.max_disparity, got.convergence) == ("sbs", "auto", 0.02, "auto")
    assert describe("tv", got)[:2] == [
        "preset tv: --layout sbs-half, but sbs is given",
        "preset tv: --codec h264, but auto is given",
    ]
    assert "preset tv: --convergence auto" in describe("tv", got)


def test_without_a_preset_nothing_is_set(chosen):
    run()
    assert chosen == [Options(refine="none")] and describe(None, chosen[0]) == []


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_sets_options_that_there_are(name):
    options: dict[str, Any] = with_preset({"preset": name, "refine": "none"})
    assert len(describe(name, Options(**options))) == len(PRESETS[name])


def test_the_encoder_s_speed_is_asked_for_by_its_new_name():
    with pytest.raises(UserError, match=r"--preset must be one of quest, .*, not 'slow'; .* is --speed"):
        run("--preset", "slow")
    with pytest.raises(UserError, match="not 'medium'"):
        m2svid.convert("film.mp4", refine="none", preset="medium")


def test_a_film_for_vision_has_two_layers_and_the_log_says_why(tmp_path):
    film = make_film(tmp_path / "film.mp4", 3)
    depth = str(make_depth(tmp_path / "depth.npz", 3))
    lines: list[str] = []
    made = m2svid.convert(
        film, preset="vision", refine="none", depth=depth, on_event=lambda event: lines.append(event.text)
    )
    assert made[film] == tmp_path / "film_spatial.mp4"
    assert "preset vision: --layout spatial" in lines
    with av.open(str(made[film])) as container:
        stream = container.streams.video[0]
        assert stream.disposition & av.stream.Disposition.multilayer
        stream.codec_context.options = {"view_ids": "-1"}
        assert sum(1 for _ in container.decode(stream)) == 6
