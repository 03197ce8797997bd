"""The name and folder of a run, and what may be done in a folder that holds one already.

runs/NAME/ holds config.yaml, checkpoints/, evaluations as CSV files, predictions/ and TensorBoard's events.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from m2svid.errors import UserError

log = logging.getLogger(__name__)

RUNS = Path("runs")
CONFIG = "config.yaml"
LAST = "last.ckpt"

# Options of a model that training doesn't depend on.
_MEASURED = tuple(
    f"model.{name}" for name in ("metrics", "methods", "protocol", "vgg_weights", "metric_weights", "films")
)
_NETWORKS = ("path", "variant", "gradient_checkpointing", "encode_chunk", "decode_chunk")
_RESOURCES = ("model.compile", *(f"model.backbone.init_args.{name}" for name in _NETWORKS))
# What an interrupted run can't change: a checkpoint brings its own, or the run would be of two kinds.
_TRAINED = ("model", "seed_everything", "global_batch")
# What the values in the CSV files of an evaluation depend on.
_EVALUATED = ("model", "data.eval_clip", "seed_everything")


class Run:
    """A run by its name.

    Args:
        name: None = the names of the configuration files, joined by `+`.
        files: the configuration files.

    Attributes:
        name: of the run and of its folder.
        folder: `runs/NAME`, in the folder that the command is started in.

    Raises:
        UserError: the name is none for a folder.
    """

    def __init__(self, name: str | None, files: Sequence[str] = ()) -> None:
        name = name or "+".join(Path(file).stem for file in files)
        if not name:
            raise UserError("a run without a --config needs a name: --run NAME")
        if Path(name).name != name or name.startswith("."):
            raise UserError(f"--run {name} must be the name of a folder in {RUNS}, without a path")
        self.name = name
        self.folder = RUNS / name
        self.config = self.folder / CONFIG
        self.checkpoints = self.folder / "checkpoints"

    @property
    def exists(self) -> bool:
        """A run has been trained here."""
        return self.config.is_file()

    def find_checkpoint(self, verb: str, given: str | None) -> str | None:
        """The checkpoint that a verb starts from.

        Args:
            verb: fit, validate, test or predict.
            given: `--ckpt_path`; `last` is the newest one of this run.

        Raises:
            UserError: it isn't there.
        """
        last = self.checkpoints / LAST
        if given is None and (verb == "fit" or not self.exists):
            return None
        if given not in (None, "last"):
            if "://" not in given and not Path(given).exists():
                raise UserError(f"--ckpt_path {given} is not there")
            return given
        if last.exists():
            return str(last)
        if verb == "fit":  # so that one command, repeated by a job's script, begins and continues a run
            log.info("%s has no checkpoint yet: training begins", self.folder)
            return None
        raise UserError(f"{self.folder} has no checkpoint: fit --run {self.name} hasn't saved one yet")

    def owns(self, checkpoint: str | None) -> bool:
        return checkpoint is not None and self.folder.resolve() in Path(checkpoint).absolute().parents

    def check_fit(self, old: Mapping[str, Any], new: Mapping[str, Any], checkpoint: str | None) -> None:
        """Refuse training that would mix two runs; `old` and `new` are configurations.

        Raises:
            UserError: names the options that differ.
        """
        changed = differences(old, new)
        if not self.owns(checkpoint):
            if changed:
                raise UserError(
                    f"{self.folder} holds a run of another configuration, {told(changed)}: "
                    "give this one a name of its own, --run NAME"
                )
            if (self.checkpoints / LAST).exists():
                raise UserError(
                    f"{self.folder} holds this run already: continue it by --ckpt_path last, "
                    "or begin another by --run NAME"
                )
            return
        fixed = {name: pair for name, pair in changed.items() if _under(name, _TRAINED)}
        fixed = {name: pair for name, pair in fixed.items() if not _under(name, (*_MEASURED, *_RESOURCES))}
        if fixed:
            raise UserError(
                f"{self.folder} continues as it began, but {told(fixed)}: leave that as it was, or begin "
                f"another run from its weights, --run NAME --model.init_unet {checkpoint}"
            )
        if changed:
            log.info("%s continues with %s", self.folder, told(changed))

    def check_evaluation(
        self, verb: str, old: Mapping[str, Any], new: Mapping[str, Any], checkpoint: str | None
    ) -> None:
        """Refuse results that aren't the run's in its folder.

        Raises:
            UserError: names what isn't of the run.
        """
        own_folder = f"give the results of this {verb} a folder of their own, --run NAME"
        if not self.owns(checkpoint):
            raise UserError(f"{checkpoint} is no checkpoint of {self.folder}: {own_folder} and --config")
        changed = {name: pair for name, pair in differences(old, new).items() if _under(name, _EVALUATED)}
        changed = {
            name: pair for name, pair in changed.items() if not _under(name, (*_MEASURED, *_RESOURCES))
        }
        if changed:
            raise UserError(f"{self.folder} was trained otherwise, {told(changed)}: {own_folder}")


def runs() -> list[str]:
    """Names of the runs that have been trained."""
    return sorted(path.parent.name for path in RUNS.glob(f"*/{CONFIG}"))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted name of each option that differs -> (old value, new value).

    A class that is exchanged is one difference: its arguments are others by nature.
    """
    changed: dict[str, tuple[Any, Any]] = {}
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if not isinstance(before, Mapping) or not isinstance(after, Mapping):
            changed[key] = (before, after)
        elif before.get("class_path") != after.get("class_path"):
            changed[key] = (before.get("class_path"), after.get("class_path"))
        else:
            below = differences(before, after)
            changed |= {f"{key}.{name}": pair for name, pair in below.items()}
    return changed


def told(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """The first three differences, in words."""
    words = [f"{name}: {_short(old)} -> {_short(new)}" for name, (old, new) in changed.items()]
    more = len(words) - 3
    return ", ".join(words[:3]) + (f" and {more} more" if more > 0 else "")


def written(value: Any) -> str:
    """An option's value in one line of YAML."""
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf).removesuffix("...\n").strip()


def _short(value: Any) -> str:
    text = written(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _under(name: str, groups: Sequence[str]) -> bool:
    return any(name == group or name.startswith(f"{group}.") for group in groups)
