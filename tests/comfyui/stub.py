"""As much of ComfyUI's V3 interface as the nodes use, so that they can be tested without ComfyUI.

Names and arguments are those of `comfy_api.latest` in ComfyUI 0.3.64; unknown ones fail.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.tiny_run import ROOT

_INPUT = {"display_name", "optional", "tooltip", "lazy", "extra_dict"}
_WIDGET = _INPUT | {"default", "socketless", "force_input"}
_NUMBER = _WIDGET | {"min", "max", "step", "display_mode"}
_TYPES = {
    "IMAGE": _INPUT,
    "MASK": _INPUT,
    "VIDEO": _INPUT,
    "STRING": _WIDGET | {"multiline", "placeholder", "dynamic_prompts"},
    "FLOAT": _NUMBER | {"round"},
    "BOOLEAN": _WIDGET | {"label_on", "label_off"},
    "COMBO": _WIDGET | {"options", "control_after_generate", "upload"},
}


def comfy_type(name: str) -> SimpleNamespace:
    """A type of sockets: its `Input` and `Output`."""
    known = _TYPES.get(name, _INPUT)

    def make_input(id: str, **options: Any) -> SimpleNamespace:
        assert not options.keys() - known, f"{name} has no {options.keys() - known}"
        return SimpleNamespace(id=id, type=name, widget=known > _INPUT, **{"optional": False, **options})

    def make_output(display_name: str) -> SimpleNamespace:
        return SimpleNamespace(type=name, display_name=display_name)

    return SimpleNamespace(Input=make_input, Output=make_output)


@dataclass
class Schema:
    node_id: str
    display_name: str
    category: str
    description: str
    inputs: list[Any]
    outputs: list[Any]
    hidden: list[str] = field(default_factory=list)
    is_output_node: bool = False


class NodeOutput:
    def __init__(self, *args: Any) -> None:
        self.args = args


class ComfyNode:
    hidden = SimpleNamespace(unique_id="7")


class Execution:
    """Keeps what bars show, and is interrupted on demand."""

    def __init__(self) -> None:
        self.shown: list[tuple[float, float, str]] = []
        self.interrupted = False

    def bar(self, total: int, node_id: str) -> SimpleNamespace:
        def update_absolute(value: int, total: int = total) -> None:
            if self.interrupted:
                raise InterruptedError
            self.shown.append((value, total, node_id))

        return SimpleNamespace(update_absolute=update_absolute)


def load_nodes(monkeypatch: Any) -> tuple[ModuleType, Execution]:
    """Import the nodes as ComfyUI does: a folder by its path."""
    execution, latest = Execution(), ModuleType("comfy_api.latest")
    kinds = {name.title(): comfy_type(name) for name in _TYPES}
    hidden = SimpleNamespace(unique_id="UNIQUE_ID")
    latest.io = SimpleNamespace(
        ComfyNode=ComfyNode, Schema=Schema, NodeOutput=NodeOutput, Custom=comfy_type, Hidden=hidden, **kinds
    )
    latest.ComfyExtension = object
    latest.InputImpl = SimpleNamespace(VideoFromFile=lambda path: ("video", path))
    stubs = {
        name: ModuleType(name) for name in ("comfy", "comfy.model_management", "comfy.utils", "comfy_api")
    }
    comfy = stubs["comfy"]
    comfy.model_management, comfy.utils = stubs["comfy.model_management"], stubs["comfy.utils"]
    comfy.model_management.unload_all_models = lambda: None
    comfy.utils.ProgressBar = execution.bar
    for name, module in {**stubs, "comfy_api.latest": latest}.items():
        monkeypatch.setitem(sys.modules, name, module)
    folder = ROOT / "comfyui"
    places = {"submodule_search_locations": [str(folder)]}
    spec = importlib.util.spec_from_file_location("m2svid_nodes", folder / "__init__.py", **places)
    pack = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "m2svid_nodes", pack)
    monkeypatch.delitem(sys.modules, "m2svid_nodes.nodes", raising=False)  # it has the stub of another test
    spec.loader.exec_module(pack)
    return pack, execution
