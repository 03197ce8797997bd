"""The paper's methods on random networks, whose calls are watched.

Shapes: T frames, H W pixels, h w latent.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, DDPMScheduler, UNet3DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from m2svid.attention import AttentionStrategy, Disoccluded, Factorized, Selection
from m2svid.batch import Original, StereoBatch
from m2svid.bench.weights import PUBLISHED, SMALL
from m2svid.evaluation.methods import SVG, StereoCrafter, Weights
from m2svid.evaluation.methods.frame_matrix import FrameMatrix, Schedule
from m2svid.evaluation.methods.warps import ClosedNearest, warped_by
from m2svid.model.conditioning import Conditioning
from m2svid.model.m2svid import M2SVid
from m2svid.model.neighbours import STEREOCRAFTER, StereoCrafterConditioning
from m2svid.synthetic.networks import ZEROSCOPE_SCHEDULER
from m2svid.weights.parts import build, wrap

HOLES = 0.05  # share of the clip's pixels
TOKENS = 77  # of a prompt

ZEROSCOPE: dict[str, Any] = {"cross_attention_dim": 1024, "attention_head_dim": 64}
SMALL_ZEROSCOPE: dict[str, Any] = {
    "block_out_channels": (32, 32),
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 16,
}
TEXT: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
}
SMALL_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}

Call = tuple[str, int]  # a network's name, and the frames that it sees at a time


@dataclass
class Networks:
    """The networks of a method.

    Attributes:
        unet: the denoiser.
        vae: Stable Video Diffusion's.
        encoder: CLIP's for images or, of SVG, for text.
    """

    unet: nn.Module
    vae: AutoencoderKLTemporalDecoder
    encoder: nn.Module

    @classmethod
    def make(
        cls, name: str, small: bool = False, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Networks:
        """Random ones.

        Args:
            name: of the method, see `predictor`.
            small: of a few channels, with the same calls.
            device: "meta" makes them without memory.
            dtype: of all numbers.
        """
        sizes = SMALL if small else PUBLISHED
        if name == "svg":
            with torch.device("meta"):
                unet = UNet3DConditionModel(**(SMALL_ZEROSCOPE if small else ZEROSCOPE))
                encoder = CLIPTextModel(CLIPTextConfig(**(SMALL_TEXT if small else TEXT)))
        else:
            channels = conditioning_of(name).in_channels(4)
            unet = build("unet", sizes["unet"] | {"in_channels": channels})
            encoder = build("image_encoder", sizes["image_encoder"])
        networks = cls(unet, build("vae", sizes["vae"]), encoder)
        for item in fields(cls):
            fill(getattr(networks, item.name), device, dtype)
        return networks

    @property
    def functions(self) -> dict[str, tuple[nn.Module, str]]:
        """Owner and name of the function behind each name of a `Call`."""
        text = isinstance(self.encoder, CLIPTextModel)
        return {
            "unet": (self.unet, "forward"),
            "vae_encoder": (self.vae, "encode"),
            "vae_decoder": (self.vae, "decode"),
            "text_encoder" if text else "image_encoder": (self.encoder, "forward"),
        }


def fill(module: nn.Module, device: str, dtype: torch.dtype) -> None:
    """Give a module without memory random numbers of the usual size."""
    nn.Module.to(module, dtype)  # diffusers' own warns of modules to be kept, though there are none
    module.requires_grad_(False).eval().to_empty(device=device)
    for parameter in module.parameters():
        bound = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 1.0
        parameter.uniform_(-bound, bound)
    for name, buffer in module.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1], device=device))


def conditioning_of(name: str) -> Conditioning:
    return StereoCrafterConditioning() if name.startswith("stereocrafter") else Conditioning()


def attention_of(name: str) -> AttentionStrategy:
    return Disoccluded() if name == "m2svid" else Factorized()


def make_model(name: str, networks: Networks, gradient_checkpointing: bool = False) -> M2SVid:
    """The model of a method.

    Args:
        name: stereocrafter_N with N steps, m2svid_factorized (without full attention) or m2svid.
        networks: its own.
        gradient_checkpointing: as in training.
    """
    crafter = name.startswith("stereocrafter")
    if gradient_checkpointing:
        networks.unet.enable_gradient_checkpointing()
    return M2SVid(
        networks.unet,
        wrap(
            networks.vae, gradient_checkpointing=gradient_checkpointing, decode_chunk=2 if crafter else None
        ),
        wrap(networks.encoder),
        conditioning_of(name),
        attention_of(name),
        STEREOCRAFTER if crafter else None,
    )


def predictor(name: str, networks: Networks) -> Callable[[StereoBatch], Tensor]:
    """A function from a clip to its right view, the method's own warp included.

    Args:
        name: svg, stereocrafter_N with N steps, m2svid_factorized (without full attention) or m2svid.
        networks: its own.
    """
    if name == "svg":
        return _svg(networks)
    crafter = name.startswith("stereocrafter")
    method = StereoCrafter("", "", int(name.rpartition("_")[2])) if crafter else Weights("", name)
    method.model = make_model(name, networks)

    def predict(clip: StereoBatch) -> Tensor:
        return method.predict(warped_by(method.warp, clip), _generator(clip))

    return predict


def _svg(networks: Networks) -> Callable[[StereoBatch], Tensor]:
    method, scheduler = SVG(), DDPMScheduler(**ZEROSCOPE_SCHEDULER)

    def predict(clip: StereoBatch) -> Tensor:
        tokens = torch.zeros(2, TOKENS, dtype=torch.long, device=clip.left.device)
        text = networks.encoder(tokens).last_hidden_state
        method.matrix = FrameMatrix(networks.unet, networks.vae, scheduler, text, Schedule())
        return method.predict(clip, _generator(clip))

    return predict


def _generator(clip: StereoBatch) -> torch.Generator:
    return torch.Generator(clip.left.device).manual_seed(0)


def make_clip(T: int, H: int, W: int, device: str = "cpu") -> StereoBatch:
    """Noise with a near square half as high, beside which 5 % of the pixels are a hole."""
    random = torch.Generator().manual_seed(0)
    left = torch.randint(256, (T, 3, H, W), generator=random, dtype=torch.uint8).to(device)
    disparity = torch.zeros(T, 1, H, W, device=device)
    disparity[..., H // 4 : 3 * H // 4, W // 4 : 3 * W // 4] = round(2 * HOLES * W)
    view = left[None].float() / 255
    clip = StereoBatch(
        left=view,
        warped=view,
        hole=torch.zeros(1, T, 1, H, W, dtype=torch.bool, device=device),
        fps=torch.tensor([5.0], device=device),
        keys=("made",),
        originals=(Original(left, disparity, (0, 0, H, W)),),
    )
    return warped_by(ClosedNearest(), clip)


class Watch:
    """Count the calls of networks.

    Attributes:
        calls: how often each kind was called.
        left_out: seconds that the calls would have taken that were not run.
    """

    def __init__(self, networks: Networks) -> None:
        for name, (owner, function) in networks.functions.items():
            setattr(owner, function, self._watched(name, owner, getattr(owner, function)))
        self.begin()

    def begin(self, once: bool = False) -> None:
        """Begin anew; `once` runs the first call of each kind only, whose result the others return again."""
        self.calls: Counter[Call] = Counter()
        self.left_out = 0.0
        self._once = once
        self._first: dict[Call, tuple[Any, float]] = {}

    def _watched(self, name: str, owner: nn.Module, function: Callable[..., Any]) -> Callable[..., Any]:
        axis = (2 if isinstance(owner, UNet3DConditionModel) else 1) if name == "unet" else 0

        def call(*args: Any, **options: Any) -> Any:
            given: Tensor = next(iter((*args, *options.values())))
            kind = name, given.shape[axis]
            self.calls[kind] += 1
            if not self._once:
                return function(*args, **options)
            if kind not in self._first:
                start = time.perf_counter()
                result = function(*args, **options)
                if given.is_cuda:
                    torch.cuda.synchronize(given.device)
                self._first[kind] = result, time.perf_counter() - start
                return result
            result, seconds = self._first[kind]
            self.left_out += seconds
            return result

        return call


class WithoutMemory(AttentionStrategy):
    """A strategy for networks on torch's meta device: its choice of tokens is made of a real mask.

    Args:
        strategy: whose choice and attention it is.
        mask: (B, T, 1, h, w), see `AttentionStrategy.select`.
    """

    def __init__(self, strategy: AttentionStrategy, mask: Tensor) -> None:
        self._strategy, self._mask = strategy, mask

    def select(
        self,
        mask: Tensor | None,
        size: tuple[int, int],
        training: bool,
        generator: torch.Generator | None = None,
    ) -> Selection | None:
        found = self._strategy.select(self._mask, size, training, generator)
        return found and Selection(*(getattr(found, item.name).to("meta") for item in fields(found)))

    def attend(self, *args: Any) -> Tensor:
        return self._strategy.attend(*args)
