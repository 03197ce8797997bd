"""`bench gpu`: all measurements within a time, and `bench merge`."""

from __future__ import annotations

import gc
import logging
import sys
import time
from pathlib import Path
from typing import Any

import torch

from m2svid.bench.gpu.cases import Case, cases
from m2svid.bench.gpu.limits import measure_rates
from m2svid.bench.gpu.published_process import CONFIG
from m2svid.bench.gpu.report import Report, machine
from m2svid.bench.gpu.setting import GB, Setting
from m2svid.errors import UserError

log = logging.getLogger(__name__)

LESS_GB = 0.6  # that a card may have less than its name says


def run(
    output: Path = Path("gpu.json"),
    device: str = "auto",
    small: bool = False,
    only: str = "",
    minutes: float = 8,
    published: Path | None = None,
    python: str = sys.executable,
) -> dict[str, Any]:
    """Measure everything worth knowing about a card, with random weights of true size.

    Agreement with the CPU comes first, then one-step inference, training steps, a film, kinds of numbers, the
    loader, compiled blocks, and limits of memory. The report is written after each of them, so that the run
    can be stopped at any time; with the same report it measures what is missing. A measurement that the
    card has too little memory for is recorded as such.

    Args:
        output: the report, JSON.
        device: such as cuda or cuda:1; auto is a GPU.
        small: networks of a few channels and small clips, to try the measurements out, also on a CPU.
        only: measurements whose names begin so, with commas between, such as "train,refine 16x512x512".
        minutes: after which no measurement is begun that would take longer, as far as one can tell.
        published: checkout of the published implementation, which is timed beside this one with the same
            weights.
        python: interpreter of an environment that has its packages.

    Returns:
        The report's path, the measurements and their outcomes, and those that are left.

    Raises:
        UserError: the device or the published code isn't there, the report is another machine's, or `only`
            names nothing.
    """
    if published is not None and not (published / CONFIG).is_file():
        raise UserError(f"--published {published} is no checkout of the published code: it has no {CONFIG}")
    setting = Setting(_device(device, small), small, published, python)
    wanted = _wanted(cases(setting), only)
    head = machine(setting.device) | {"networks": "small" if small else "full size"}
    report = Report.begin(output, head)
    begin = time.perf_counter()
    report.add(
        "limits", {"outcome": "measured", **measure_rates(setting), "took": time.perf_counter() - begin}
    )
    expected = spent = 0.0
    left = []
    for case in wanted:
        if not report.missing(case.name):
            continue
        slowness = max(1.0, spent / expected) if expected else 1.0
        if time.perf_counter() - begin + slowness * case.seconds > minutes * 60:
            left.append(case.name)
            continue
        start = time.perf_counter()
        result = _attempt(case, setting)
        took = time.perf_counter() - start
        report.add(case.name, result | {"took": took})
        log.info("%s: %s", case.name, _line(result))
        if result["outcome"] == "measured":
            expected, spent = expected + case.seconds, spent + took
    outcomes = {case.name: report.cases[case.name]["outcome"] for case in wanted if case.name in report.cases}
    return {"report": str(output), "outcomes": outcomes, "left": left}


def _device(name: str, small: bool) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} can't be used: {str(error).splitlines()[0]}") from error
    if device.type == "cpu" and not small:
        raise UserError("there is no GPU: give --small to try the measurements out on the CPU")
    return device


def _wanted(every: list[Case], only: str) -> list[Case]:
    words = [word.strip() for word in only.split(",")]
    for word in words:
        if not any(case.name.startswith(word) for case in every):
            names = ", ".join(case.name for case in every)
            raise UserError(f"--only {word} is the beginning of no measurement; there are: {names}")
    return [case for case in every if case.name.startswith(tuple(words))]


def _attempt(case: Case, setting: Setting) -> dict[str, Any]:
    if case.card_gb is not None:
        total = torch.cuda.get_device_properties(setting.device).total_memory / GB
        if total < case.card_gb - LESS_GB:
            return {"outcome": "not here", "reason": f"the card has {total:.1f} GB"}
    try:
        return {"outcome": "measured", **case.measure(setting)}
    except torch.OutOfMemoryError as error:
        return {"outcome": "out of memory", "reason": str(error).partition(". ")[0]}
    except UserError as error:
        return {"outcome": "refused", "reason": str(error)}
    except Exception as error:  # the other measurements are worth having
        log.exception("%s failed", case.name)
        return {"outcome": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0]}
    finally:
        gc.collect()
        if setting.device.type == "cuda":
            torch.compiler.reset()  # compiled blocks would keep their weights
            torch.cuda.empty_cache()


def _line(result: dict[str, Any]) -> str:
    if "reason" in result:
        return f"{result['outcome']} ({result['reason']})"
    units = {
        "seconds": "{:.3g} s",
        "frames_per_s": "{:.3g} frames/s",
        "peak_gb": "{:.3g} GB",
        "agrees": "agrees: {}",
    }
    return ", ".join(text.format(result[name]) for name, text in units.items() if name in result)
