"""Objects that can be named by class path and arguments, as in YAML, and made again from those.

Attention strategies, conditionings, autoencoders and image encoders are such objects; a model card holds
their descriptions. A description is data. Making the object again imports a module that is installed or on
PYTHONPATH, by its dotted name and never by a file's path, and calls nothing in it but a subclass of the
wanted protocol. The module's own code runs when it is imported, as with any `class_path` in YAML.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar

from m2svid.errors import UserError

Description = dict[str, Any]
"""{"class_path": dotted name of the class, "init_args": its arguments by name}, plain JSON."""

T = TypeVar("T")


class Described:
    """Base of objects that remember the arguments that they were made with."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _remembering(cls.__init__)

    def describe(self) -> Description:
        """Class path and arguments, defaults included.

        Raises:
            UserError: the class is not at the top of a module, or an argument is no plain data.
        """
        kind = type(self)
        if "." in kind.__qualname__:
            raise UserError(
                f"{kind.__qualname__} can't be named in a model card: define the class at the top of a module"
            )
        known = self.__dict__.get("_arguments", vars(self))  # a dataclass has them as attributes
        arguments: dict[str, Any] = {}
        for name, parameter in inspect.signature(kind).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments |= known.get(name, {})
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                arguments[name] = known[name]
        try:
            return {"class_path": class_path(kind), "init_args": json.loads(json.dumps(arguments))}
        except TypeError as error:
            raise UserError(
                f"an argument of {class_path(kind)} can't be kept in a model card, which holds numbers, "
                f"text, lists and dicts only: {error}"
            ) from error


def _remembering(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def remember(self: Any, *args: Any, **kwargs: Any) -> None:
        with suppress(TypeError):  # `init` refuses wrong arguments itself
            bound = inspect.signature(init).bind(self, *args, **kwargs)
            bound.apply_defaults()
            self.__dict__.setdefault("_arguments", bound.arguments)  # the outermost class comes first
        init(self, *args, **kwargs)

    return remember


def class_path(kind: type) -> str:
    """Dotted name of a class, by the package that shows it where its module's own package does."""
    module = kind.__module__
    package = module.rpartition(".")[0]
    if getattr(sys.modules.get(package), kind.__name__, None) is kind:
        module = package
    return f"{module}.{kind.__name__}"


def create(description: Mapping[str, Any], protocol: type[T]) -> T:
    """The object of a description.

    Args:
        description: see `Description`.
        protocol: the class must be a subclass of it, and not be abstract.

    Raises:
        UserError: there is no such class, it is no subclass of `protocol`, or refuses the arguments.
    """
    path, arguments = description.get("class_path"), description.get("init_args", {})
    kind = _find(str(path), protocol)
    try:
        return kind(**arguments)
    except TypeError as error:
        raise UserError(f"{path} can't be made of the arguments {arguments}: {error}") from error


def _find(path: str, protocol: type[T]) -> type[T]:
    module, _, name = path.rpartition(".")
    if not module or not all(part.isidentifier() for part in path.split(".")):
        raise UserError(f"{path!r} is no dotted name of a class such as m2svid.attention.Disoccluded")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"the class {path} can't be imported ({error}): install the package that defines it, or put its "
            "folder on PYTHONPATH"
        ) from error
    if not isinstance(kind, type) or not issubclass(kind, protocol) or inspect.isabstract(kind):
        raise UserError(f"{path} is no concrete subclass of {class_path(protocol)}, so it is not used")
    return kind
