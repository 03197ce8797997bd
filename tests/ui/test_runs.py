"""The page's view of runs: a real tiny fit and a variant of it, and what is refused."""

import json
import os
import shlex
import shutil
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from m2svid.cli import main
from m2svid.training.cli import TrainerCLI
from m2svid.ui.access import Access
from m2svid.ui.queue import Queue
from tests.browser import Browser, needs_browser
from tests.ui.served import served

VALUES = "val_step8_procedural.json"


@pytest.fixture(scope="module")
def home(fitted, tmp_path_factory):
    """A folder with runs: a tiny fit, and one with another noise level and better values."""
    home = tmp_path_factory.mktemp("home")
    others = shutil.ignore_patterns("test_*")  # results that other tests have left there
    shutil.copytree(fitted.folder / "runs" / "quickstart", home / "runs" / "quickstart", ignore=others)
    last = home / "runs" / "quickstart" / "checkpoints" / "last.ckpt"
    last.unlink()  # the copy is another file, a run's own is none
    last.hardlink_to(last.with_name("step=8.ckpt"))
    shutil.copytree(home / "runs" / "quickstart", home / "runs" / "other")
    config = home / "runs" / "other" / "config.yaml"
    text = config.read_text()
    assert "  noise_aug: 0.02\n" in text
    config.write_text(
        text.replace("  noise_aug: 0.02\n", "  noise_aug: 0.1\n").replace("run: quickstart", "run: other")
    )
    results = home / "runs" / "other" / VALUES
    content = json.loads(results.read_text())
    for number, video in enumerate(content["videos"]):
        video["values"]["psnr"] += [1.5, -0.25, 0.0][number]
    results.write_text(json.dumps(content))
    return home


@pytest.fixture(scope="module")
def commands():
    """The commands that went into the queue, which starts none here."""
    found = []

    def add(queue, words, title):
        found.append(words)
        return len(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Queue, "add_command", add)
        yield found


@pytest.fixture
def started(commands):
    commands.clear()
    return commands


@pytest.fixture(scope="module")
def page(home, commands):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        (home / "made").mkdir()
        with served(Access([home / "runs"], [home / "made"]), runs=Path("runs")) as server:
            yield server


def address(path, *pairs, **values):
    return f"/api/runs{path}?{urlencode([*pairs, *values.items()])}"


def ask(page, path, *pairs, method="GET", **values):
    answer = page.ask(address(path, *pairs, **values), method)
    assert answer.status == 200, answer.json
    return answer.json


def refused(page, path, *pairs, status=400, **values):
    answer = page.ask(address(path, *pairs, **values))
    assert answer.status == status
    return answer.json["error"]


BOTH = [("run", "quickstart"), ("run", "other")]


def test_the_list_says_what_the_folders_hold(page, home):
    rows = {row["name"]: row for row in ask(page, "")["runs"]}
    assert list(rows) == ["other", "quickstart"]
    row = rows["quickstart"]
    assert (row["state"], row["step"], row["max_steps"], row["notes"]) == ("finished", 8, 8, [])
    means = json.loads((home / "runs" / "quickstart" / VALUES).read_text())["means"]
    assert row["metrics"] == {"val/procedural/psnr": means["psnr"]}


def test_an_active_run_has_the_step_of_its_events_and_a_quiet_one_that_of_its_files(page, home):
    folder = home / "runs" / "young"
    writer = SummaryWriter(str(folder))
    writer.add_scalar("train/loss", 1.0, 41)
    writer.close()
    try:
        assert (row := named(page, "young"))["state"] == "active" and row["step"] == 41
        (folder / "config.yaml").write_text(
            "trainer:\n  devices: 1\n  max_steps: 90\nmodel:\n  max_steps: 5\n"
        )
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "step=30.ckpt").touch()
        for path in (*folder.iterdir(), folder):
            os.utime(path, (1e9, 1e9))
        row = named(page, "young")
        assert (row["state"], row["step"], row["max_steps"], row["changed"]) == ("idle", 30, 90, 1e9)
    finally:
        shutil.rmtree(folder)


def named(page, name):
    return next(row for row in ask(page, "")["runs"] if row["name"] == name)


def test_curves_are_those_of_tensorboards_reader(page, home):
    contents = ask(page, "/contents", run="quickstart")
    other = EventAccumulator(str(home / "runs" / "quickstart"), size_guidance={"scalars": 0}).Reload()
    assert contents["curves"] == sorted(other.Tags()["scalars"]) and contents["read"] == 1
    tags = ["train/loss", "val/procedural/psnr"]
    found = ask(page, "/curves", *BOTH, *[("tag", tag) for tag in tags], smooth=0.5)["curves"]
    assert [(curve["run"], curve["tag"]) for curve in found] == [
        (run, tag) for _, run in BOTH for tag in tags
    ]
    expected = other.Scalars("train/loss")
    assert found[0]["points"]["steps"] == [point.step for point in expected]
    assert found[0]["points"]["values"] == pytest.approx([point.value for point in expected], rel=1e-5)
    start = other.FirstEventTimestamp()
    hours = [(point.wall_time - start) / 3600 for point in expected]
    assert found[0]["points"]["hours"] == pytest.approx(hours, abs=1e-5)
    first, second = (point.value for point in expected[:2])
    assert found[0]["smooth"]["values"][:2] == pytest.approx([first, (first + 2 * second) / 3], rel=1e-5)


def test_pictures_are_served_as_they_were_logged(page, home):
    steps = ask(page, "/contents", run="quickstart")["pictures"]["val/procedural/strip"]
    assert steps == [2, 4, 6, 8]
    other = EventAccumulator(str(home / "runs" / "quickstart"), size_guidance={"images": 0}).Reload()
    for name, kind in (("strip", "image/png"), ("film", "image/gif")):
        answer = page.ask(address("/picture", run="quickstart", tag=f"val/procedural/{name}", step=8))
        assert answer.body == other.Images(f"val/procedural/{name}")[-1].encoded_image_string
        assert answer.headers["Content-Type"] == kind
    assert "no picture" in refused(page, "/picture", run="quickstart", tag="val/procedural/film", step=7)


def test_videos_of_two_runs_with_their_differences(page, home):
    table = ask(page, "/results", *BOTH, ("file", VALUES), ("file", VALUES))
    place = [metric["name"] for metric in table["metrics"]].index("psnr")
    assert table["metrics"][place]["heading"] == "PSNR ↑" and table["notes"] == []
    entries = [video["entries"][place] for video in table["videos"]]
    content = json.loads((home / "runs" / "quickstart" / VALUES).read_text())
    own = [video["values"]["psnr"] for video in content["videos"]]
    assert [entry["values"] for entry in entries] == [
        [own[0], own[0] + 1.5], [own[1], own[1] - 0.25], [own[2], own[2]]
    ]  # fmt: skip
    assert [entry["gain"] for entry in entries] == [1, -1, 0]
    assert table["means"][place]["values"] == pytest.approx([sum(own) / 3, (sum(own) + 1.25) / 3])
    alone = ask(page, "/results", run="other", file="val_step8_procedural_filled.json")
    assert [len(entry["values"]) for entry in alone["means"]] == [1] * len(alone["metrics"])
    assert "no results" in refused(page, "/results", run="other", file="../quickstart/" + VALUES)
    assert "one or two" in refused(page, "/results")


def test_options_that_differ(page, home):
    found = ask(page, "/configuration", *BOTH)
    assert found["changed"] == [["model.noise_aug", "0.02", "0.1"]]
    assert "noise_aug: 0.1\n" in found["options"][1]


def test_the_command_that_is_shown_is_the_one_that_starts_and_measures_the_checkpoint(
    page, home, started, monkeypatch
):
    given = {"run": "quickstart", "checkpoint": "step=8.ckpt"}
    shown = ask(page, "/evaluate", **given, verb="validate")["command"]
    assert shown == "python -m m2svid validate --run quickstart"
    assert ask(page, "/evaluate", **given, verb="validate", method="POST") == {"job": 1}
    assert started == [shlex.split(shown)[3:]]
    earlier = home / "runs" / "quickstart" / "checkpoints" / "step=4.ckpt"
    shutil.copy(earlier.with_name("step=8.ckpt"), earlier)
    command = ask(page, "/evaluate", run="quickstart", checkpoint="step=4.ckpt", verb="test")["command"]
    monkeypatch.setattr(TrainerCLI, "_run_subcommand", lambda cli, verb: None)
    cli = TrainerCLI(shlex.split(command)[3:])
    assert cli.config.test.ckpt_path == "runs/quickstart/checkpoints/step=4.ckpt"
    earlier.unlink()
    assert "no checkpoint" in refused(page, "/evaluate", run="other", checkpoint="x.ckpt", verb="test")
    assert "not 'fit'" in refused(page, "/evaluate", **given, verb="fit")


def test_runs_elsewhere_are_not_evaluated_by_a_command_that_would_look_here(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reason = refused(page, "/evaluate", run="other", checkpoint="step=8.ckpt", verb="test")
    assert "start the page in" in reason


def test_the_report_is_made_by_its_command_and_shown_apart(page, home, started):
    assert page.ask(address("/report/page", *BOTH)).status == 404
    ask(page, "/report", *BOTH, method="POST")
    assert ask(page, "/report", *BOTH)["command"] == shlex.join(["python", "-m", "m2svid", *started[0]])
    main(started[0])
    answer = page.ask(address("/report/page", *BOTH))
    assert answer.body == (home / "made" / "reports" / "quickstart+other" / "index.html").read_bytes()
    assert all(name in answer.body.decode() for name in ("quickstart", "other", "filled", "warped"))
    policy = answer.headers["Content-Security-Policy"]
    assert (
        "sandbox allow-scripts;" in policy and "connect-src" not in policy and "default-src 'none'" in policy
    )


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../made", "quickstart/checkpoints", "/etc", ".hidden", "-x"]
)
def test_a_name_that_leads_elsewhere_is_refused(page, name):
    for path in ("/contents", "/curves", "/configuration", "/report", "/report/page"):
        assert "name of a run" in refused(page, path, run=name)


def test_what_lies_outside_the_folders_is_not_read(page, home, tmp_path):
    shutil.copytree(home / "runs" / "quickstart", tmp_path / "foreign")
    link = home / "runs" / "linked"
    link.symlink_to(tmp_path / "foreign")
    holed = home / "runs" / "holed"
    holed.mkdir()
    (holed / "config.yaml").symlink_to(tmp_path / "foreign" / "config.yaml")
    try:
        assert (
            named(page, "linked")["state"] == "refused"
            and "not in a folder" in named(page, "linked")["notes"][0]
        )
        assert "not in a folder" in refused(page, "/contents", run="linked", status=403)
        assert "not in a folder" in refused(page, "/configuration", run="holed", status=403)
        events = next((tmp_path / "foreign").glob("events*"))
        (holed / events.name).symlink_to(events)
        assert "not in a folder" in refused(page, "/curves", run="holed", tag="train/loss", status=403)
    finally:
        link.unlink()
        shutil.rmtree(holed)


def test_nothing_in_a_run_is_executed(page, home, tmp_path):
    folder, trace = home / "runs" / "evil", tmp_path / "trace"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "step=1.ckpt").write_bytes(f"cposix\nsystem\n(S'touch {trace}'\ntR.".encode())
    (folder / "config.yaml").write_text(f"a: !!python/object/apply:os.system ['touch {trace}']\n")
    (folder / VALUES).write_text("no JSON")
    try:
        contents = ask(page, "/contents", run="evil")
        assert contents["checkpoints"][0]["step"] == 1
        assert "holds no results" in contents["notes"][0]
        assert named(page, "evil")["metrics"] == {}
        assert "can't be read as YAML" in refused(page, "/configuration", run="evil")
        assert not trace.exists()
    finally:
        shutil.rmtree(folder)


def test_a_logged_picture_that_is_none_is_not_served(page, home):
    folder = home / "runs" / "odd"
    writer = SummaryWriter(str(folder))
    value = Summary.Value(tag="p", image=Summary.Image(encoded_image_string=b"<script>alert(1)</script>"))
    writer.file_writer.add_summary(Summary(value=[value]), 3)
    writer.close()
    try:
        assert "neither PNG" in refused(page, "/picture", run="odd", tag="p", step=3)
    finally:
        shutil.rmtree(folder)


@needs_browser
def test_two_runs_in_the_browser(page, home, started, tmp_path):
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(f"{page.address}/#runs")
        browser.wait("document.querySelectorAll('.runs-table tbody tr').length === 2")
        for name in ("quickstart", "other"):
            browser.click(f'input[aria-label="choose {name}"]')
        curves = "[...document.querySelectorAll('svg.runs-chart[aria-label=\"train/loss\"] path')]"
        browser.wait(f"{curves}.length === 2")
        dashes = browser.evaluate(f"{curves}.map(path => path.getAttribute('stroke-dasharray'))")
        assert len(set(dashes)) == 2  # told apart without color
        _keys(browser)
        _videos(browser, home)
        browser.click("#runs-tab-4")
        browser.wait(
            "document.querySelector('#runs-panel-4 tbody tr')?.innerText.includes('model.noise_aug')"
        )
        assert browser.evaluate("document.querySelector('#runs-panel-4 tbody tr').innerText").split() == [
            "model.noise_aug", "0.02", "0.1"
        ]  # fmt: skip
        browser.click("#runs-tab-1")
        browser.wait(
            "[...document.querySelectorAll('#runs-panel-1 img')].filter(i => i.naturalWidth > 0).length === 2"
        )
        browser.click("#runs-tab-5")
        for button in (
            "section:first-child .runs-starter:nth-of-type(1) > button",
            ".runs-command button.main",
        ):
            browser.wait(f"document.querySelector('#runs-panel-5 {button}') !== null")
            browser.click(f"#runs-panel-5 {button}")
        browser.wait("document.querySelector('#runs-panel-5 .runs-command a')?.hash === '#queue'")
        assert started == [["validate", "--run", "quickstart"]]
        asked = browser.asked()
        assert asked and all(request.startswith(page.address) for request in asked)
    finally:
        browser.close()


@needs_browser
def test_without_runs_a_sentence_says_how_to_begin_one(home, tmp_path):
    folder = tmp_path / "runs"
    parts = "[...document.querySelectorAll('#part-runs :is(input, select, button, table)')]"
    shown = f"{parts}.filter(part => part.getClientRects().length).map(part => part.innerText)"
    with served(Access([folder], [tmp_path]), runs=folder) as server:
        browser = Browser(tmp_path / "profile")
        try:
            browser.open(f"{server.address}/#runs")
            told = f"There are no runs in {folder} yet. python -m m2svid fit --config"
            browser.wait(f"document.querySelector('#part-runs')?.innerText.includes({told!r})")
            assert browser.evaluate(shown) == ["Refresh"]
            shutil.copytree(home / "runs" / "quickstart", folder / "quickstart")
            browser.click("#part-runs button")
            browser.wait("document.querySelectorAll('.runs-table tbody tr').length === 1")
            text = browser.evaluate("document.querySelector('#part-runs').innerText")
            assert "There are no runs" not in text
            assert {"run", "state", "step", "metric", "changed"} < set(browser.evaluate(shown))
        finally:
            browser.close()


def _keys(browser):
    """The cursor of a chart is moved by arrow keys, and says the values."""
    chart = "document.querySelector('svg.runs-chart[aria-label=\"train/loss\"]')"
    browser.evaluate(f"{chart}.focus()")
    before = browser.evaluate(f"{chart}.getAttribute('aria-valuetext')")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft")
    after = browser.evaluate(f"{chart}.getAttribute('aria-valuetext')")
    assert before.startswith("quickstart: ") and "at step 7; other" in before
    assert after.startswith("quickstart: ") and "at step 6; other" in after


def _videos(browser, home):
    """The table is sorted by the difference."""
    browser.click("#runs-tab-3")
    browser.wait("document.querySelectorAll('#runs-panel-3 tbody tr').length === 3")
    browser.click("#runs-panel-3 th:last-child button")
    cells = (
        "[...document.querySelectorAll('#runs-panel-3 tbody td:last-child')].map(cell => cell.textContent)"
    )
    assert browser.evaluate(cells) == ["+1.50 ▲", "0.00", "-0.25 ▼"]
    browser.click("#runs-panel-3 th:last-child button")
    assert browser.evaluate(cells) == ["-0.25 ▼", "0.00", "+1.50 ▲"]
    assert browser.evaluate("document.querySelector('#runs-panel-3 th:last-child').ariaSort") == "ascending"
