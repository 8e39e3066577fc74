"""Find the application that the operator named."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any


class LoadError(Exception):
    """The application cannot be loaded; the message says why and what would be right."""


def load(spec: str) -> Any:
    """The object that ``module:callable``, ``module:factory()`` or the path of a ``.py`` file stands for.

    Raises:
      LoadError: there is no such module, file or name, or it is not callable.
      Exception: whatever the module itself raises while it is imported.
    """
    if spec.endswith(".py") or "/" in spec:
        return _from_file(spec)
    module_name, colon, expression = spec.partition(":")
    if not colon:
        expression = ""
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise
        raise LoadError(
            f"no module named {error.name!r} for the application {spec!r}; looked in {_places()}"
            " (--chdir DIR sets the first place)"
        ) from None
    return _named(module, expression, spec)


def _from_file(path: str) -> Any:
    if not os.path.isfile(path):
        raise LoadError(f"no file {os.path.abspath(path)!r} for the application")
    name = os.path.splitext(os.path.basename(path))[0]
    if not name.isidentifier():
        name = "application"
    directory = os.path.dirname(os.path.abspath(path))
    if directory not in sys.path:
        sys.path.insert(0, directory)
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise LoadError(f"{path!r} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    module_spec.loader.exec_module(module)
    return _named(module, "", path)


def _named(module: Any, expression: str, spec: str) -> Any:
    is_factory = expression.endswith("()")
    name = expression[:-2] if is_factory else expression
    if not name:
        for name in ("application", "app"):
            if hasattr(module, name):
                break
        else:
            raise LoadError(f"{spec!r} has neither 'application' nor 'app'; name it as module:callable")
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise LoadError(f"{spec!r}: {module.__name__!r} has no {name!r}") from None
    if is_factory:
        found = found()
    if not callable(found):
        raise LoadError(f"{spec!r} is not callable, so it is not an application")
    return found


def _places() -> str:
    return ", ".join(repr(place or os.getcwd()) for place in sys.path[:3])
