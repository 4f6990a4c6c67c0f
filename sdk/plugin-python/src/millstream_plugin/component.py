"""The component's side of sdk/wit: the exports that run a transform. Imported in a component only, where the bindings
(`wit_world`) are."""

import json
import sys
from types import ModuleType
from typing import Any

from componentize_py_types import Err  # type: ignore[import-not-found]
from wit_world.imports import host  # type: ignore[import-not-found]
from wit_world.imports.types import Batch, Failure, Level  # type: ignore[import-not-found]

from . import report
from .columns import Rows
from .failure import message_of
from .output import Output
from .transform import Transform

_LEVELS = {"trace": Level.TRACE, "debug": Level.DEBUG, "info": Level.INFO, "warn": Level.WARN, "error": Level.ERROR}


class _Lines:
    """What is printed goes to the log: there is no other place, and writing to one would end the component."""

    def __init__(self, level: str) -> None:
        self._level = level
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            report._sink(self._level, line)
        return len(text)

    def flush(self) -> None:
        pass


class _Running:
    """What lasts from call to call; a new world serves each of them."""

    transform: Transform[...] | None = None
    config: Any = None
    out = Output()
    started = False


def world(module: ModuleType) -> type:
    """The class that a component exports for the one transform of a module."""
    found = [value for value in vars(module).values() if isinstance(value, Transform)]
    own = [one for one in found if one.function.__module__ == module.__name__] or found
    if len(own) != 1:
        what = "no transform: mark one function with `@transform`" if not own else f"{len(own)} transforms: leave one"
        raise TypeError(f"{module.__name__} has {what}")
    _Running.transform = own[0]
    return _World


class _World:
    def init(self, config: str) -> None:
        sys.stdout, sys.stderr = _Lines("info"), _Lines("warn")
        report._set_sink(lambda level, message: host.log(_LEVELS[level], message))
        assert _Running.transform is not None
        try:
            _Running.config = _Running.transform.configure(json.loads(config or "null"))
        except Exception as error:
            raise Err(message_of(error)) from error
        _Running.started = True

    def process(self, rows: Any) -> None:
        if not _Running.started or _Running.transform is None:
            raise Err(Failure(None, "process was called before init"))
        out = _Running.out
        # A batch that failed half-way left its rows.
        out._clear()
        _Running.transform.run(_Running.config, rows, out, host.reject)
        out._drain(_emit)
        for name, total in report._take_counters().items():
            host.count(name, total)


def _emit(output: str, rows: Rows) -> None:
    host.emit(output, Batch(**rows.columns()))
