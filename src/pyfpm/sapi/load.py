"""Find the application that the operator named."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from inspect import iscoroutinefunction
from types import ModuleType
from typing import Any

Note = Callable[[ModuleSpec], None]


class LoadError(Exception):
    """The application cannot be loaded; the message says why and what would be right."""


def load(spec: str, note: Note = lambda spec: None) -> Any:
    """The application that ``module:callable`` stands for.

    In place of the module may be the path of a ``.py`` file, in place of the callable ``factory()``; without either, it
    is ``application`` or ``app``.

    Args:
      note: called with the spec of a file that is about to be imported.
    Raises:
      LoadError: there is no such module, file or name, or it is no WSGI application.
      BaseException: whatever the module or the factory itself raises.
    """
    place, _, expression = spec.partition(":")
    found = _named(_module(place, spec, note), expression, spec)
    if not callable(found):
        raise LoadError(f"{spec!r} is not callable, so it is not an application")
    if iscoroutinefunction(found) or iscoroutinefunction(type(found).__call__):
        raise LoadError(f"{spec!r} is an ASGI application; pyfpm runs WSGI applications and scripts")
    return found


def _module(place: str, spec: str, note: Note) -> ModuleType:
    if place.endswith(".py") or "/" in place:
        return _from_file(place, note)
    if not all(place.split(".")):
        raise LoadError(f"{spec!r} names no module; an application is given as module:callable")
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not (place == error.name or place.startswith(error.name + ".")):
            raise
        raise LoadError(
            f"no module named {error.name!r} for the application {spec!r}; looked in {_places()}"
            " (chdir sets the first place)"
        ) from None


def _from_file(path: str, note: Note) -> ModuleType:
    if not os.path.isfile(path):
        raise LoadError(f"no file {os.path.abspath(path)!r} for the application")
    name = os.path.splitext(os.path.basename(path))[0]
    if not name.isidentifier() or name in sys.modules:
        # Not in the place of a module that others use: a file may well be called json.py.
        name = "pyfpm_application"
    directory = os.path.dirname(os.path.abspath(path))
    if directory not in sys.path:
        sys.path.insert(0, directory)
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise LoadError(f"{path!r} is not a Python file: its name must end in .py")
    note(module_spec)
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        module_spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _named(module: ModuleType, expression: str, spec: str) -> Any:
    is_factory = expression.endswith("()")
    name = expression[:-2] if is_factory else expression
    if not name:
        for name in ("application", "app"):
            if hasattr(module, name):
                break
        else:
            raise LoadError(f"{spec!r} has neither 'application' nor 'app'; name it as module:callable")
    if "(" in name:
        raise LoadError(f"{spec!r}: a factory is called without arguments: module:factory()")
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise LoadError(f"{spec!r}: {module.__name__!r} has no {name!r}") from None
    if not is_factory:
        return found
    if not callable(found):
        raise LoadError(f"{spec!r}: {name!r} is not callable")
    return found()


def _places() -> str:
    return ", ".join(repr(place or os.getcwd()) for place in sys.path[:3])
