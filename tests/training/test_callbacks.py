"""What runs show and write: speed of made-up times, pictures read back from the log, predicted videos."""

import resource
from types import SimpleNamespace

import av
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.precision import Precision
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision.io import decode_png

from m2svid.sheets.draw import error_map, strip
from m2svid.training import callbacks
from m2svid.training.callbacks import Pictures, PredictionWriter, Throughput
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


def test_throughput_of_made_up_times(clock):
    """Two windows of two batches; (waiting, training, clips, skipped)."""
    logged = []
    module = SimpleNamespace(device=torch.device("cpu"), log_dict=lambda values, **_: logged.append(values))
    throughput = Throughput(every_n_steps=2)
    clock.now += 1000  # model and data are set up
    throughput.on_train_start(None, module)
    for wait, train, clips, skipped in [
        (2, 3, 2, 1),
        (1, 4, 3, 2),
        (0, 1, 1, 0),
        (3, 4, 1, 0),
        (50, 1, 1, 0),
    ]:
        batch = SimpleNamespace(keys=("key",) * clips, skipped=skipped)
        clock.now += wait
        throughput.on_train_batch_start(None, module, batch, 0)
        clock.now += train
        throughput.on_train_batch_end(None, module, None, batch, 0)
    first, second = logged  # the last batch is in no full window
    assert first["speed/samples_per_s"] == pytest.approx(5 / 10)
    assert first["speed/data_wait_share"] == pytest.approx(3 / 10)
    assert first["data/skipped_clips"] == 3
    assert second["speed/samples_per_s"] == pytest.approx(2 / 8)
    assert second["speed/data_wait_share"] == pytest.approx(3 / 8)
    assert second["data/skipped_clips"] == 0
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    assert second["speed/peak_memory_gb"] == pytest.approx(megabytes / 1e3, rel=0.1)


@pytest.fixture
def trainer(tmp_path):
    logger = TensorBoardLogger(str(tmp_path), name="run", version="")
    return SimpleNamespace(
        global_step=6,
        global_rank=0,
        is_global_zero=True,
        sanity_checking=False,
        logger=logger,
        precision_plugin=Precision(),
    )


@pytest.fixture
def module(trainer):
    module = make_module()
    module._trainer = trainer
    return module


def shown(trainer):
    """Tag -> (step, picture) of what was logged."""
    trainer.logger.experiment.flush()
    events = EventAccumulator(trainer.logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    return {
        tag: [(image.step, decode(image.encoded_image_string)) for image in events.Images(tag)]
        for tag in events.Tags()["images"]
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


def test_pictures_of_every_validation_set_under_its_name(trainer, module):
    pictures = Pictures()
    for dataset in ("street", "forest"):
        for index in range(2):
            batch = make_batch((f"{dataset}/{index}",))
            pictures.on_validation_batch_end(trainer, module, None, batch, index)
    names = ("strip", "anaglyph", "error")
    assert set(shown(trainer)) == {
        f"val/{dataset}/{name}" for dataset in ("street", "forest") for name in names
    }


@pytest.mark.parametrize(
    "change",
    [{"global_step": 7}, {"is_global_zero": False}, {"logger": None}],
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


def test_predictions_are_written_with_their_frame_rates(tmp_path):
    batch = make_batch(("street/a", "forest/b"))
    smooth = torch.linspace(0, 1, 32).expand_as(batch.left).contiguous()
    prediction = torch.stack([smooth[0], 1 - smooth[1]])
    PredictionWriter(str(tmp_path)).write_on_batch_end(None, None, prediction, None, batch, 0, 0)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.*"))
    assert [str(path) for path in written] == ["forest/b.right.mp4", "street/a.right.mp4"]
    for path, video, rate in zip(reversed(written), prediction, (8, 30000 / 1001), strict=True):
        with av.open(tmp_path / path) as file:
            assert float(file.streams.video[0].average_rate) == pytest.approx(rate, rel=1e-4)
            frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
        read = torch.stack(frames).permute(0, 3, 1, 2) / 255
        assert read.shape == video.shape
        assert (read - video).abs().mean() < 0.02
