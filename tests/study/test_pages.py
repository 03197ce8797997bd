"""The pages in a browser, from the first screen to the collected answers."""

import json
import time

import pytest

from m2svid.study.collect import collect
from m2svid.study.make import make
from m2svid.study.report import report
from tests.browser import Browser, needs_browser
from tests.study.made_study import METHODS, given, save_films

pytestmark = needs_browser
WANTED = {"true": 1, "gray": 2, "copied": 2, "dark": 4}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return save_films(tmp_path_factory.mktemp("films"), videos=2)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def begin(browser, study, participant):
    """Open a study's page and go past its first screen; the key."""
    browser.open((study / "for_participants" / "index.html").as_uri())
    assert browser.evaluate("document.getElementById('instructions').open")
    browser.click("input[name=participant]")
    browser.type(participant)
    browser.click("#begin button")
    return json.loads((study / "key.json").read_text())


def download(browser, folder):
    """Click on the last button; the file."""
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    assert not browser.evaluate("document.getElementById('download').disabled")
    browser.click("#download")
    until = time.monotonic() + 30
    while not (files := [file for file in folder.glob("*.json") if file.stat().st_size]):  # empty at first
        assert time.monotonic() < until, "no file was downloaded"
        time.sleep(0.05)
    return files[0]


def shown(browser):
    """Numbers of the films that are to be judged, in their order on the page."""
    sources = "[...document.querySelectorAll('.judged video')].map(v => v.src)"
    return [source.rpartition("/")[2].removesuffix(".mp4") for source in browser.evaluate(sources)]


def rank(browser, key):
    """Give each film of the video on the page the rank of its method."""
    for number in shown(browser):
        radio = f"input[name$='{number}'][value='{WANTED[key['films'][number]['method']]}']"
        browser.click(radio)
        assert browser.evaluate(f"document.querySelector({radio!r}).checked")


def test_a_ranking_from_the_first_screen_to_the_collected_answers(browser, films, tmp_path):
    study = tmp_path / "study"
    make(given(films), study, left=films / "left", hole=films / "hole", seed=3)
    key = begin(browser, study, "Änna B.")
    times = "[...document.querySelectorAll('video')].map(video => video.currentTime)"
    browser.wait("[...document.querySelectorAll('video')].every(video => video.readyState >= 3)")
    assert browser.evaluate("[...document.querySelectorAll('video')].map(v => v.videoWidth)") == [96] * 6
    assert browser.evaluate("document.querySelector('h2').textContent") == "Video 1 of 2: rank the 4 films"

    browser.click("button.play")
    # Frame 2 of 4, at 8 frames/s. On a busy machine a film may fall behind, and then the others wait for it.
    browser.wait(f"(t => Math.min(...t) > .13 && Math.max(...t) - Math.min(...t) < 1 / 8)({times})")
    browser.click("button.play")
    browser.wait("[...document.querySelectorAll('video')].every(video => video.paused && !video.seeking)")
    found = browser.evaluate(times)
    assert max(found) == min(found)  # all stand at the middle of one frame
    assert (found[0] * 8) % 1 == pytest.approx(0.5)

    browser.click("button.whole")
    browser.wait("document.fullscreenElement && document.fullscreenElement.className === 'player'")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="c", text="c")
    visible = (
        "[...document.querySelectorAll('figure')].filter(f => getComputedStyle(f).visibility === 'visible')"
    )
    assert browser.evaluate(f"{visible}.map(f => f.firstChild.textContent)") == ["Film C"]
    browser.click("button.whole")
    browser.wait("!document.fullscreenElement")

    rank(browser, key)
    assert browser.evaluate("document.getElementById('download').disabled")
    first = shown(browser)
    browser.reload()
    assert browser.evaluate("document.querySelector('h2').textContent").startswith("Video 2 of 2")
    assert shown(browser) != first
    browser.click(".bar button:first-child:not(.play)[class*=done]")  # back to video 1
    assert shown(browser) == first
    assert browser.evaluate("document.querySelectorAll('input:checked').length") == 4
    browser.click("button.main:not(#download)")
    rank(browser, key)
    browser.click("textarea")
    browser.type("Schön.")

    file = download(browser, tmp_path)
    assert file.name == "answers_set1_Änna_B_.json"
    assert not any(word in file.read_text() for word in (*METHODS, "clip0", "clip1"))
    answers = json.loads(file.read_text())["content"]
    assert answers["answers"][[f["films"] for f in answers["answers"]].index(first)]["films"] == first
    found = collect([str(file)], study / "key.json", tmp_path / "merged" / "answers.json")
    assert (found["answers"], found["left_out"]) == (2, [])
    merged = json.loads((tmp_path / "merged" / "answers.json").read_text())
    assert merged["files"][0]["remarks"] == "Schön."
    for ranking in merged["rankings"]:
        assert dict(zip(ranking["shown"], ranking["ranks"], strict=True)) == WANTED
    assert {ranking["participant"] for ranking in merged["rankings"]} == {"Änna B."}

    orders = browser.evaluate(
        "[...'abcdefghijkl'].map(p => { state.participant = p; return shown(0).join(); })"
    )
    assert len(set(orders)) > 6  # drawn anew for each participant

    report([str(tmp_path / "merged" / "answers.json")], output=tmp_path / "report")
    browser.open((tmp_path / "report" / "index.html").as_uri())
    rows = (
        "[...document.querySelector('tbody').rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert [row[:3] for row in browser.evaluate(rows)] == [
        ["true", "1.00", "2 / 2"],
        ["gray", "2.00", "0 / 2"],
        ["dark", "4.00", "0 / 2"],
        ["copied", "2.00", "0 / 2"],
    ]
    assert browser.evaluate("document.querySelectorAll('table').length") == 3
    asked = [url for document in browser.requests.values() for url in document]
    assert asked and all(url.startswith(("file:", "blob:")) for url in asked)


def test_a_sheet_for_the_headset(browser, films, tmp_path):
    study = tmp_path / "study"
    make(given(films, "true", "dark"), study, "headset", left=films / "left", lists=2, seed=3)
    key = begin(browser, study, "Ben")
    for number, choice in ((0, 1), (1, 2)):  # "A is better", then "B is better"
        assert browser.evaluate("document.getElementById('download').disabled")
        answer = f"tr:nth-child({number + 1}) td:nth-child({choice + 1}) input"
        browser.click(answer)
        browser.wait(f"document.querySelector('{answer}').checked")
    file = download(browser, tmp_path)
    assert file.name == "answers_list1_Ben.json"
    collect([str(file)], study / "key.json", tmp_path / "merged" / "answers.json")
    merged = json.loads((tmp_path / "merged" / "answers.json").read_text())
    first, second = (dict(zip(r["shown"], r["ranks"], strict=True)) for r in merged["rankings"])
    (a, _), (_, b) = ([key["films"][film]["method"] for film in trial] for trial in key["parts"]["1"])
    assert first[a] == second[b] == 1
    assert sum(first.values()) == sum(second.values()) == 3
