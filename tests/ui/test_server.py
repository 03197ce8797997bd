"""What the server tells of films, what it makes of a moment, and what it takes from the page."""

import json
import threading
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from jsonargparse import capture_parser

from m2svid import cli
from m2svid.convert.comfort import comfort
from m2svid.convert.preview import make_moment
from m2svid.convert.stereo_options import Options
from m2svid.ui import films
from m2svid.ui.access import Access
from m2svid.ui.form import Form, Order, described
from tests.convert.films import make_depth, make_film, read_rgb
from tests.ui.served import served

FRAMES = 48
SIZE = (96, 72)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A film with a cut and its depth, and a folder that is written."""
    root = tmp_path_factory.mktemp("server")
    for name in ("films", "made", "model", "elsewhere"):
        (root / name).mkdir()
    make_film(root / "films" / "film.mp4", FRAMES, SIZE, cuts=(24,))
    make_depth(root / "films" / "film_depth.npz", FRAMES)
    make_depth(root / "elsewhere" / "depth.npz", FRAMES)
    return root


@pytest.fixture(scope="module")
def page(folders):
    access = Access([folders / "films"], [folders / "made"])
    with served(access, weights=[str(folders / "model")], largest_upload=100_000) as server:
        yield server


@pytest.fixture(scope="module")
def order(folders):
    film = str(folders / "films" / "film.mp4")
    return {"film": film, "options": {"refine": "none", "depth": str(folders / "films" / "film_depth.npz")}}


def error(answer, status=400):
    assert answer.status == status, answer.body
    return answer.json["error"]


def test_a_folder_is_listed_page_by_page_in_the_order_of_numbers(tmp_path, monkeypatch):
    names = [f"take {number}.mp4" for number in range(150)]
    for name in (*names, "notes.txt", ".hidden.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    looked_at = []
    monkeypatch.setattr(films, "_bytes", lambda path: looked_at.append(path) or 0)
    listed = [films.list_films(tmp_path, first=first) for first in (0, 60, 120)]
    assert [Path(film["path"]).name for each in listed for film in each["films"]] == names
    assert [len(each["films"]) for each in listed] == [60, 60, 30]
    assert listed[0]["total"] == 150 and listed[0]["folders"] == [str(tmp_path / "more")]
    assert len(looked_at) == 150  # each once: only those of the page
    assert films.list_films(tmp_path, "TAKE 14")["total"] == 11  # 14 and 140 to 149


def test_facts_of_a_film(page, folders):
    told = page.ask(f"/api/film?path={quote(str(folders / 'films' / 'film.mp4'))}").json
    assert (told["width"], told["height"], told["rate"], told["seconds"]) == (*SIZE, 24.0, 2.0)
    assert told["unplayable"] is None and told["depths"] == [str(folders / "films" / "film_depth.npz")]


@pytest.mark.parametrize(("codec", "pix_fmt", "name", "says"), [
    ("libx265", "yuv420p", "a.mp4", "H.265"),
    ("libx264", "yuv444p", "a.mp4", "yuv444p"),
    ("libx264", "yuv420p", "a.avi", ".avi"),
    ("libx264", "yuv420p", "a.mkv", None),
])  # fmt: skip
def test_a_film_that_browsers_do_not_play_is_told(tmp_path, codec, pix_fmt, name, says):
    found = films.why_unplayable(make_film(tmp_path / name, 2, codec=codec, pix_fmt=pix_fmt))
    assert found is None if says is None else says in found


@pytest.mark.parametrize("index", [0, 13, 30, 47])
def test_an_exact_thumbnail_is_the_frame_of_its_moment(page, folders, index):
    film = folders / "films" / "film.mp4"
    answer = page.ask(
        f"/api/thumbnail?path={quote(str(film))}&at={max(0, index - 0.3) / 24:.3f}&width=96&exact=1"
    )
    seen = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    apart = np.abs(read_rgb(film).astype(int) - seen).mean((1, 2, 3))
    assert answer.headers["Content-Type"] == "image/jpeg" and apart.argmin() == index


def test_the_settings_are_the_options_of_convert_with_their_help(page, folders):
    told = page.ask("/api/settings").json
    parser = capture_parser(cli.call, cli.VERBS["convert"], [], "")
    known = {action.dest: action for action in parser._actions}
    assert len(told["options"]) > 30 and len(told["visible"]) == 5
    for option in told["options"]:
        help_ = " ".join(known[option["name"]].help.split())
        assert option["default"] == known[option["name"]].default or option["name"] == "help"
        assert option["help"] == help_
    assert told["weights"] == [str(folders / "model")]


def test_the_command_that_is_shown_means_what_was_chosen(page, folders, order):
    chosen = order["options"] | {
        "match_color": True,
        "crf": 20,
        "max_disparity": 0.025,
        "convergence": "auto",
        "bits": 8,
    }
    told = page.ask("/api/command", "POST", {"kind": "convert", **order, "options": chosen}).json
    python, dash, package, *words = told["command"].split()
    assert (python, dash, package, words[0]) == ("python", "-m", "m2svid", "convert")
    parsed = capture_parser(cli.call, cli.VERBS["convert"], [], "").parse_args(words[1:])
    assert parsed.input == [order["film"]] and str(parsed.output) == told["output"]
    assert told["output"] == str(folders / "made" / "film_LRF_Full_SBS.mp4")
    for option in described():
        assert getattr(parsed, option["name"]) == chosen.get(option["name"], option["default"])


@pytest.mark.parametrize(("options", "says"), [
    ({"max_disparity": "much"}, "--max-disparity can't be 'much'"),
    ({"max_disparity": True}, "--max-disparity can't be True"),
    ({"window": 2.5}, "--window can't be 2.5"),
    ({"layout": ["sbs"]}, "--layout can't be"),
    ({"convergence": 2}, "--convergence must be from 0 to 1"),
    ({"progress": "bar"}, "no setting 'progress'"),
    ({"output": "x"}, "no setting 'output'"),
    ({"preset": "moon"}, "--preset can't be 'moon'"),
    ({"start": "soon"}, "--start must be a time"),
])  # fmt: skip
def test_a_wrong_setting_is_refused_by_its_name(page, order, options, says):
    given = {"kind": "convert", **order, "options": order["options"] | options}
    assert says in error(page.ask("/api/command", "POST", given))


def test_settings_and_outputs_reach_no_file_elsewhere(page, folders, order):
    elsewhere = str(folders / "elsewhere")
    for change, says in (
        ({"options": {"refine": "none", "depth": f"{elsewhere}/depth.npz"}}, "may read"),
        ({"options": {"refine": "none", "depth": "../elsewhere/depth.npz"}}, "not the full path"),
        ({"options": {"refine": "none", "depth": "owner/name"}}, "not the full path"),
        ({"options": {"refine": "none", "depth_backbone": elsewhere}}, "may read"),
        ({"options": {"weights": elsewhere}}, "none of those"),
        ({"output": f"{elsewhere}/new.mp4"}, "may write"),
        ({"output": f"{folders}/made/../elsewhere/new.mp4"}, "may write"),
        ({"output": str(folders / "films" / "film.mp4")}, "may write"),
        ({"output": str(folders / "made" / ".m2svid" / "queue" / "1.mp4")}, "the page's own"),
        ({"film": f"{elsewhere}/depth.npz"}, "may read"),
        ({"film": f"{folders}/films/film_depth.npz"}, "neither a film"),
    ):
        for path in ("/api/command", "/api/jobs"):
            assert says in error(page.ask(path, "POST", {"kind": "convert", **order, **change}), 403)
    assert (
        page.ask(
            "/api/command",
            "POST",
            {"kind": "convert", **order, "options": {"weights": str(folders / "model")}},
        ).status
        == 200
    )


def test_a_list_of_other_files_is_no_film(page, folders):
    secret = make_film(folders / "elsewhere" / "secret.ts", 2)
    for name, text in (
        ("list.mp4", f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"),
        ("list.mkv", f"ffconcat version 1.0\nfile {secret}\n"),
        ("list.mov", "<?xml version='1.0'?><MPD/>"),
    ):
        path = folders / "films" / name
        path.write_text(text)
        for route in ("film", "thumbnail", "file"):
            assert "list of other files" in error(page.ask(f"/api/{route}?path={quote(str(path))}"), 403)
        path.unlink()


def test_a_preview_is_what_convert_makes(page, folders, order):
    made = page.ask("/api/preview", "POST", {**order, "at": "1.5s"}).json
    seen = make_moment(Path(order["film"]), Options(start="1.5s", **order["options"]))
    for name, path in made["pictures"].items():
        answer = page.ask(f"/api/file?path={quote(path)}")
        shown = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        wanted = getattr(seen, name)[0].float().permute(1, 2, 0).numpy() * 255
        assert np.abs(shown - wanted).mean() < (0.5 if name in ("depth", "hole") else 2), name
    assert (made["max_disparity"], made["convergence"]) == (0.03, 0.667)
    for given in ({"at": "soon"}, {"at": None}, {"options": None}):
        assert page.ask("/api/preview", "POST", {**order, "at": "1s", **given}).status == 400


def test_colors_of_the_strip_are_the_verdicts_of_comfort(page, folders, order, tmp_path):
    strong = order["options"] | {"max_disparity": 0.08, "convergence": 0.5}
    strip = page.ask("/api/shots", "POST", {**order, "at": 1}).json
    given = {"spreads": [shot["spread"] for shot in strip["shots"]], "width": SIZE[0]}
    for options, names in ((order["options"], {"comfortable", "short"}), (strong, {"strong"})):
        reading = {name: value for name, value in options.items() if name != "refine"}
        comfort(Path(order["film"]), tmp_path / "page.html", progress="quiet", **reading)
        told = json.loads((tmp_path / "page.json").read_text())["shots"]
        judged = page.ask("/api/verdicts", "POST", {**given, "options": options}).json
        assert [(s["begin"], s["end"]) for s in strip["shots"]] == [(s["begin"], s["end"]) for s in told]
        assert [each["verdict"] for each in judged] == [shot["verdict"] for shot in told]
        assert {each["verdict"] for each in judged} <= names
        assert [each["near"] for each in judged] == pytest.approx([shot["near"] for shot in told], abs=0.02)


def test_a_measured_film_has_all_its_shots_and_their_depth(page, folders, order):
    form = Form(page.access, [], folders / "made" / ".m2svid" / "looks")
    comfort(
        Path(order["film"]),
        form.comfort_page(Path(order["film"])),
        progress="quiet",
        depth=order["options"]["depth"],
    )
    strip = page.ask("/api/shots", "POST", {**order, "at": 0, "options": {"refine": "none"}}).json
    assert strip["whole"] and [shot["begin"] for shot in strip["shots"]] == [0, 1]
    assert strip["shots"][0]["spread"] == pytest.approx([0, 1], abs=0.01)
    for file in form.looks.glob("*_comfort.*"):
        file.unlink()


def test_previews_of_two_seconds_and_measurements_are_commands_too(folders, order):
    form = Form(Access([folders / "films"], [folders / "made"]), [], folders / "made" / ".m2svid" / "looks")
    options = {**order["options"], "preset": "vision", "start": "1s", "fov": 90.0, "restart": True}
    for kind, verb in (("preview", "preview"), ("comfort", "comfort")):
        words = form.command(Order(kind, order["film"], options, at="00:00:01")).words
        assert words[0] == verb
        parsed = capture_parser(cli.call, cli.VERBS[verb], words[1:], "").parse_args(words[1:])
        assert parsed.profile == "headset" and parsed.fov == 90.0
        assert parsed.output.parent == form.looks


def upload(page, name, body=b"\x00\x00\x00\x20ftypisom", **headers):
    return page.ask(f"/api/upload?name={quote(name)}", "PUT", body, **headers)


def test_a_dropped_film_arrives_whole_and_is_listed(page, folders):
    content = (folders / "films" / "film.mp4").read_bytes()
    answer = upload(page, "My film (1).mp4", content)
    path = folders / "made" / "My film (1).mp4"
    assert answer.json == {"path": str(path)} and path.read_bytes() == content
    assert "exists" in error(upload(page, path.name, b"other")) and path.read_bytes() == content
    path.unlink()


@pytest.mark.parametrize("name", ["run.py", "page.html", "a.mp4.exe", "a", "picture.svg"])
def test_only_films_and_pictures_are_taken(page, folders, name):
    assert "neither a film nor a picture" in error(upload(page, name), 403)


@pytest.mark.parametrize(
    "name",
    [
        "../a.mp4",
        "a/b.mp4",
        "..\\a.mp4",
        ".hidden.mp4",
        "",
        "a\0.mp4",
        "a\n.mp4",
        "-o.mp4",
        "x" * 250 + ".mp4",
    ],
)
def test_a_name_that_is_no_plain_one_is_refused_and_not_mended(page, folders, name):
    assert "no plain name" in error(upload(page, name), 403)


def test_an_upload_that_is_too_large_is_refused_before_it_is_sent(page, folders):
    assert "larger than" in error(upload(page, "large.mp4", None, Content_Length="100001"), 403)
    assert "larger than" in error(upload(page, "large.mp4", None, Transfer_Encoding="chunked"), 403)


def test_an_upload_that_breaks_off_leaves_nothing(page, folders):
    before = sorted((folders / "made").rglob("*"))
    with pytest.raises((ConnectionError, TimeoutError, OSError)):
        page.ask("/api/upload?name=half.mp4", "PUT", b"x" * 50, timeout=1, Content_Length="5000")
    done = threading.Event()
    for _ in range(100):
        if sorted((folders / "made").rglob("*")) == before:
            break
        done.wait(0.05)
    assert sorted((folders / "made").rglob("*")) == before


def test_a_list_is_not_taken_as_a_film(page, folders):
    assert "list of other files" in error(upload(page, "list.mp4", b"#EXTM3U\n/etc/passwd\n"), 403)
    assert not (folders / "made" / "list.mp4").exists()


@pytest.mark.parametrize("body", [b"no JSON", b"[1]", b"\xff", b""])
def test_what_is_no_json_object_is_refused(page, body):
    assert "/api/jobs needs" in error(page.ask("/api/jobs", "POST", body))
