"""Reading what the page sends, which is checked like any other input."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from json import JSONDecodeError
from typing import Any, ParamSpec, TypeVar

from aiohttp import web

from m2svid.errors import UserError

P = ParamSpec("P")
T = TypeVar("T")


def in_query(request: web.Request, name: str, default: str | None = None) -> str:
    """A value of the address. Raises UserError where it is missing and has no default."""
    found = request.query.get(name, default)
    if found is None:
        raise UserError(f"{request.path} needs ?{name}=...")
    return found


def number(request: web.Request, name: str, default: float, largest: float) -> float:
    """A number of the address, from 0 to the largest. Raises UserError for others."""
    text = in_query(request, name, str(default))
    try:
        found = float(text)
    except ValueError as error:
        raise UserError(f"{name} must be a number, not {text!r}") from error
    if not 0 <= found <= largest:
        raise UserError(f"{name} must be from 0 to {largest:g}, not {text}")
    return found


async def body(request: web.Request) -> dict[str, Any]:
    """The JSON object that was sent. Raises UserError for anything else."""
    try:
        found = await request.json()
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{request.path} needs JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{request.path} needs a JSON object, not {type(found).__name__}")
    return found


def field(given: dict[str, Any], name: str, kind: type[T]) -> T:
    """A value of an object. Raises UserError where it is missing or of another type."""
    found = given.get(name)
    if not isinstance(found, kind):
        raise UserError(f"{name} must be {kind.__name__}, not {found!r}")
    return found


async def apart(function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Run a function that takes its time in a thread, so that the server goes on answering."""
    return await asyncio.to_thread(function, *args, **options)
