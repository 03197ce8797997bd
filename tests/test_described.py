"""Objects that are named by class path and arguments, and made again from those."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from m2svid.attention import AttentionStrategy, Disoccluded, Factorized
from m2svid.described import create
from m2svid.errors import UserError
from m2svid.model.conditioning import Conditioning
from m2svid.model.vae import SpaceToDepth, VideoAutoencoder


class Hidden(Factorized):
    """Keeps none of its arguments under their names."""

    def __init__(self, share: float, *, names=("a",), **more):
        super().__init__()
        self._kept = (share, names, more)


@dataclass
class Fields(Factorized):
    share: float = 0.5


class Wider(Conditioning):
    def __init__(self, extra: int = 2) -> None:
        super().__init__(["warped", "mask"])
        self.extra = extra


HERE = "tests.test_described"


@pytest.mark.parametrize(
    ("thing", "path", "arguments"),
    [
        (Disoccluded(), "m2svid.attention.Disoccluded", {"max_train_tokens_per_frame": 512}),
        (Disoccluded(3), "m2svid.attention.Disoccluded", {"max_train_tokens_per_frame": 3}),
        (Factorized(), "m2svid.attention.Factorized", {}),
        (SpaceToDepth(downscale=2), "m2svid.model.vae.SpaceToDepth", {"downscale": 2}),
        (Hidden(0.1, more=[1]), f"{HERE}.Hidden", {"share": 0.1, "names": ["a"], "more": [1]}),
        (Fields(share=0.25), f"{HERE}.Fields", {"share": 0.25}),
        (Wider(), f"{HERE}.Wider", {"extra": 2}),  # and not the arguments of the class that it extends
    ],
)
def test_described_and_made_again(thing, path, arguments):
    told = thing.describe()
    assert told == {"class_path": path, "init_args": arguments}
    again = create(told, type(thing).__mro__[1])
    assert type(again) is type(thing) and again.describe() == told


def test_what_a_card_cannot_hold_is_refused():
    class Local(Factorized):
        pass

    with pytest.raises(UserError, match=r"Local can't be named .* top of a module"):
        Local().describe()
    with pytest.raises(UserError, match=r"Hidden can't be kept .* Tensor"):
        Hidden(torch.zeros(1)).describe()


@pytest.mark.parametrize(
    ("path", "protocol", "message"),
    [
        ("not_there.Mine", AttentionStrategy, r"not_there\.Mine can't be imported .* PYTHONPATH"),
        ("m2svid.attention.Mine", AttentionStrategy, r"Mine can't be imported"),
        ("subprocess.Popen", AttentionStrategy, r"subprocess\.Popen is no concrete subclass"),
        ("os.system", AttentionStrategy, r"os\.system is no concrete subclass"),
        ("m2svid.attention.Disoccluded", VideoAutoencoder, r"m2svid\.model\.vae\.VideoAutoencoder"),
        ("m2svid.attention.AttentionStrategy", AttentionStrategy, "no concrete subclass"),
        ("../mine.Mine", AttentionStrategy, "no dotted name"),
        ("Mine", AttentionStrategy, "no dotted name"),
    ],
)
def test_only_subclasses_of_the_protocol_are_made(path, protocol, message, monkeypatch):
    monkeypatch.setattr("os.system", lambda *args: pytest.fail("called"))
    monkeypatch.setattr("subprocess.Popen.__init__", lambda *args, **kwargs: pytest.fail("called"))
    with pytest.raises(UserError, match=message):
        create({"class_path": path, "init_args": {}}, protocol)


def test_wrong_arguments_are_refused():
    with pytest.raises(UserError, match=r"Disoccluded can't be made of .*tokens"):
        create({"class_path": "m2svid.attention.Disoccluded", "init_args": {"tokens": 1}}, AttentionStrategy)
    with pytest.raises(TypeError):
        Disoccluded(1, 2)
