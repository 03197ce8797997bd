"""Cost of the paper's methods, from the left view and its disparity to the right view (Tables 2 and 9).

Shapes: T frames, H W pixels, h w latent.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from m2svid.bench.networks import (
    TOKENS,
    Call,
    Networks,
    Watch,
    WithoutMemory,
    attention_of,
    make_clip,
    predictor,
)
from m2svid.bench.process import measured
from m2svid.errors import UserError
from m2svid.files import whole
from m2svid.warping.mask import mask_latent

log = logging.getLogger(__name__)

PAPER_SECONDS = {
    "m2svid": 2.1,
    "m2svid_factorized": 2.0,
    "stereocrafter_1": 2.4,
    "stereocrafter_25": 12.2,
    "svg": 1270.4,
}
"""By method: Table 2, and Table 9 for `m2svid_factorized`; 16×512×512 on an A100."""
REFERENCE = "m2svid"
FULL = (16, 512, 512)
ON_CPU = (4, 128, 128)  # a clip that takes seconds
COUNTED = (16, 64, 64)  # the same calls as a full clip's
Timing = Literal["auto", "whole", "calls", "none"]


def run(
    methods: Sequence[str] = tuple(PAPER_SECONDS),
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    timing: Timing = "auto",
    repeats: int = 1,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    small: bool = False,
    output: Path | None = None,
) -> dict[str, Any]:
    """Seconds, memory, calls of networks and operations of one clip, with random weights of full size.

    Each method is timed in a process of its own. Calls and operations are always those of 16×512×512 at full
    size; operations are counted without calculating, one multiplication with addition as two.

    Args:
        methods: some of m2svid, the reference, m2svid_factorized (without full attention), stereocrafter_1,
            stereocrafter_25 and svg, in this order.
        frames: of the clip that is timed; if not given, 16, on a CPU 4.
        height: of this clip, px; if not given, 512, on a CPU 128.
        width: of this clip, px; if not given, 512, on a CPU 128.
        timing: whole = the prediction as it is; calls = one call of each kind, times their number, and
            everything else as it is; none = calls and operations only. auto is whole on a GPU, else calls.
        repeats: timed predictions, of which the median counts.
        device: such as cpu or cuda; auto takes a GPU if there is one.
        dtype: of all networks; auto is bfloat16 on a GPU, else float32, which needs 11 GB.
        small: networks of a few channels, to try the measurement out.
        output: JSON that keeps the methods that are finished, whatever happens to the others.

    Returns:
        What was measured on, and by method: calls, frames and TFLOP of each network; seconds, and memory of
        its process or of the GPU in GB; ratios to m2svid, and the paper's.

    Raises:
        UserError: an unknown method.
    """
    unknown = [name for name in methods if name not in PAPER_SECONDS]
    if unknown or not methods:
        raise UserError(f"--methods {unknown} must be some of {', '.join(PAPER_SECONDS)}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    cuda = device.startswith("cuda")
    full = FULL if cuda else ON_CPU
    size = (frames or full[0], height or full[1], width or full[2])
    if timing == "auto":
        timing = "whole" if cuda else "calls"
    if dtype == "auto":
        dtype = "bfloat16" if cuda else "float32"
    result: dict[str, Any] = {
        "frames": size[0],
        "height": size[1],
        "width": size[2],
        "networks": "small" if small else "full size",
        "timing": timing,
        "device": torch.cuda.get_device_name(device) if cuda else device,
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "torch": torch.__version__,
        "methods": {},
    }
    for name in methods:
        row = result["methods"][name] = cost(name)
        if timing != "none":
            row |= measured_seconds(name, size, timing == "whole", repeats, device, dtype, small)
        _add_ratios(result["methods"])
        log.info("%s: %.0f TFLOP, %s s", name, row["tflop"], row.get("seconds", "-"))
        if output is not None:
            with whole(output) as temporary:
                temporary.write_text(json.dumps(result, indent=2) + "\n")
    return result


def _add_ratios(rows: dict[str, dict[str, Any]]) -> None:
    base = rows.get(REFERENCE, {})
    for name, row in rows.items():
        row["paper_seconds"] = PAPER_SECONDS[name]
        row["paper_ratio"] = round(PAPER_SECONDS[name] / PAPER_SECONDS[REFERENCE], 3)
        for value in ("seconds", "tflop"):
            if value in base:
                row[f"{value}_ratio"] = round(row[value] / base[value], 3)


def cost(name: str) -> dict[str, Any]:
    """Calls, frames and TFLOP of each network of a method, for a clip of 16×512×512."""
    calls = count_calls(name)
    tflop = count_tflop(name, calls)
    networks = dict.fromkeys(network for network, _ in calls)
    total = sum(count * tflop[call] for call, count in calls.items())
    row: dict[str, Any] = {"tflop": round(total, 2)}
    for network in networks:
        kinds = {call: count for call, count in calls.items() if call[0] == network}
        row[f"{network}_calls"] = sum(kinds.values())
        row[f"{network}_frames"] = sum(count * frames for (_, frames), count in kinds.items())
        row[f"{network}_tflop"] = round(sum(count * tflop[call] for call, count in kinds.items()), 2)
    return row


def count_calls(name: str) -> Counter[Call]:
    """Count the calls of each network, and their frames, by running the method on small networks."""
    networks = Networks.make(name, small=True)
    watch = Watch(networks)
    watch.begin(once=True)
    predictor(name, networks)(make_clip(*COUNTED))
    return watch.calls


def count_tflop(name: str, calls: Iterable[Call]) -> dict[Call, float]:
    """Operations of a call by its kind, of networks of full size without memory, at 512×512."""
    networks = Networks.make(name, device="meta")
    _, H, W = FULL
    h, w = H // 8, W // 8
    mask = mask_latent(make_clip(*FULL).hole, (h, w))

    def shape(*size: int) -> Tensor:
        return torch.empty(size, device="meta")

    def call(network: str, frames: int) -> None:
        if network == "vae_encoder":
            networks.vae.encode(shape(frames, 3, H, W))
        elif network == "vae_decoder":
            networks.vae.decode(shape(frames, 4, h, w), num_frames=frames)
        elif network == "image_encoder":
            networks.encoder(pixel_values=shape(frames, 3, 224, 224))
        elif network == "text_encoder":
            networks.encoder(torch.zeros(frames, TOKENS, dtype=torch.long, device="meta"))
        elif name == "svg":
            networks.unet(shape(2, 4, frames, h, w), 500, shape(2, TOKENS, 1024))
        else:
            context, strategy = shape(1, frames, 1, 1024), WithoutMemory(attention_of(name), mask)
            sample = shape(1, frames, networks.unet.config.in_channels, h, w)
            networks.unet(sample, shape(1), context, shape(1, 3), None, strategy)

    tflop = {}
    for network, frames in calls:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            call(network, frames)
        tflop[network, frames] = counter.get_total_flops() / 1e12
    return tflop


def measured_seconds(
    name: str, size: tuple[int, int, int], every: bool, repeats: int, device: str, dtype: str, small: bool
) -> dict[str, float]:
    """Seconds of a prediction and peak memory, in a process of its own; arguments as in `run`."""
    (seconds, device_gb), took = measured(_seconds, name, size, every, repeats, device, dtype, small)
    memory = {"device_gb": device_gb} if device.startswith("cuda") else {"process_gb": took["own_gb"]}
    return {key: round(value, 3) for key, value in ({"seconds": seconds} | memory).items()}


def _seconds(
    name: str, size: tuple[int, int, int], every: bool, repeats: int, device: str, dtype: str, small: bool
) -> tuple[float, float]:
    """Median of the seconds, and GB on the device where that is a GPU."""
    torch.manual_seed(0)
    networks = Networks.make(name, small, device, getattr(torch, dtype))
    clip = make_clip(*size, device)
    watch, predict = Watch(networks), predictor(name, networks)
    cuda = device.startswith("cuda")
    watch.begin(once=True)
    predict(clip)  # a call of each kind, so that kernels are chosen and memory is taken
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    for _ in range(repeats):
        watch.begin(once=not every)
        start = time.perf_counter()
        predict(clip)
        if cuda:
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start + watch.left_out)
    return median(times), torch.cuda.max_memory_allocated(device) / 1e9 if cuda else 0.0
