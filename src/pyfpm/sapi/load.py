"""Find the application that the operator named."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import ModuleSpec
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
      LoadError: there is no such module, file or name, or it is no application.
      BaseException: whatever the module or the factory itself raises.
    """
    place, _, expression = spec.partition(":")
    found = _named(_module(place, spec, note), expression, spec)
    if not callable(found):
        raise LoadError(f"{spec!r} is not callable, so it is not an application")
    return found


def kind_of(application: Any, spec: str) -> str:
    """``asgi`` or ``wsgi``.

    Raises:
      LoadError: it is written for ASGI 2, which nobody has used for years.
    """
    if inspect.isclass(application):
        # Of a WSGI application that is a class the instances are iterated over, not called.
        if inspect.iscoroutinefunction(getattr(application, "__call__", None)):  # noqa: B004 (what it is, not whether)
            raise LoadError(f"{spec!r} is {_ASGI_2}, or a class where an instance of it is meant: {spec}()")
        return "wsgi"
    names = _names_of_parameters(application)
    if names == ["scope"]:
        raise LoadError(
            f"{spec!r} is {_ASGI_2}; asgiref.compatibility.guarantee_single_callable makes it one of ASGI 3"
        )
    is_async = inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(type(application).__call__)
    return "asgi" if is_async or names == ["scope", "receive", "send"] else "wsgi"


_ASGI_2 = "an ASGI 2 application, which is called twice"


def _names_of_parameters(application: Any) -> list[str]:
    try:
        return list(inspect.signature(application).parameters)
    except (TypeError, ValueError):
        return []


# Packages that hold trio since they are there for whoever uses it.
FRIENDS_OF_TRIO = frozenset(
    {"anyio", "asyncclick", "exceptiongroup", "httpcore", "httpx", "hypercorn", "outcome", "pyfpm", "sniffio", "trio"}
)


def loop_of(modules: Iterable[str]) -> str:
    """``trio`` if one of these modules, that were imported with the application, has imported it; else ``asyncio``.

    What is compared is what a module's names stand for: one that has ``import trio`` at its top.
    """
    trio = sys.modules.get("trio")
    for name in modules:
        module = sys.modules.get(name)
        if trio is None or module is None or name.partition(".")[0] in FRIENDS_OF_TRIO:
            continue
        if any(value is trio for value in list(vars(module).values())):
            return "trio"
    return "asyncio"


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
