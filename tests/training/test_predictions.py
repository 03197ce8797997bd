"""Predicted videos, read back from their files."""

import errno

import av
import pytest
import torch

from m2svid.errors import UserError
from m2svid.training import predictions
from m2svid.training.predictions import PredictionWriter
from tests.tiny_module import make_batch


def read(path):
    """(frames per second, (T, 3, H, W) in [0, 1])."""
    with av.open(path) as file:
        rate = float(file.streams.video[0].average_rate)
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    return rate, torch.stack(frames).permute(0, 3, 1, 2) / 255


def test_predictions_are_written_with_their_names_and_frame_rates(tmp_path):
    batch = make_batch(("street/a", "forest/b"))
    smooth = torch.linspace(0, 1, 32).expand_as(batch.left).contiguous()
    batch.left = smooth / 2
    prediction = torch.stack([smooth[0], 1 - smooth[1]])
    PredictionWriter(str(tmp_path)).write_on_batch_end(None, None, prediction, None, batch, 0, 0)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    assert written == {f"{key}.{view}.mp4" for key in batch.keys for view in ("right", "sbs")}
    for key, left, right, rate in zip(batch.keys, batch.left, prediction, (8, 30000 / 1001), strict=True):
        for view, expected in (("right", right), ("sbs", torch.cat([left, right], -1))):
            fps, video = read(tmp_path / f"{key}.{view}.mp4")
            assert fps == pytest.approx(rate, rel=1e-4)
            assert video.shape == expected.shape
            assert (video - expected).abs().mean() < 0.02


def test_a_full_disk_leaves_no_half_video(tmp_path, monkeypatch):
    def full(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    monkeypatch.setattr(predictions, "encode_video", lambda *_: b"video")
    batch = make_batch(("street/a",))
    with pytest.raises(UserError, match=r"street/a\.right\.mp4 can't be written: No space left"):
        PredictionWriter(str(tmp_path)).write_on_batch_end(None, None, batch.left, None, batch, 0, 0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
