"""Speed of preparing Stereo4D, stage by stage, as a multiple of decoding alone; scaling; and a projection."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from data_prep.dataset import Facts
from data_prep.driver import Options, prepare
from data_prep.engines.child import single_threaded
from data_prep.engines.local import LocalEngine
from data_prep.engines.ray import Stage, ray_cluster, run_ray
from data_prep.shard_task import Watch
from data_prep.steps.equirectangular import Perspective, Sphere
from data_prep.steps.matchers import open_matcher
from data_prep.steps.reading import ForwardReader
from data_prep.steps.video import split_views
from data_prep.steps.views import match_views, positive_views
from data_prep.stereo4d import Stereo4D
from m2svid.data.shards import encode_clip
from m2svid.files import whole

_RATE = Fraction(30000, 1001)
_CLIP_FRAMES = 145  # of a clip of Stereo4D on average, inferred from the number of published disparity maps
_CLIPS = (110_000, 200_000)  # public, and as M2SVid had them
_GPU_FRAMES_PER_S = 20  # of a learned matcher; assumed, not measured
_TASKS = 40  # empty ones, to see what an engine adds to each


def run(
    frames: int = 24,
    width: int = 3840,
    height: int = 2160,
    videos: int = 4,
    ray: bool = True,
    whole_runs: bool = True,
) -> Facts:
    """Prepare made VR180 videos, side by side, into 512×512 clips with semi-global matching.

    Args:
        frames: of every video; each gives one clip.
        width: of a raw frame, pixels.
        height: of a raw frame.
        videos: for the measurement of scaling.
        ray: measure Ray too, where it is installed.
        whole_runs: measure scaling and engines, which takes minutes.

    Returns:
        Frames per core second of every stage and its time as a multiple of decoding's, frames/s of whole runs
        by workers (start-up included), what an engine adds to a task, and core hours and bytes projected.
    """
    with tempfile.TemporaryDirectory() as name, one_thread():
        folder = Path(name)
        ids = [f"bench{index:06d}" for index in range(videos)]
        (folder / "raw").mkdir()
        first = _make_video(folder / "raw" / f"{ids[0]}.mp4", frames, width, height)
        for video_id in ids:
            if video_id != ids[0]:
                (folder / "raw" / f"{video_id}.mp4").symlink_to(first)
            _annotate(folder / "npz", video_id, frames)
        seconds, size = _stages(first, frames)
        total = sum(seconds.values())
        found: Facts = {
            "frames": frames,
            "raw": f"{width}×{height}",
            "cores": os.cpu_count(),
            "frames_per_s": {name: round(frames / value, 1) for name, value in seconds.items()},
            "multiple_of_decoding": {
                name: round(value / seconds["decode"], 2) for name, value in seconds.items()
            },
            "all_stages_frames_per_s": round(frames / total, 2),
            "all_stages_multiple_of_decoding": round(total / seconds["decode"], 2),
            "shard_bytes_per_frame": round(size / frames),
        }
        found["projection"] = {
            f"{clips} clips": _projected(clips, total / frames, size / frames) for clips in _CLIPS
        }
        if whole_runs:
            engines = ["local", *(["ray"] if ray and find_spec("ray") else [])]
            found["whole_runs_frames_per_s"] = {
                f"{engine}, {workers} workers": round(
                    videos * frames / _whole_run(folder, engine, workers), 2
                )
                for engine in engines
                for workers in (1, 2)
            }
            found["engine_s_per_task"] = {engine: round(_overhead(engine), 4) for engine in engines}
        return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Measure as workers work."""
    threads = cv2.getNumThreads()
    single_threaded()
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _make_video(path: Path, frames: int, width: int, height: int) -> Path:
    """Two copies of moving smooth noise, the right one displaced by 0.6 % of an eye's width."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 255, (height // 8, width // 16, 3)).astype(np.float32)
    eye = cv2.resize(noise, (width // 2, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w") as file:
        options = {"crf": "20", "preset": "veryfast", "g": "30"}
        stream = file.add_stream("libx264", rate=_RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            left = np.roll(eye, 3 * index, 1)
            both = np.concatenate([left, np.roll(left, -width // 340, 1)], 1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(both, "rgb24")))
        file.mux(stream.encode())
    return path


def _annotate(folder: Path, video_id: str, frames: int) -> None:
    times = np.array([round(index * 1_000_000 / _RATE) for index in range(frames)])
    with whole(folder / f"{video_id}_0.npz") as path, path.open("wb") as stream:
        np.savez(
            stream,
            name=np.array(f"{video_id}_0"),
            video_id=np.array(video_id),
            timestamps=times,
            fov_bounds=np.array([-90.0, 90.0, -90.0, 90.0]),
            rectified2rig=np.stack([np.eye(3)] * 2),
        )


def _stages(path: Path, frames: int) -> tuple[dict[str, float], int]:
    """Seconds of every stage for the whole clip, and the clip's bytes."""
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begin = time.process_time()  # one thread: core seconds, whatever else the machine does
        value = work()
        seconds[name] = time.process_time() - begin
        return value

    reader = ForwardReader(path)
    everything = (Fraction(0), (frames - Fraction(1, 2)) / _RATE)
    raw = timed("decode", lambda: list(reader.between(*everything)))
    pictures = timed("to_rgb", lambda: [frame.rgb() for frame in raw])
    halves = [split_views(picture, "side-by-side") for picture in pictures]
    sphere = Sphere(-90, 90, -90, 90, halves[0][0].shape[1], halves[0][0].shape[0])
    eyes = [Perspective(sphere, np.eye(3), (512, 512), 60.0)] * 2
    pairs = timed(
        "rectify", lambda: [tuple(eye(half) for eye, half in zip(eyes, pair, strict=True)) for pair in halves]
    )
    views = timed("search_range", lambda: positive_views("bench", pairs, _RATE, {}))
    matcher = open_matcher("sgbm", None, "cpu")
    clip = timed("match", lambda: match_views(views, matcher))
    members = timed("encode", lambda: encode_clip(clip, 17))
    return seconds, sum(map(len, members.values()))


def _whole_run(folder: Path, engine: Any, workers: int) -> float:
    out = folder / f"{engine}{workers}"
    dataset = Stereo4D(annotations=[str(folder / "npz")], videos=folder / "raw")
    begin = time.perf_counter()
    done = prepare(dataset, Options(str(out), engine=engine, workers=workers))
    seconds = time.perf_counter() - begin
    if done["rejected"]:
        raise RuntimeError(f"the made videos were rejected: {done['rejected']}")
    return seconds


def _nothing(item: int, watch: Watch) -> int:
    watch.begin(str(item))
    return item


def _overhead(engine: str) -> float:
    """Seconds that an engine adds to an empty task, without its start-up: after the first report."""
    if engine == "local":
        with LocalEngine(_nothing, 1, 1) as local:
            return _between(local.run(range(_TASKS)))
    with ray_cluster(None):
        return _between(run_ray([Stage(_nothing, 1)], range(_TASKS), 1))


def _between(reports: Iterator[Any]) -> float:
    next(reports)
    begin = time.perf_counter()
    count = sum(1 for _ in islice(reports, _TASKS))
    return (time.perf_counter() - begin) / count


def _projected(clips: int, seconds: float, size: float) -> Facts:
    frames = clips * _CLIP_FRAMES
    return {
        "frames_millions": round(frames / 1e6, 1),
        "core_hours": round(frames * seconds / 3600),
        "terabytes": round(frames * size / 1e12, 2),
        f"gpu_hours_at_{_GPU_FRAMES_PER_S}_frames_per_s": round(frames / _GPU_FRAMES_PER_S / 3600),
    }
