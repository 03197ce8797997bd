"""The headset's screen in an emulated headset: what each eye sees of it, and what the controllers do."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.browser import needs_browser
from tests.evaluation.made_films import save_film
from tests.ui.player_page import picture, save

MODULES = Path(__file__).parent / "node_modules"
EMULATOR = MODULES / "iwer" / "build" / "iwer.min.js"
LAYERS = MODULES / "webxr-layers-polyfill" / "build" / "webxr-layers-polyfill.min.js"  # iwer depends on it
pytestmark = [
    needs_browser,
    pytest.mark.skipif(
        not EMULATOR.exists(), reason="needs the emulator of a headset: run `npm ci` in tests/ui"
    ),
]
HEIGHT, WIDTH = 36, 64
GRAYS = {"left": 80, "right": 190}
EYES = {"left": -0.0315, "right": 0.0315}  # m

# The emulator wants a matrix where the standard has a transform.
_INSTALL = """(() => {
  window.device = new IWER.XRDevice(IWER.metaQuest3);
  device.installRuntime({forceInstall: true, polyfillLayers: false});
  device.stereoEnabled = true;
  const of = XRReferenceSpace.prototype, own = of.getOffsetReferenceSpace;
  of.getOffsetReferenceSpace = function (transform) { return own.call(this, transform.matrix); };
})()"""


@pytest.fixture(scope="module")
def film(folder):
    frames = np.concatenate([np.full((240, HEIGHT, WIDTH, 3), gray, np.uint8) for gray in GRAYS.values()], 2)
    return save_film(folder / "halves.mp4", frames, "libx264", "yuv420p")


@pytest.fixture(params=[False, True], ids=["drawn", "layers"])
def layers(page, request):
    """A page with a headset: one that draws only, and one that has layers for films."""
    wear(page, request.param)
    return request.param


def wear(page, layers: bool = False) -> None:
    page.build()
    page.run(EMULATOR.read_text() + "; 0")
    page.run(_INSTALL)
    if layers:  # by itself, since with `polyfillLayers` the emulator overwrites a part of it
        page.run(LAYERS.read_text() + "; new WebXRLayersPolyfill(); 0")


def enter(page) -> None:
    page.run("player.enterHeadset().then(theater => { window.theater = theater; })")
    frames(page)


def hold(page, x: float, y: float, until: str) -> None:
    """Hold the thumbstick until an expression is true."""
    page.run(f"""(async () => {{
      const push = (x, y) => device.controllers.right.updateAxes("thumbstick", x, y);
      push({x}, {y});
      while (!({until})) await new Promise(requestAnimationFrame);
      push(0, 0);
      for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
    }})()""")


def frames(page, count: int = 4) -> None:
    page.run(
        f"(async () => {{ for (let i = 0; i < {count}; i++) await new Promise(requestAnimationFrame); }})()"
    )


def seen(page) -> dict[str, np.ndarray]:
    """(H, W) gray of what each eye sees."""
    both = picture(page.run("new Promise(done => requestAnimationFrame(() => done(read(device.appCanvas))))"))
    return dict(zip(EYES, np.split(both[..., 0].astype(int), 2, axis=1), strict=True))


def screen(shape: tuple[int, int], eye: str, width: float, distance: float, moved: float = 0) -> np.ndarray:
    """(H, W) bool: where a screen of 16:9 is seen straight ahead, with 90° from top to bottom."""
    rows, columns = (np.arange(length) + 0.5 for length in shape)
    x = (columns - shape[1] / 2) / (shape[0] / 2) * distance + EYES[eye]
    y = (shape[0] / 2 - rows) / (shape[0] / 2) * distance
    inside = abs(x - moved) < width / 2
    return (abs(y) < width * 9 / 16 / 2)[:, None] & inside


def check(page, width: float, distance: float, moved: float = 0) -> None:
    for eye, shown in seen(page).items():
        inside = screen(shown.shape, eye, width, distance, moved if eye == "right" else 0)
        expected = np.where(inside, GRAYS[eye], 0).astype(np.uint8)
        square = np.ones((3, 3), np.uint8)
        clear = cv2.dilate(expected, square) == cv2.erode(
            expected, square
        )  # away from the border, which is soft
        np.testing.assert_allclose(shown[clear], expected[clear], atol=3, err_msg=eye)
        assert inside.sum() > 1000


def test_each_eye_sees_its_half_on_a_screen(page, film, layers):
    page.play(src=film, layout="sbs")
    enter(page)
    assert page.run("theater.layered") is layers
    check(page, 2.4, 2.5)


def test_controllers_move_the_screen_and_the_views(page, film, layers):
    """Size and distance go on while the stick is held; a media layer can't shift views, so it gives way."""
    page.play(src=film, layout="sbs")
    enter(page)
    hold(page, 0, -1, "theater.distance > 2.6")
    hold(page, -1, 0, "theater.width < 2.3")
    width, distance = page.run("[theater.width, theater.distance]")
    if not layers:  # the polyfill's layers keep the size that they have at first
        check(page, width, distance)
    squeeze = "device.controllers.right.updateButtonValue('squeeze', {})"
    page.run(squeeze.format(1))
    hold(page, 1, 0, "theater.shift > 0.008")
    page.run(squeeze.format(0))
    frames(page)
    assert page.run("[theater.width, theater.distance]") == pytest.approx([width, distance])
    assert page.run("theater.layered") is False
    width, distance, shift = page.run("[theater.width, theater.distance, theater.shift]")
    check(page, width, distance, moved=shift * width)
    page.run("device.controllers.right.updateButtonValue('a-button', 1)")
    frames(page)
    page.run("device.controllers.right.updateButtonValue('a-button', 0)")
    frames(page)
    assert page.run("[theater.width, theater.distance, theater.shift, theater.layered]") == [
        2.4,
        2.5,
        0,
        layers,
    ]
    check(page, 2.4, 2.5)


def test_the_trigger_plays_and_leaving_gives_the_page_back(page, film, layers):
    page.play(src=film, layout="sbs")
    page.run("player.mode = 'sbs'")
    before = page.drawn()
    enter(page)
    page.run("""(() => {
      window.calls = [];
      for (const name of ["play", "pause"]) {
        const own = HTMLMediaElement.prototype[name];
        HTMLMediaElement.prototype[name] = function () { calls.push(name); return own.call(this); };
      }
    })()""")
    for told in ("play", "pause"):
        for value in (1, 0):
            page.run(f"device.controllers.right.updateButtonValue('trigger', {value})")
            frames(page)
        page.browser.wait(f"calls.at(-1) === '{told}'")
    assert page.run("calls") == ["play", "pause"]
    page.run("device.activeSession.end()")
    frames(page)
    assert page.run("[player.mode, document.activeElement.textContent]") == ["sbs", "Open in headset"]
    np.testing.assert_allclose(page.drawn(), before, atol=2)


def test_the_screen_is_ahead_of_a_viewer_who_has_turned(page, film):
    wear(page)
    page.run("device.position.set(1, 1.2, -2); device.quaternion.set(0, Math.SQRT1_2, 0, Math.SQRT1_2)")
    page.play(src=film, layout="sbs")
    enter(page)
    check(page, 2.4, 2.5)


def test_pictures(page, folder):
    wear(page)
    paths = {
        name: save(folder / f"{name}.png", np.full((HEIGHT, WIDTH, 3), gray, np.uint8))
        for name, gray in GRAYS.items()
    }
    page.show(paths)
    enter(page)
    check(page, 2.4, 2.5)


def test_other_layouts(page, folder):
    """Drawn, and as layers are told about them; the polyfill knows no `invertStereo`."""
    left, right = (np.full((1, HEIGHT, WIDTH, 3), gray, np.uint8) for gray in GRAYS.values())
    pictures = {
        "cross": np.concatenate([right, left], 2),
        "tb-half": np.concatenate([left, right], 1)[:, ::2],
    }
    films = {
        name: save_film(folder / f"{name}.mp4", each, "libx264", "yuv420p") for name, each in pictures.items()
    }
    wear(page)
    for layout, path in films.items():
        page.play(src=path, layout=layout)
        enter(page)
        check(page, 2.4, 2.5)
        page.run("device.activeSession.end()")
    wear(page, layers=True)
    page.run("""(() => {
      const of = XRMediaBinding.prototype, own = of.createQuadLayer;
      window.told = [];
      of.createQuadLayer = function (film, options) {
        told.push([options.layout, options.invertStereo]);
        return own.call(this, film, options);
      };
    })()""")
    for layout, path in films.items():
        page.play(src=path, layout=layout)
        enter(page)
        page.run("device.activeSession.end()")
    assert page.run("told") == [["stereo-left-right", True], ["stereo-top-bottom", False]]


def test_half_spheres_are_around_the_viewer(page, folder):
    """Gray tells the azimuth: the column of an equirectangular half sphere, whatever the eyes' place."""
    side = 128
    ramp = (40 + np.arange(side)[None] + np.zeros((side, 1))).astype(np.uint8)
    both = np.concatenate([ramp, ramp - 20], 1)[None, ..., None].repeat(3, 3)
    wear(page)
    page.play(src=save_film(folder / "vr180.mp4", both, "libx264", "yuv420p"), layout="vr180")
    enter(page)
    for (eye, shown), less in zip(seen(page).items(), (0, 20), strict=True):
        height, width = shown.shape
        azimuth = np.arctan((np.arange(width) + 0.5 - width / 2) / (height / 2))
        expected = 40 + (azimuth / np.pi + 0.5) * side - 0.5 - less
        np.testing.assert_allclose(shown[height // 2], expected, atol=3, err_msg=eye)
        assert np.ptp(shown[:, width // 2]) <= 4


def test_without_a_headset_the_button_says_what_is_missing(page, film):
    page.build()
    page.play(src=film, layout="sbs")
    page.browser.click(".player-headset")
    page.browser.wait("document.querySelector('.player-message').textContent.includes('headset')")
    assert page.message == (
        "This browser finds no headset: connect one, or open this page in the headset's own browser."
    )
    page.run("Object.defineProperty(window, 'isSecureContext', {value: false}); player.enterHeadset()")
    assert page.message == "A headset needs this page over HTTPS, or from the same machine (localhost)."
    page.run("Object.defineProperty(window, 'isSecureContext', {value: true}); 0")
    page.run("Object.defineProperty(navigator, 'xr', {value: undefined}); player.enterHeadset()")
    assert page.message.startswith("This browser has no WebXR: open this page in the browser of a headset")
    wear(page)
    page.run("player.enterHeadset()")
    assert page.message == "Open pictures or a film first."
    page.play(src=film, layout="sbs")
    page.run("navigator.xr.requestSession = async () => { throw new Error('it is in use'); }")
    page.run("player.enterHeadset()")
    assert page.message == "The headset can't be used: it is in use"
