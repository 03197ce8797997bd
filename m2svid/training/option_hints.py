"""Suggest valid options after a rejected one."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from m2svid.parser import reworded

_OPTION_OF_CLASS = (
    r"class_path '([\w.]+)':\s+Option '\w+' is not accepted",
    r"Option '\w+' is not accepted\. Got value: Namespace\(class_path='([\w.]+)'",
)
_OPTION_OF_GROUP = (
    r"^Group '(\w+)' does not accept|^Subcommand '\w+' does not accept option '(\w+)\."
    r"|^unrecognized arguments: --(\w+)\."
)
_OPTION = r"^(?:Option|Subcommand) '|^unrecognized arguments: --"
_CLASS = r"Subtypes: \[(?:list\[)?(?:<class ')?(m2svid[\w.]+)"

_TRIED = r"Errors:\n(.*)\n  Given value type"


def allowed(message: str, groups: dict[str, Callable[..., Any]], linked: tuple[str, ...] = ()) -> str:
    """List the options or classes that may be given, in one line; empty if the message itself says it.

    Args:
        message: jsonargparse's.
        groups: group of options (`--group.option`) -> the class or function that they are the parameters of.
        linked: parameters that the command line sets itself.
    """
    for pattern in _OPTION_OF_CLASS:
        if found := re.search(pattern, message):
            return f"{found[1]} takes: {_parameters(_find(found[1]))}"
    found = re.search(_OPTION_OF_GROUP, message)
    if found and (name := found[found.lastindex]) in groups:
        return f"{name} takes: {_parameters(groups[name], linked)}"
    if re.search(_OPTION, message):
        return f"there are: run, global_batch, seed_everything, ckpt_path, and the groups {', '.join(groups)}"
    if found := re.findall(_CLASS, message):
        return f"there are: {', '.join(_concrete(_find(found[-1])))}"
    return ""


def reason(message: str) -> str:
    """The message, of a class that can't be made in one line, without the types that were tried."""
    key, tried = re.match(r'Parser key "([\w.]+)"', message), re.search(_TRIED, message, re.DOTALL)
    if key is None or tried is None or not re.search(_CLASS, message):
        return reworded(message, key[1] if key else "", "--help")
    reasons = [line.strip(" -") for line in tried[1].splitlines() if "NoneType" not in line]
    return f"{key[1]}: {' '.join(reasons)}"


def _find(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _parameters(kind: Callable[..., Any], linked: tuple[str, ...] = ()) -> str:
    return ", ".join(name for name in inspect.signature(kind).parameters if name not in linked)


def _concrete(kind: type) -> Iterator[str]:
    if not inspect.isabstract(kind):
        yield f"{kind.__module__}.{kind.__name__}"
    for derived in kind.__subclasses__():
        yield from _concrete(derived)
