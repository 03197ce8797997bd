"""Plan, resuming, rejections, reports and verification, on a dataset without videos."""

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep import driver
from data_prep.report import main as report_main
from data_prep.store import Store
from data_prep.verify import main as verify_main
from m2svid.data.clips import ClipReader
from m2svid.data.sources import read_shard
from tests.data_prep.made import MadeClips

ROOT = Path(__file__).parents[2]
HERE = ("--workers", "0")


def run(out, *words):
    return driver.main(MadeClips, ["-o", str(out), "--clips_per_shard", "2", *words])


def start(out, *words):
    """The same command as a program of its own, in a process group of its own."""
    command = [
        sys.executable,
        "-m",
        "tests.data_prep.made",
        "a",
        "b",
        "-o",
        str(out),
        "--clips_per_shard",
        "2",
    ]
    return subprocess.Popen(
        [*command, *words], cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True
    )


def contents(out):
    """Bytes of shards, reports and surveys by name."""
    files = [*out.glob("*.tar"), *out.glob("*.json"), *out.glob("surveys/*.json")]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def report(out, name):
    return json.loads((out / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The output of an uninterrupted run in this process."""
    out = tmp_path_factory.mktemp("whole")
    assert run(out, "a", "b", *HERE) == 0
    return contents(out)


def test_a_video_becomes_shards_with_reports(tmp_path, capsys):
    assert run(tmp_path, "a", "b", *HERE) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["videos"], told["shards"], told["clips"]) == (2, 4, 6)
    assert told["hours"] == pytest.approx(6 * 0.5 / 3600, abs=1e-4)
    shards = sorted(path.name for path in tmp_path.glob("*.tar"))
    assert shards == [f"train-{video}-{part:03d}.tar" for video in "ab" for part in (0, 1)]
    clips = [ClipReader(raw) for name in shards for raw in read_shard(str(tmp_path / name))]
    assert [clip.info.source for clip in clips] == ["a.mp4"] * 3 + ["b.mp4"] * 3
    assert clips[0].info.dataset == "made" and clips[0].info.notes == {"seen": "a"}
    first = report(tmp_path, "train-a-000")
    assert [clip["key"] for clip in first["clips"]] == ["a-0000", "a-0001"] and not first["rejected"]
    assert sum(first["disparity_pixels"]) == 2 * 2 * 32 * 48 and first["disparity_pixels"][-1] == 0
    assert verify_main([str(tmp_path)]) == 0


@pytest.mark.parametrize("group", [True, False], ids=["all its processes", "the driver alone"])
def test_a_killed_run_continues_to_the_same_bytes(tmp_path, whole, group):
    """Killed when the first shard is there, that is in the middle of others, and once more later."""
    for shards in (1, 2):
        process = start(tmp_path, "--workers", "2", "--slow", "0.15")
        while len(list(tmp_path.glob("*.tar"))) < shards:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
    assert len(contents(tmp_path)) < len(whole)
    log = tmp_path / "log"
    assert run(tmp_path, "a", "b", *HERE, "--log", str(log)) == 0
    assert contents(tmp_path) == whole
    begun = log.read_text().split()
    assert len(begun) == len(set(begun)) < 6 + 2  # what was done is not done again
    assert not list(tmp_path.glob(".*unfinished"))


def test_a_clip_that_kills_its_worker_is_rejected_and_the_rest_is_made(tmp_path, whole):
    log = tmp_path / "log"
    options = ("--workers", "2", "--kill", "a-0001", "--tries", "2", "--log", str(log))
    assert run(tmp_path / "out", "a", "b", *options) == 0
    assert log.read_text().split().count("a-0001") == 2
    first = report(tmp_path / "out", "train-a-000")
    (line,) = first["rejected"]
    assert (line["key"], line["step"]) == ("a-0001", "worker")
    assert line["reason"] == "killed its worker: 2 workers died of it (signal 9, SIGKILL)"
    assert [clip["key"] for clip in first["clips"]] == ["a-0000"]
    made = contents(tmp_path / "out")
    assert made.keys() == whole.keys()
    assert [name for name in whole if made[name] != whole[name]] == ["train-a-000.tar", "train-a-000.json"]


def test_rejections_are_told_counted_and_tried_again(tmp_path, whole, capsys):
    assert run(tmp_path, "a", "b", *HERE, "--reject", "a-0001") == 0
    assert report(tmp_path, "train-a-000")["rejected"] == [
        {"key": "a-0001", "step": "made", "reason": "unwanted: a-0001 is on the list", "seconds": 0.5}
    ]
    capsys.readouterr()
    assert report_main([str(tmp_path), "--as_json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["planned_shards"], told["done_shards"]) == (4, 4)
    assert told["splits"]["train"]["rejected"] == {"made: unwanted": 1}
    assert sum(told["splits"]["train"]["disparity_share"].values()) == pytest.approx(1, abs=1e-3)
    assert report_main([str(tmp_path)]) == 0
    assert "rejected       1 × made: unwanted" in capsys.readouterr().out
    assert report_main([str(tmp_path), "--retry", "layout"]) == 2
    assert "rejected were 'made: unwanted'" in capsys.readouterr().err
    assert run(tmp_path, "a", "b", *HERE) == 0  # nothing is done without --retry
    assert report(tmp_path, "train-a-000")["rejected"]
    assert report_main([str(tmp_path), "--retry", "made: unwanted"]) == 0
    assert run(tmp_path, "a", "b", *HERE) == 0
    assert contents(tmp_path) == whole


def test_a_rejected_video_has_a_report(tmp_path, whole, capsys):
    assert run(tmp_path, "a", "b", *HERE, "--reject", "b") == 1
    assert json.loads(capsys.readouterr().out)["videos_without_clips"] == ["b"]
    assert report(tmp_path, "train-b-000")["rejected"][0]["reason"] == "unwanted: b is on the list"
    assert verify_main([str(tmp_path)]) == 0
    assert report_main([str(tmp_path), "--retry", "made"]) == 0
    assert run(tmp_path, "a", "b", *HERE) == 0
    assert contents(tmp_path) == whole


def test_a_fault_of_the_program_stops_the_run(tmp_path):
    with pytest.raises(TypeError):
        run(tmp_path, "a", "b", *HERE, "--fault", "a-0001")


def test_other_settings_are_refused_until_overwritten(tmp_path, capsys):
    assert run(tmp_path, "a", "b", *HERE) == 0
    before = contents(tmp_path)
    assert run(tmp_path, "a", "b", *HERE, "--level", "200") == 2
    assert "level was 256, is 200" in capsys.readouterr().err
    assert contents(tmp_path) == before
    assert run(tmp_path, "a", "b", *HERE, "--level", "200", "--clips_per_shard", "9", "--overwrite") == 0
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["train-a-000.tar", "train-b-000.tar"]
    assert verify_main([str(tmp_path)]) == 0
    assert run(tmp_path, "a", "b", *HERE, "--split", "val") == 0  # another split is another set of shards
    assert verify_main([str(tmp_path)]) == 1
    assert "is in the splits train and val: it leaks" in capsys.readouterr().out


def test_videos_can_be_added(tmp_path, whole):
    assert run(tmp_path, "b", *HERE) == 0
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")}
    assert run(tmp_path, "a", "b", *HERE) == 0
    assert contents(tmp_path) == whole
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in times} == times


def test_two_runs_in_a_folder_are_refused(tmp_path, capsys):
    with Store(str(tmp_path)).locked():
        assert run(tmp_path, "a", *HERE) == 2
    assert f"another run is working in {tmp_path}" in capsys.readouterr().err
    with Store(str(tmp_path)).locked("0of2"):  # a job of a Slurm array
        assert run(tmp_path, "a", *HERE) == 2
        with Store(str(tmp_path)).locked("1of2"):
            pass
    assert run(tmp_path, "a", *HERE) == 0


def test_a_full_disk_ends_in_a_sentence_and_keeps_what_is_done(tmp_path, whole, capsys):
    size = len(whole["train-a-001.tar"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1, hard))  # a shard of one clip fits, of two does not
    try:
        assert run(tmp_path, "a", "b", *HERE, "--clips", "1") == 0
        assert run(tmp_path / "more", "a", "b", *HERE) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    message = capsys.readouterr().err
    assert "train-a-000.tar can't be written" in message and "the same command continues" in message
    assert not [path for path in (tmp_path / "more").glob("*") if path.name.startswith((".train", "train"))]
    assert run(tmp_path / "more", "a", "b", *HERE) == 0
    assert contents(tmp_path / "more") == whole


@pytest.mark.parametrize("url", ["memory://{name}", "file://{path}"])
def test_shards_may_lie_behind_fsspec(tmp_path, whole, url):
    url = url.format(name=tmp_path.name, path=tmp_path)
    assert run(url, "a", "b", *HERE, "--clips", "2") == 0
    assert run(url, "a", "b", *HERE, "--overwrite", "--clips", "3") == 0
    store = Store(url)
    names = [*store.names(".tar"), *store.names(".json"), *store.names(".json", "surveys")]
    assert {name: store.files.cat_file(store.path(name)) for name in names} == whole
    assert verify_main([url]) == 0
    assert report_main([url]) == 0


def damage_disparity(path):
    data = bytearray(path.read_bytes())
    place = data.find(b"IHDR")
    data[place : place + 20] = bytes(20)
    path.write_bytes(data)
    facts = json.loads(
        path.with_suffix(".json").read_text()
    )  # as if it had been damaged while it was written
    facts["tar"]["sha256"] = hashlib.sha256(data).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-3000]), "has .* bytes, its report says"),
        (lambda path: path.unlink(), "train-a-000.tar is missing"),
        (lambda path: path.with_suffix(".json").unlink(), "train-a-000.tar has no report"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"a-0001", b"a-0007")), "another checksum"),
        (damage_disparity, "clip a-0000: .*png"),
    ],
    ids=["truncated", "missing", "no report", "changed", "undecodable"],
)
def test_verify_finds_damage_and_the_command_mends_it(tmp_path, capsys, whole, damage, told):
    assert run(tmp_path, "a", "b", *HERE) == 0
    damage(tmp_path / "train-a-000.tar")
    capsys.readouterr()
    assert verify_main([str(tmp_path)]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert any(re.search(told, problem) for problem in problems), problems


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-3000]), Path.unlink])
def test_a_damaged_shard_is_made_again(tmp_path, whole, damage):
    assert run(tmp_path, "a", "b", *HERE) == 0
    damage(tmp_path / "train-b-001.tar")
    assert run(tmp_path, "a", "b", *HERE) == 0
    assert contents(tmp_path) == whole


def test_the_plan_without_work(tmp_path, capsys):
    assert run(tmp_path, "a", "b", *HERE, "--dry_run") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["videos"], told["shards"], told["clips"]) == (2, 4, 6)
    assert not list(tmp_path.iterdir())
    assert run(tmp_path, "a", "b", *HERE, "--limit", "1") == 0
    assert {path.name for path in tmp_path.glob("*.tar")} == {"train-a-000.tar", "train-a-001.tar"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("a", "a"), "would both be named a"),
        (("a", "--workers", "-1"), "--workers must be at least 0"),
        (("a", "--gpu_workers", "1"), "--gpu_workers needs --engine ray"),
        (("a", "--crf", "99"), "--crf must be from 0 to 51"),
        (("a", "--size", "[3,2]"), "--size must be two even numbers"),
        (("a", "--hold_out", "no.txt"), "--hold_out no.txt can't be read"),
        (("a", "--engine", "slurm"), "sbatch --array="),
    ],
)
def test_wrong_calls_end_in_one_sentence(tmp_path, capsys, words, sentence):
    assert run(tmp_path, *words) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
