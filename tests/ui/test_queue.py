"""The queue: its jobs survive servers, are never done twice, and stop and continue as they are told."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.ui.access import Access
from m2svid.ui.form import Form, Order
from m2svid.ui.jobs import Job, JobFiles, Progress, ended
from m2svid.ui.queue import Queue
from tests.convert.films import make_depth, make_film
from tests.ui.served import Served, served

FRAMES = 240


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "films").mkdir()
    (tmp_path / "made").mkdir()
    return tmp_path


@pytest.fixture
def access(folders):
    return Access([folders / "films"], [folders / "made"])


def until(condition, seconds=240.0):
    """Wait until a condition holds, and give what it gives."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "this took too long"
        time.sleep(0.02)
    return found


def events(made: Path, name: str) -> list[dict]:
    """The events of a kind in the log of the first job."""
    log = made / ".m2svid" / "queue" / "000001.log"
    lines = log.read_text().splitlines() if log.exists() else []
    found = [json.loads(line) for line in lines if line.startswith('{"event"')]
    return [event for event in found if event["event"] == name]


def job(server: Served, number: int = 1) -> dict:
    """A job as the server tells it first."""
    return next(job for job in server.first_event("/api/jobs")["jobs"] if job["number"] == number)


def serve(access, connection):
    with served(access) as server:
        connection.send(server.port)
        signal.pause()


def test_a_killed_server_leaves_a_job_that_the_next_one_finds_pauses_and_continues(folders, access):
    film = make_film(folders / "films" / "film.mp4", FRAMES, (320, 180), sound=1)
    depth = make_depth(folders / "films" / "depth.npz", FRAMES, (160, 90))
    options = {"refine": "none", "depth": str(depth), "max_disparity": 0.04}
    ours, theirs = multiprocessing.Pipe()
    first = multiprocessing.get_context("fork").Process(target=serve, args=(access, theirs), daemon=True)
    first.start()
    server, made = Served(ours.recv(), access), folders / "made"
    given = {"kind": "convert", "film": str(film), "options": options}
    assert server.ask("/api/jobs", "POST", given).json["number"] == 1
    again = server.ask("/api/jobs", "POST", given)
    assert (again.status, "in the queue already" in again.json["error"]) == (400, True)
    until(lambda: events(made, "plan"))
    os.kill(first.pid, signal.SIGKILL)
    first.join()

    with served(access) as server:  # the job's process went on
        until(lambda: events(made, "progress"))
        pid = job(server)["memory"] and json.loads((made / ".m2svid/queue/000001.json").read_text())["pid"]
        assert os.kill(pid, 0) is None
        assert len(events(made, "begun")) == 1
        with pytest.raises(UserError, match="another page is at work"):
            Queue(made / ".m2svid" / "queue", Form(access, [], made), lambda: None)
        server.ask("/api/jobs/1/pause", "POST")
        until(lambda: job(server)["state"] == "paused")
    assert not (made / "film_LRF_Full_SBS.mp4").exists()
    assert (made / "film_LRF_Full_SBS.mp4.work").exists()

    with served(access) as server:
        time.sleep(0.5)
        assert job(server)["state"] == "paused"  # it waits to be told
        server.ask("/api/jobs/1/continue", "POST")
        assert (
            until(lambda: (found := job(server))["state"] in ("done", "failed") and found)["state"] == "done"
        )
        assert len(events(made, "begun")) == 2
        shown = server.ask("/api/command", "POST", {**given, "output": str(made / "other.mp4")}).json[
            "command"
        ]
        told = server.ask("/api/jobs/1/log").json
        assert shown.replace("other.mp4", "film_LRF_Full_SBS.mp4").split()[3:] == told["words"]
        assert "film_LRF_Full_SBS.mp4 is complete" in told["lines"][-1]
        refused = server.ask("/api/jobs", "POST", given).json["error"]
        assert "exists: choose --restart" in refused

    convert(str(film), folders / "whole.mp4", progress="quiet", **options)
    assert (made / "film_LRF_Full_SBS.mp4").read_bytes() == (folders / "whole.mp4").read_bytes()


def test_a_mistake_is_the_jobs_sentence_and_the_others_go_on(folders, access):
    queue = queue_of(folders, access)
    for _ in range(2):
        queue.add_command(["nonsense"], "no such verb")
    jobs = queue._jobs
    until(lambda: queue._look() or {job.state for job in jobs.values()} == {"failed"})
    assert all(job.text.endswith("not 'nonsense'") and "\n" not in job.text for job in jobs.values())
    queue.go_on(1)
    queue._look()
    with pytest.raises(UserError, match="pause it first"):
        queue.remove(1)
    queue.pause(1)
    until(lambda: queue._look() or jobs[1].state != "running")
    for number in (1, 2):
        queue.remove(number)
    assert [path.name for path in (folders / "made" / ".m2svid" / "queue").iterdir()] == ["server.lock"]
    with pytest.raises(UserError, match="no job 1"):
        queue.pause(1)
    queue._lock.release()


@pytest.mark.parametrize(("progress", "status", "state"), [
    (Progress(status=0, files=["a"]), None, "done"),
    (Progress(status=0, files=["a"]), 0, "done"),
    (Progress(status=130), None, "paused"),
    (Progress(status=2, mistake="no such film"), None, "failed"),
    (Progress(), -signal.SIGINT, "paused"),  # before it had begun
    (Progress(), -signal.SIGKILL, "failed"),  # for instance for want of memory, with the server looking on
    (Progress(), None, "waiting"),  # with the whole machine: the next server continues it
])  # fmt: skip
def test_how_a_job_stands_after_its_process(progress, status, state):
    order = Order("convert", "film.mp4", {})
    found = ended(Job(1, "film.mp4", order, state="running"), progress, status)
    assert found.state == state
    assert found.text == ("no such film" if progress.mistake else found.text)


def queue_of(folders, access) -> Queue:
    return Queue(
        folders / "made" / ".m2svid" / "queue",
        Form(access, [], folders / "made" / ".m2svid" / "looks"),
        lambda: None,
    )


def test_a_job_whose_process_lives_is_not_started_again(folders, access, monkeypatch):
    """Nor is one that only waits while another film is being converted; looks go beside it."""
    films = [make_film(folders / "films" / f"{name}.mp4", 2) for name in "abc"]
    started = []
    sleeper = []

    def start(self, job, words, environment):
        started.append((job.number, environment))
        process = subprocess.Popen(["sleep", "60"], pass_fds=[], start_new_session=True)
        sleeper.append(process)
        return process

    monkeypatch.setattr(JobFiles, "start", start)
    alive = {1: True, 2: True, 3: True}
    monkeypatch.setattr(JobFiles, "alive", property(lambda self: alive[int(self._job.stem)]))
    queue = queue_of(folders, access)
    for film, kind in zip(films, ("convert", "convert", "comfort"), strict=True):
        queue.add(Order(kind, str(film), {"refine": "none"}))
    queue._look()
    assert [number for number, _ in started] == [1, 3] and queue.busy
    assert started[0][1] == {"HF_HUB_OFFLINE": "1"}
    queue._lock.release()

    queue = queue_of(folders, access)  # of the next server
    queue._look()
    assert [number for number, _ in started] == [1, 3]
    alive[1] = False  # it ended unseen, with nothing said: it is continued
    queue._look()
    assert [number for number, _ in started] == [1, 3, 1]
    queue._lock.release()
    for process in sleeper:
        process.kill()
        process.wait()


def test_other_commands_of_the_queue_wait_for_a_yes_after_a_restart(folders, access):
    """Their files could name any command, and nothing is run from a file."""
    queue = queue_of(folders, access)
    queue.add_command(["table", "4"], "Table 4")
    queue._lock.release()
    queue = queue_of(folders, access)
    assert [(job.state, job.title) for job in queue._jobs.values()] == [("paused", "Table 4")]
    queue._lock.release()


def test_a_job_file_that_names_files_elsewhere_is_not_done(folders, access):
    queue = queue_of(folders, access)
    film = make_film(folders / "films" / "a.mp4", 2)
    queue.add(Order("convert", str(film), {"refine": "none"}))
    queue._lock.release()
    file = folders / "made" / ".m2svid" / "queue" / "000001.json"
    file.write_text(file.read_text().replace('"output": null', f'"output": "{folders}/films/new.mp4"'))
    queue = queue_of(folders, access)
    queue._look()
    (job,) = queue._jobs.values()
    assert job.state == "failed" and "may write" in job.text
    file.write_text("{")
    queue._lock.release()
    with pytest.raises(UserError, match=r"000001.json is damaged"):
        queue_of(folders, access)
    shutil.rmtree(folders / "made")
