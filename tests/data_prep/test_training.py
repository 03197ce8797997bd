"""From raw data of both kinds to a training run of configs/e2e.yaml."""

from fractions import Fraction

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_prep import driver
from data_prep.ego4d import Ego4D
from data_prep.stereo4d import Stereo4D
from tests.data_prep.rig import seen_by, views
from tests.data_prep.scenes import video
from tests.data_prep.test_ego4d import OTHER, UID, metadata
from tests.data_prep.test_stereo4d import BOUNDS, NTSC, dimmed, stamps
from tests.data_prep.vr180 import annotation, equirectangular, film
from tests.tiny_run import CONFIGS, finish, start

SMALL = """
run: e2e
trainer:
  accelerator: cpu
  devices: 1
  max_steps: 8
  val_check_interval: 8
  precision: 32-true
  log_every_n_steps: 8
  enable_progress_bar: false
  callbacks:
    - class_path: m2svid.training.callbacks.LossBreakdown
global_batch: 1
model:
  backbone:
    class_path: m2svid.training.backbone.SmallRandom
    init_args: {channels: [32, 32], head_dim: 16}
  recipe:
    class_path: m2svid.recipes.EndToEnd
    init_args: {latent: 1.0, l1: 1.0, lpips: 0.0}
  metrics: [psnr]
data:
  buckets:
    - {frames: 2, height: 64, width: 64, batch_size: 1}
  eval_clip: {frames: 2, fps: 4.0, size: 64}
  num_workers: 0
  shuffle_buffer: 2
"""


def test_e2e_trains_on_prepared_raw_data_and_validates_on_what_is_held_out(tmp_path):
    raw, ego = tmp_path / "raw", tmp_path / "ego"
    raw.mkdir()
    ego.mkdir()
    eyes = [equirectangular(240, 240, eye, BOUNDS, frequency=14.0) for eye in (0, 1)]
    for name in ("trainVideo1", "heldVideo01"):
        film(raw / f"{name}.mp4", [dimmed(np.concatenate(eyes, 1), index) for index in range(14)], NTSC)
        annotation(tmp_path / "npz", name, stamps(1, 12, 33366.7), BOUNDS)
    for uid, seed in ((UID, 1), (OTHER, 2)):
        video(ego / f"{uid}.mp4", [seen_by(pair[:2]) for pair in views(seed, 4)], fps=Fraction(4))
    held = tmp_path / "held.txt"
    held.write_text(f"heldVideo01-clip3\n{OTHER}\n")
    shared = ("--workers", "0", "--hold_out", str(held))
    for split in ("train", "test"):
        words = [
            str(tmp_path / "npz"),
            "--videos",
            str(raw),
            "-o",
            str(tmp_path / "data" / "stereo4d"),
            *shared,
        ]
        assert driver.main(Stereo4D, [*words, "--size", "[128,128]", "--split", split]) == 0
        words = [str(ego), "--metadata", str(metadata(ego, **{UID: 1.0, OTHER: 1.0})), *shared]
        out = str(tmp_path / "data" / "ego4d")
        assert driver.main(Ego4D, [*words, "-o", out, "--clip_seconds", "1", "--split", split]) == 0
    overlay = tmp_path / "small.yaml"
    overlay.write_text(SMALL)
    configs = ("--config", str(CONFIGS / "e2e.yaml"), "--config", str(overlay))
    output = finish(start("fit", *configs, cwd=tmp_path))
    assert "max_steps=8" in output
    validated = {
        path.name.split("_")[2].removesuffix(".csv")
        for path in (tmp_path / "runs" / "e2e").rglob("val_step8_*.csv")
    }
    assert validated == {"stereo4d", "ego4d"}
    events = EventAccumulator(str(tmp_path / "runs" / "e2e"))
    events.Reload()
    trained = {tag for tag in events.Tags()["scalars"] if tag.startswith("loss_by_dataset/")}
    assert trained == {"loss_by_dataset/stereo4d", "loss_by_dataset/ego4d"}  # half each
