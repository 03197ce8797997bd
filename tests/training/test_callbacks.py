"""Logging of runs: speed of made-up times, pictures read back from the log."""

import io
import resource
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.precision import Precision
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision.io import decode_png

from m2svid.sheets.draw import error_map, strip
from m2svid.training import callbacks
from m2svid.training.callbacks import LossBreakdown, Pictures, Throughput
from m2svid.video.anaglyph import anaglyph
from tests.tiny_module import make_batch, make_module


class Clock:
    """perf_counter at times of the test's choice."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(callbacks, "time", clock)
    return clock


class Noting:
    """A logger that remembers (step, values)."""

    def __init__(self):
        self.lines = []

    def log_metrics(self, values, step):
        self.lines.append((step, values))


def fake_trainer(**options):
    given = {"global_step": 0, "log_every_n_steps": 2, "world_size": 1, "accumulate_grad_batches": 1}
    return SimpleNamespace(**{**given, "loggers": [Noting(), Noting()], **options})


def test_throughput_of_made_up_times(clock):
    """Two windows of two steps; (waiting, training, clips, skipped)."""
    trainer = fake_trainer()
    module = SimpleNamespace(device=torch.device("cpu"), trainer=trainer)
    throughput = Throughput()
    clock.now += 1000  # model and data are set up
    throughput.on_train_start(trainer, module)
    for wait, train, clips, skipped in [
        (2, 3, 2, 1),
        (1, 4, 3, 2),
        (0, 1, 1, 0),
        (3, 4, 1, 0),
        (50, 1, 1, 0),
    ]:
        batch = SimpleNamespace(keys=("key",) * clips, skipped=skipped, num_frames=4)
        clock.now += wait
        throughput.on_train_batch_start(trainer, module, batch, 0)
        clock.now += train
        trainer.global_step += 1
        throughput.on_train_batch_end(trainer, module, None, batch, 0)
    assert trainer.loggers[0].lines == trainer.loggers[1].lines
    (two, first), (four, second) = trainer.loggers[0].lines  # the last batch is in no full window
    assert (two, four) == (2, 4)
    assert first["speed/samples_per_s"] == pytest.approx(5 / 10)
    assert first["speed/frames_per_s"] == pytest.approx(4 * 5 / 10)
    assert first["speed/data_wait_share"] == pytest.approx(3 / 10)
    assert first["data/skipped_clips"] == 3
    assert second["speed/samples_per_s"] == pytest.approx(2 / 8)
    assert second["speed/data_wait_share"] == pytest.approx(3 / 8)
    assert second["data/skipped_clips"] == 0
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    assert second["speed/peak_memory_gb"] == pytest.approx(megabytes / 1e3, rel=0.1)


def test_every_batch_is_in_one_interval_where_gradients_accumulate():
    trainer = fake_trainer(accumulate_grad_batches=3)
    module = SimpleNamespace(device=torch.device("cpu"), trainer=trainer)
    throughput = Throughput()
    throughput.on_train_start(trainer, module)
    for number in range(1, 13):
        trainer.global_step = number // 3
        batch = SimpleNamespace(keys=("key",), skipped=number, num_frames=1)
        throughput.on_train_batch_start(trainer, module, batch, 0)
        throughput.on_train_batch_end(trainer, module, None, batch, 0)
    logged = [(step, values["data/skipped_clips"]) for step, values in trainer.loggers[0].lines]
    assert logged == [(2, sum(range(1, 7))), (4, sum(range(7, 13)))]


def test_loss_by_bucket_and_by_dataset():
    trainer = fake_trainer(log_every_n_steps=1, accumulate_grad_batches=4)
    breakdown = LossBreakdown()
    breakdown.on_train_start(trainer, None)
    small, large = torch.zeros(1, 2, 3, 8, 16), torch.zeros(1, 4, 3, 32, 32)
    batches = [(small, "street/a", 1.0), (large, "street/b", 2.0), (small, "forest/a", 4.0)]
    for left, key, loss in batches:
        batch = SimpleNamespace(left=left, keys=(key,))
        breakdown.on_train_batch_end(trainer, None, {"loss": torch.tensor(loss / 4)}, batch, 0)
    trainer.global_step = 1
    mixed = SimpleNamespace(left=large, keys=("street/c", "forest/d"))
    breakdown.on_train_batch_end(trainer, None, {"loss": torch.tensor(8.0 / 4)}, mixed, 0)
    ((_, values),) = trainer.loggers[0].lines
    assert values == {
        "loss_by_bucket/2x8x16": 2.5,
        "loss_by_bucket/4x32x32": 5.0,
        "loss_by_dataset/street": 1.5,
        "loss_by_dataset/forest": 4.0,
    }


@pytest.fixture
def trainer(tmp_path):
    logger = TensorBoardLogger(str(tmp_path), name="run", version="")
    return SimpleNamespace(
        global_step=6,
        global_rank=0,
        is_global_zero=True,
        sanity_checking=False,
        loggers=[logger, TensorBoardLogger(str(tmp_path), name="second", version="")],
        precision_plugin=Precision(),
    )


@pytest.fixture
def module(trainer):
    module = make_module()
    module._trainer = trainer
    return module


def logged(logger):
    """Tag -> (step, file) of what was logged."""
    logger.experiment.flush()
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    return {
        tag: [(image.step, image.encoded_image_string) for image in events.Images(tag)]
        for tag in events.Tags()["images"]
    }


def shown(trainer):
    """Tag -> (step, picture) of what was logged; films apart."""
    return {
        tag: [(step, decode(file)) for step, file in images]
        for tag, images in logged(trainer.loggers[0]).items()
        if not tag.endswith("/film")
    }


def decode(png):
    return decode_png(torch.frombuffer(bytearray(png), dtype=torch.uint8)) / 255


def test_pictures_show_the_first_clip_and_its_prediction(trainer, module):
    batch = make_batch()
    Pictures(every_n_steps=3, frames=2).on_train_batch_end(trainer, module, None, batch, 11)
    generated = module.predict(batch)[0]
    left, right = batch.left[0], batch.right[0]
    expected = {
        "train/strip": strip(left, batch.warped[0], batch.hole[0], generated, right, rows=2),
        "train/anaglyph": anaglyph(left[0], generated[0]),
        "train/error": error_map(generated[0], right[0]),
    }
    pictures = shown(trainer)
    assert pictures.keys() == expected.keys()
    for tag, picture in expected.items():
        ((step, logged),) = pictures[tag]
        assert step == 6
        torch.testing.assert_close(logged, picture, rtol=0, atol=1.5 / 255)


def test_the_film_plays_all_frames_at_the_clips_rate(trainer, module):
    batch = make_batch()
    Pictures(every_n_steps=3, frames=2).on_train_batch_end(trainer, module, None, batch, 11)
    generated = module.predict(batch)[0]
    views = [batch.left[0], batch.warped[0], batch.hole[0].expand(-1, 3, -1, -1), generated, batch.right[0]]
    (((_, file),),) = [images for tag, images in logged(trainer.loggers[0]).items() if tag == "train/film"]
    with Image.open(io.BytesIO(file)) as film:
        assert film.n_frames == 2
        for t in range(2):
            film.seek(t)
            assert film.info["duration"] == 120  # 8 fps, in GIF's hundredths of a second
            frame = torch.from_numpy(np.array(film.convert("RGB"))).permute(2, 0, 1) / 255
            for column, view in enumerate(views):
                panel = frame[:, :, column * 34 : column * 34 + 32]
                assert (panel - view[t].float()).abs().mean() < 0.06  # 256 colours


def test_every_tensorboard_gets_the_pictures(trainer, module):
    Pictures(every_n_steps=3).on_train_batch_end(trainer, module, None, make_batch(), 0)
    first, second = (logged(logger) for logger in trainer.loggers)
    assert first == second and first


def test_one_picture_a_step_where_gradients_accumulate(trainer, module):
    pictures = Pictures(every_n_steps=3)
    trainer.global_step = 3
    pictures.on_train_start(trainer, module)  # a run that continues after step 3
    for step in (3, 4, 4, 5, 5, 6, 6, 6):
        trainer.global_step = step
        pictures.on_train_batch_end(trainer, module, None, make_batch(), 0)
    assert [step for step, _ in shown(trainer)["train/strip"]] == [6]


def test_a_prediction_that_is_not_finite_is_shown_black(trainer, module, monkeypatch):
    batch = make_batch()
    monkeypatch.setattr(module, "predict", lambda clip: torch.full_like(clip.left, float("nan")))
    Pictures(every_n_steps=3, frames=1).on_train_batch_end(trainer, module, None, batch, 0)
    ((_, picture),) = shown(trainer)["train/strip"]
    assert picture[:, :, 3 * 34 : 3 * 34 + 32].max() == 0


def test_pictures_of_the_first_batch_of_every_validation_set_under_its_name(trainer, module):
    pictures = Pictures()
    for dataset in ("street", "forest"):
        for index in range(2):
            batch = make_batch((f"{dataset}/{index}",))
            pictures.on_validation_batch_end(trainer, module, None, batch, index)
    names = ("strip", "anaglyph", "error")
    pictures = shown(trainer)
    assert set(pictures) == {f"val/{dataset}/{name}" for dataset in ("street", "forest") for name in names}
    assert {len(images) for images in pictures.values()} == {1}


@pytest.mark.parametrize(
    "change",
    [{"global_step": 7}, {"is_global_zero": False}, {"loggers": []}],
    ids=["step", "rank", "logger"],
)
def test_pictures_are_made_when_they_are_due_only(trainer, module, change, monkeypatch):
    vars(trainer).update(change)
    monkeypatch.setattr(module, "predict", lambda batch: pytest.fail("predicted for nothing"))
    Pictures(every_n_steps=3).on_train_batch_end(trainer, module, None, make_batch(), 0)


def test_no_pictures_of_the_sanity_check(trainer, module, monkeypatch):
    trainer.sanity_checking = True
    monkeypatch.setattr(module, "predict", lambda batch: pytest.fail("predicted for nothing"))
    Pictures().on_validation_batch_end(trainer, module, None, make_batch(), 0)
