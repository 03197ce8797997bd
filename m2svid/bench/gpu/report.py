"""The report of a run: what was measured on, and what came out, written after every case."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from m2svid.errors import UserError
from m2svid.files import whole

DONE = ("measured", "out of memory", "not here")
"""Outcomes that a continued run does not try again; the other is `failed`."""


def machine(device: torch.device) -> dict[str, Any]:
    """The device and what it runs with."""
    facts: dict[str, Any] = {
        "device": "CPU",
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "diffusers", "transformers", "lightning")},
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        facts |= {
            "device": card.name,
            "memory_gb": round(card.total_memory / 1e9, 1),
            "capability": f"{card.major}.{card.minor}",
            "driver": _driver(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return facts


def _driver() -> str:
    """NVIDIA's version (Linux)."""
    try:
        words = Path("/proc/driver/nvidia/version").read_text().split("Module")[1].split()
    except (OSError, IndexError):
        return "unknown"
    return next((word for word in words if word[0].isdigit()), "unknown")


@dataclass
class Report:
    """Results by case.

    Attributes:
        path: JSON file.
        head: what was measured on; a report is continued with the same only.
        cases: by name: `outcome`, one of `DONE` or failed; `took`, seconds with all preparation; and either
            figures or a reason.
    """

    path: Path
    head: dict[str, Any]
    cases: dict[str, dict[str, Any]]

    @classmethod
    def begin(cls, path: Path, head: dict[str, Any]) -> Report:
        """Continue the file where it is there.

        Raises:
            UserError: it is no such report, or that of another machine.
        """
        if not path.exists():
            return cls(path, head, {})
        report = cls.read(path)
        if report.head != head:
            changed = sorted(
                name for name in head.keys() | report.head if head.get(name) != report.head.get(name)
            )
            raise UserError(
                f"{path} was measured with another {', '.join(changed)}: give another -o, or remove the file"
            )
        return report

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a file. Raises UserError where it is no report."""
        try:
            content = json.loads(path.read_text())
            return cls(path, content["machine"], content["cases"])
        except FileNotFoundError as error:
            raise UserError(f"there is no file {path}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no report of `bench gpu`") from error

    def missing(self, name: str) -> bool:
        return self.cases.get(name, {}).get("outcome") not in DONE

    def add(self, name: str, result: dict[str, Any]) -> None:
        """Keep a case's result, and write the file."""
        self.cases[name] = result
        with whole(self.path) as temporary:
            temporary.write_text(json.dumps({"machine": self.head, "cases": self.cases}, indent=1) + "\n")
