"""The player in a browser: every mode against the same in NumPy, films of every layout, keys, names."""

import time

import numpy as np
import pytest
import torch

from m2svid.video.anaglyph import anaglyph
from m2svid.video.layouts import LAYOUTS, arrange
from m2svid.video.planes import PixelFormat
from tests.browser import needs_browser
from tests.evaluation.made_films import save_film
from tests.ui.player_page import save

pytestmark = needs_browser

HEIGHT, WIDTH = 40, 64
RANDOM = np.random.default_rng(0)
LEFT, RIGHT, WARPED = (RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(3))
DEPTH = np.where(np.arange(WIDTH) // 16 == 1, 204, 51).astype(np.uint8)[None].repeat(HEIGHT, 0)  # 0.8 and 0.2
HOLE = (RANDOM.random((HEIGHT, WIDTH)) < 0.2).astype(np.uint8) * 255
PLACEMENT = {"maxDisparity": 10 / WIDTH, "convergence": 0.5}  # 0.8 is shifted by -3 px, 0.2 by 3 px


@pytest.fixture(scope="module", autouse=True)
def built(page):
    """The player is shown, whichever page other tests have left open."""
    page.build()


@pytest.fixture
def pictures(folder, page):
    made = {"left": LEFT, "right": RIGHT, "depth": DEPTH, "hole": HOLE, "warped": WARPED}
    page.show({name: save(folder / f"{name}.png", pixels) for name, pixels in made.items()}, PLACEMENT)
    page.run("player.mode = 'slider'; player.slider = 0.5")


def counted() -> np.ndarray:
    """(64, H, W, 3) uint8, 8 s at 8 frames/s: frame n has the gray of 3 n."""
    return np.broadcast_to((3 * np.arange(64))[:, None, None, None], (64, HEIGHT, WIDTH, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def film(folder):
    """Side by side, brighter and brighter on the left, and darker on the right."""
    return save_film(
        folder / "film.mp4", np.concatenate([counted(), 255 - counted()], 2), "libx264", "yuv420p"
    )


def test_views(page, pictures):
    at_quarter = np.concatenate([LEFT[:, :16], RIGHT[:, 16:]], 1)
    expected = {
        "left": LEFT,
        "right": RIGHT,
        "slider": at_quarter,
        "sbs": np.concatenate([LEFT, RIGHT], 1),
        "cross": np.concatenate([RIGHT, LEFT], 1),
        "difference": np.abs(LEFT.astype(int) - RIGHT),
        "depth": DEPTH[..., None].repeat(3, 2),
        "holes": np.where(HOLE[..., None] > 0, [255, 0, 255], WARPED),
    }
    for mode, pixels in expected.items():
        np.testing.assert_array_equal(
            page.drawn(f"player.mode = '{mode}'; player.slider = 0.25"), pixels, mode
        )


@pytest.mark.parametrize("method", ["dubois", "color", "half-color", "optimized", "gray", "true"])
def test_anaglyph(page, pictures, method):
    left, right = (torch.from_numpy(view).permute(2, 0, 1) / 255 for view in (LEFT, RIGHT))
    expected = (anaglyph(left, right, method).permute(1, 2, 0) * 255).numpy()
    drawn = page.drawn(f"player.mode = 'anaglyph'; player.anaglyph = '{method}'")
    np.testing.assert_allclose(drawn, expected, atol=1)


def test_convergence_moves_the_right_view_and_frees_its_border(page, pictures):
    expected = np.zeros_like(RIGHT)
    expected[:, 4:] = RIGHT[:, :-4]
    np.testing.assert_array_equal(
        page.drawn(f"player.mode = 'right'; player.convergence = {4 / WIDTH}"), expected
    )
    np.testing.assert_array_equal(page.drawn("player.mode = 'left'"), LEFT)


def test_strength_draws_the_right_view_from_the_depth(page, pictures):
    """A pixel lands at x + (0.5 - q) * 20; the near band hides what it covers, and background fills holes."""
    drawn = page.drawn("player.mode = 'right'; player.strength = 2").astype(int)
    far, near = 6, -6
    expected = np.full((HEIGHT, WIDTH, 3), -1)
    expected[:, far:] = LEFT[:, :-far]
    expected[:, 16 + near : 32 + near] = LEFT[:, 16:32]
    hole = slice(32 + near, 32 + far)
    rest = np.ones(WIDTH, bool)
    rest[:far] = rest[hole] = False
    edges = [
        16 + near - 1,
        16 + near,
        32 + near - 1,
        32 + far,
        32 + far + 1,
    ]  # where the depth is between both
    rest[edges] = False
    np.testing.assert_allclose(drawn[:, rest], expected[:, rest], atol=2)
    behind = LEFT[:, 33:36].astype(int)
    filled = drawn[:, 32 + near + 1 : 32 + far - 1]
    away = (behind.min(1, keepdims=True) - filled).clip(0) + (filled - behind.max(1, keepdims=True)).clip(0)
    assert away.max() <= 2
    assert page.run("document.querySelector('.player-approximate').checkVisibility()")
    assert page.run("player.placement.maxDisparity") == pytest.approx(20 / WIDTH)
    page.run("player.convergence = 0.1 * player.placement.maxDisparity")
    assert page.run("player.placement.convergence") == pytest.approx(0.6)


def test_another_preview_is_exact_again(page, folder, pictures):
    page.run("player.strength = 2; player.convergence = 0.1; player.mode = 'right'")
    page.show(
        {"left": folder / "left.png", "right": folder / "right.png", "depth": folder / "depth.png"}, PLACEMENT
    )
    np.testing.assert_array_equal(page.drawn(), RIGHT)
    assert not page.run("document.querySelector('.player-approximate').checkVisibility()")


def test_another_preview_waits_until_a_control_is_released(page, folder, pictures):
    x, y = page.run("""(() => {
      const control = document.querySelector(".player [aria-label=Strength]");
      control.scrollIntoView({block: "center"});
      const box = control.getBoundingClientRect();
      return [box.x + 0.9 * box.width, box.y + box.height / 2];
    })()""")
    mouse = {"x": x, "y": y, "button": "left", "clickCount": 1}
    page.browser.call("Input.dispatchMouseEvent", type="mousePressed", **mouse)
    address = f"/api/file?path={folder}"
    page.run(f"player.show({{left: '{address}/left.png', right: '{address}/right.png'}}); 0")
    time.sleep(0.3)
    assert page.run("player.strength") > 1.5
    page.browser.call("Input.dispatchMouseEvent", type="mouseReleased", **mouse)
    page.browser.wait("player.strength === 1 && player.placement === null")


def test_without_depth_there_is_neither_strength_nor_its_mode(page, folder, pictures):
    page.show({"left": folder / "left.png", "right": folder / "right.png"})
    off = "[...document.querySelectorAll('[data-mode]')].filter(b => b.disabled).map(b => b.dataset.mode)"
    assert page.run(off) == ["depth", "holes"]
    np.testing.assert_array_equal(page.drawn("player.mode = 'depth'"), LEFT)
    assert page.run("player.placement") is None


def gray_planes(pixels: np.ndarray) -> list[np.ndarray]:
    half = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
    return [(16 + pixels * (219 / 255)).round().astype(np.uint8), half, half]


@pytest.mark.parametrize("name", LAYOUTS)
def test_films_of_all_layouts(page, folder, name):
    """What the package puts together, the page takes apart."""
    layout, yuv420 = LAYOUTS[name], PixelFormat("420", 8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    left, right = 40 + 2 * x + y, 220 - x - 2 * y
    two = layout.rows * layout.columns > 1
    luma = arrange([gray_planes(view) for view in (left, right)][: 2 if two else 1], layout, yuv420)[0]
    if layout.layers:
        luma = luma[:HEIGHT]  # all that a browser decodes
    pixels = ((luma.astype(float) - 16) * (255 / 219)).round().clip(0, 255).astype(np.uint8)
    path = save_film(folder / f"{name}.mp4", pixels[None, ..., None].repeat(3, 3), "libx264", "yuv420p")
    page.play(src=path, layout=name)
    assert (
        page.message == "" or two is False or layout.spherical or layout.depth or name in ("rows", "spatial")
    )
    shown = {mode: page.drawn(f"player.mode = '{mode}'").mean(-1) for mode in ("left", "right", "depth")}
    if layout.spherical:
        middle = (HEIGHT // 2, WIDTH // 2)
        assert [
            shown[mode][shown[mode].shape[0] // 2, shown[mode].shape[1] // 2] for mode in ("left", "right")
        ] == (pytest.approx([left[middle], right[middle]], abs=4))
    elif name in ("rows", "anaglyph", "right", "pair", "spatial"):
        np.testing.assert_allclose(shown["left"], pixels, atol=3)
        assert page.run("document.querySelector('[data-mode=right]').disabled")
    else:
        np.testing.assert_allclose(shown["left"], left, atol=4)
        np.testing.assert_allclose(shown["depth" if layout.depth else "right"], right, atol=4)


def test_a_film_is_sought_and_played(page, film):
    page.play(src=film, layout="sbs")
    seek = "document.querySelector('.player-seek')"
    page.run(f"{seek}.value = 1.06; {seek}.dispatchEvent(new Event('input'))")
    page.run("player.mode = 'sbs'")
    page.shows(24, 231)
    assert page.run(f"{seek}.getAttribute('aria-valuetext')") == "0:01 of 0:08"
    page.run("document.querySelector('.player-stage').focus()")
    page.press(" ", " ")
    page.browser.wait("document.querySelector('.player-play').textContent === 'Pause'")
    page.browser.wait(f"{seek}.value > 1.3")
    page.press(" ", " ")
    page.browser.wait("document.querySelector('.player-play').textContent === 'Play'")
    assert page.drawn()[5, 4, 0] > 26
    page.press("ArrowLeft")
    page.press("ArrowLeft")  # 5 s each
    page.shows(0, 255)


def test_a_right_view_alone_is_shown_beside_the_left_film(page, folder):
    """The frames of both belong together, also while they play."""
    right = save_film(folder / "right_alone.mp4", 255 - counted(), "libx264", "yuv420p")
    left = save_film(folder / "left_alone.mp4", counted(), "libx264", "yuv420p")
    page.play(src=right, layout="right", left=left)
    seek = "document.querySelector('.player-seek')"
    page.run(f"{seek}.value = 0.56; {seek}.dispatchEvent(new Event('input'))")
    page.run("player.mode = 'sbs'")
    page.shows(12, 243)
    page.run("document.querySelector('.player-play').click()")
    seen = set()
    until = time.monotonic() + 30
    while len(seen) < 4 and time.monotonic() < until:
        seen.add(tuple(page.drawn()[5, [4, -4], 0].tolist()))
    assert len(seen) == 4
    assert [pair for pair in seen if abs(sum(pair) - 255) > 2] == []


def test_films_that_cannot_be_shown_say_why(page, folder, film):
    old = save_film(folder / "old.mp4", np.zeros((4, HEIGHT, WIDTH, 3), np.uint8), "mpeg4", "yuv420p")
    page.play(src=old, layout="sbs", codec="MPEG-4 part 2")
    assert page.message.startswith("This browser can't decode old.mp4, which is MPEG-4 part 2: ")
    assert "--codec h264" in page.message
    page.play(src=folder / "none.mp4", layout="sbs")
    assert page.message.startswith("none.mp4 can't be loaded: the server says 4")
    page.play(src=film, layout="diagonal")
    assert page.message.startswith('There is no layout "diagonal": take one of sbs, ')
    page.show({"left": folder / "none.png", "right": folder / "none.png"})
    assert page.message == "The picture none.png can't be shown: it can't be loaded or decoded."


def test_keys_move_the_line(page, pictures):
    page.run("document.querySelector('.player-stage').focus()")
    page.press("ArrowRight")
    assert page.run("player.slider") == pytest.approx(0.51)
    page.run("document.querySelector('[data-mode=slider]').focus()")
    page.press("ArrowLeft")
    page.press("ArrowLeft")
    assert page.run("player.slider") == pytest.approx(0.49)
    page.run("document.querySelector('.player-slider').focus()")
    page.press("ArrowRight")
    assert page.run("player.slider") == pytest.approx(0.491)
    page.press("End")
    np.testing.assert_array_equal(page.drawn(), LEFT)


def test_everything_has_a_name(page, pictures):
    page.run("player.mode = 'slider'")
    nodes = page.browser.call("Accessibility.getFullAXTree")["nodes"]
    found = [(node["role"]["value"], node["name"]["value"]) for node in nodes if "name" in node]
    modes = [
        "Slider",
        "Left",
        "Right",
        "Side by side",
        "Cross-eyed",
        "Anaglyph",
        "Wiggle",
        "Difference",
        "Depth",
        "Holes",
    ]
    assert {("group", "Stereo player"), ("group", "View"), ("button", "Open in headset")} <= set(found)
    assert {("button", name) for name in modes} <= set(found)
    assert {("slider", name) for name in ("Line between the views", "Strength", "Convergence")} <= set(found)
    assert any(
        role in ("image", "img") and name.startswith("Left view beside the right") for role, name in found
    )
    assert [
        pair for pair in found if pair[0] in ("button", "slider", "image", "combobox") and not pair[1]
    ] == []


def test_wiggle_stands_still_where_motion_is_unwanted(page, pictures):
    changes = """(async () => {
      let last = 0, changes = -1;
      for (let i = 0; i < 9; i++) {
        player.draw();
        const [, , now] = read(document.querySelector(".player canvas"));
        if (now !== last) changes++;
        last = now;
        await new Promise(resolve => setTimeout(resolve, 60));
      }
      return changes;
    })()"""
    page.run("player.mode = 'wiggle'")
    assert page.run(changes) >= 1
    features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    page.browser.call("Emulation.setEmulatedMedia", features=features)
    page.run("new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame))")
    assert page.run(changes) == 0
    np.testing.assert_array_equal(page.drawn(), LEFT)
    page.run("document.querySelector('.player-stage').focus()")
    page.press(" ", " ")
    np.testing.assert_array_equal(page.drawn(), RIGHT)
    page.browser.call("Emulation.setEmulatedMedia", features=[])


def test_it_draws_only_what_has_changed(page, pictures):
    """One draw call for a move of the line, none while nothing happens, and pictures are loaded once."""
    counted = """(async () => {
      const frames = count => count ? new Promise(requestAnimationFrame).then(() => frames(count - 1)) : null;
      await frames(3);
      const of = WebGL2RenderingContext.prototype, calls = {drawArrays: 0, texImage2D: 0}, own = {};
      for (const name of Object.keys(calls)) {
        own[name] = of[name];
        of[name] = function (...given) { calls[name]++; return own[name].apply(this, given); };
      }
      await frames(5);
      const idle = {...calls};
      player.slider = 0.3;
      player.slider = 0.4;
      await frames(5);
      Object.assign(of, own);
      return [idle, calls];
    })()"""
    idle, moved = page.run(counted)
    assert idle == {"drawArrays": 0, "texImage2D": 0}
    assert moved == {"drawArrays": 1, "texImage2D": 0}


def test_it_fits_on_a_phone_and_asks_nobody_else(page, pictures):
    page.browser.call(
        "Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True
    )
    for mode in ("slider", "sbs", "anaglyph"):
        page.run(f"player.mode = '{mode}'; player.draw()")
        assert page.run("document.documentElement.scrollWidth <= 360"), mode
    page.browser.call("Emulation.clearDeviceMetricsOverride")
    assert foreign(page) == []


def foreign(page) -> list[str]:
    """Addresses outside its server that the open page has asked for."""
    asked = page.browser.asked()
    assert len(asked) > 5
    return [request for request in asked if not request.startswith((page.address, "data:"))]


def test_what_a_page_asks_is_noted_as_its_own(page):
    """A foreign address is noted; requests of the previous page are not, even while it keeps asking."""
    page.run("fetch('http://192.0.2.1/').catch(() => null)")
    assert foreign(page) == ["http://192.0.2.1/"]
    page.run("setInterval(() => { for (let i = 0; i < 20; i++) fetch('/before'); }, 1); 0")
    page.build()
    assert foreign(page) == []
    assert [request for request in page.browser.asked() if request.endswith("/before")] == []
