"""Ray, a Slurm array, and CPU and GPU halves make the bytes of one process."""

import json

import pytest

from data_prep import driver
from data_prep.plan import selected, shard_tasks
from data_prep.shard_task import Watch, Worker
from tests.data_prep.made import MadeClips

VIDEOS = ("a", "b", "c")


def run(out, *words):
    return driver.main(MadeClips, ["-o", str(out), "--clips_per_shard", "2", *VIDEOS, *words])


def contents(out):
    files = [*out.glob("*.tar"), *out.glob("*.json"), *out.glob("surveys/*.json")]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    assert run(out, "--workers", "0") == 0
    return contents(out)


def test_ray_makes_the_same_bytes_and_rejects_what_kills_workers(tmp_path, whole):
    pytest.importorskip("ray", reason="needs Ray: pip install 'm2svid[ray]'")
    options = ("--engine", "ray", "--workers", "2", "--tries", "2", "--kill", "c-0000")
    assert run(tmp_path, *options) == 0
    made = contents(tmp_path)
    assert made.keys() == whole.keys()
    killed = {"train-c-000.tar", "train-c-000.json"}
    assert {name for name in whole if made[name] != whole[name]} == killed
    (line,) = json.loads(made["train-c-000.json"])["rejected"]
    assert line["key"] == "c-0000" and line["reason"].startswith("killed its worker: 2 workers died of it")


@pytest.mark.parametrize("jobs", [2, 5])
def test_the_jobs_of_a_slurm_array_share_the_videos(tmp_path, whole, monkeypatch, jobs):
    for index in range(jobs):
        for name, value in {"ID": 10 + index, "MIN": 10, "MAX": 9 + jobs, "STEP": 1}.items():
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
        before = set(contents(tmp_path))
        assert run(tmp_path, "--engine", "slurm", "--workers", "0") == 0
        videos = {name.split("-")[1] for name in set(contents(tmp_path)) - before if name.endswith(".tar")}
        assert videos == set(VIDEOS[index::jobs])
    assert contents(tmp_path) == whole


def test_halves_on_cpu_and_gpu_make_the_same_bytes(tmp_path, whole):
    """The halves of `--gpu_workers`, without Ray and without a GPU."""
    dataset = MadeClips(names=list(VIDEOS), clips_per_shard=2)
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    first, second = (Worker(dataset, str(out), half=half, scratch=scratch) for half in ("views", "match"))
    for source in selected(dataset):
        survey = first(source, Watch())["survey"]
        for task in shard_tasks(dataset, source, survey):
            first(task, Watch())
            assert list(scratch.iterdir())
            second(task, Watch())
    assert contents(out) == whole
    assert not list(scratch.iterdir())
