"""A step's ``with`` as the plugin's own type, a dataclass. The host hands it over as JSON when the plugin starts; an error here is
shown to the pipeline's author, in the words that a plugin in Rust would use.

Fields can be of the types str, bool, int, float, list[T], tuple[T, ...], set[T], dict[str, T], Literal, Enum, Optional and other
unions, Any, and dataclasses; numbers within :class:`Bounds`. A ``__post_init__`` may refuse values by raising."""

import dataclasses
import enum
import json
import math
import types
import typing
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from .failure import message_of

Path = tuple[str | int, ...]


class ConfigError(ValueError):
    """A configuration that does not fit."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The least and the greatest value of a number: ``percent: Annotated[int, Bounds(0, 100)]``."""

    min: float | None = None
    max: float | None = None

    def hold(self, value: float) -> bool:
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def __str__(self) -> str:
        if self.min is not None and self.max is not None:
            return f" from {self.min} to {self.max}"
        return f" of at least {self.min}" if self.min is not None else f" of at most {self.max}"


def read_config(kind: Any, value: Any) -> Any:
    """Reads a configuration; a step without one (``None``) counts as one without fields."""
    given = {} if value is None else value
    if kind is None:
        if given == {}:
            return None
        raise ConfigError("config: this plugin takes no configuration")
    if value is None and _takes_none(kind):
        return None
    return _read(kind, given, ())


def _takes_none(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind)


def _read(kind: Any, value: Any, path: Path) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        return _read_annotated(get_args(kind), value, path)
    if kind is None or kind is type(None):
        return value if value is None else _wrong(path, value, "null")
    if origin in (Union, types.UnionType):
        return _read_union(kind, value, path)
    if origin is Literal:
        return _one_of(get_args(kind), value, path)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(_one_of([member.value for member in kind], value, path))
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, value, path)
    if origin is not None or kind in (list, dict, tuple, set):
        return _read_collection(origin or kind, get_args(kind), value, path)
    return _read_scalar(kind, value, path)


def _read_annotated(parts: tuple[Any, ...], value: Any, path: Path) -> Any:
    kind, *notes = parts
    read = _read(kind, value, path)
    for bounds in notes:
        if isinstance(bounds, Bounds) and not bounds.hold(read):
            number = "an integer" if kind is int else "a number"
            _fail(path, f"invalid value: {_describe(value)}, expected {number}{bounds}")
    return read


def _read_scalar(kind: Any, value: Any, path: Path) -> Any:
    if kind is str:
        return value if isinstance(value, str) else _wrong(path, value, "a string")
    if kind is bool:
        return value if isinstance(value, bool) else _wrong(path, value, "a boolean")
    if kind is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else _wrong(path, value, "an integer")
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if number else _wrong(path, value, "a number")
    raise TypeError(f"config: {_place(path)}a configuration can't hold {kind!r}: see millstream_plugin.config for what it can")


def _read_union(kind: Any, value: Any, path: Path) -> Any:
    choices = get_args(kind)
    if value is None and type(None) in choices:
        return None
    others = [choice for choice in choices if choice is not type(None)]
    # What is wrong with the last is told; with `T | None` there is but one.
    for choice in others[:-1]:
        try:
            return _read(choice, value, path)
        except ConfigError:
            continue
    return _read(others[-1], value, path)


def _read_collection(origin: Any, of: tuple[Any, ...], value: Any, path: Path) -> Any:
    if origin is dict:
        if not isinstance(value, dict):
            _wrong(path, value, "a map")
        kind = of[1] if len(of) == 2 else Any
        return {name: _read(kind, item, (*path, name)) for name, item in value.items()}
    if origin in (list, tuple, set, frozenset):
        if not isinstance(value, list):
            _wrong(path, value, "a sequence")
        kind = of[0] if of else Any
        return origin(_read(kind, item, (*path, i)) for i, item in enumerate(value))
    raise TypeError(f"config: {_place(path)}a configuration can't hold {origin!r}: see millstream_plugin.config for what it can")


def _read_fields(kind: Any, value: Any, path: Path) -> Any:
    if not isinstance(value, dict):
        _wrong(path, value, "a map")
    fields = [field for field in dataclasses.fields(kind) if field.init]
    names = [field.name for field in fields]
    unknown = next((name for name in value if name not in names), None)
    if unknown is not None:
        expected = f"expected {_alternatives(names)}" if names else "there are no fields"
        _fail(path, f"unknown field `{unknown}`, {expected}")
    hints = typing.get_type_hints(kind, include_extras=True)
    given = {}
    for field in fields:
        if field.name in value:
            given[field.name] = _read(hints[field.name], value[field.name], (*path, field.name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            if not _takes_none(hints[field.name]):
                _fail(path, f"missing field `{field.name}`")
            given[field.name] = None
    try:
        return kind(**given)
    except Exception as error:
        _fail(path, message_of(error))


def _one_of(values: typing.Sequence[Any], value: Any, path: Path) -> Any:
    # `1 == True`: the types must agree too.
    if any(value == one and type(value) is type(one) for one in values):
        return value
    if not isinstance(value, str):
        _wrong(path, value, _alternatives([str(one) for one in values]))
    _fail(path, f"unknown variant `{value}`, expected {_alternatives([str(one) for one in values])}")


def _alternatives(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " or ".join(quoted) if len(quoted) <= 2 else f"one of {', '.join(quoted)}"


def _describe(value: Any) -> str:
    """The kind of a JSON value and the value itself, where it is short."""
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{str(value).lower()}`"
        case int():
            return f"integer `{value}`"
        case float():
            return f"floating point `{value}`" if math.isfinite(value) else "floating point"
        case str():
            return f"string {json.dumps(value, ensure_ascii=False)}"
        case list():
            return "sequence"
        case _:
            return "map"


def _wrong(path: Path, value: Any, expected: str) -> typing.NoReturn:
    _fail(path, f"invalid type: {_describe(value)}, expected {expected}")


def _fail(path: Path, message: str) -> typing.NoReturn:
    raise ConfigError(f"config: {_place(path)}{message}")


def _place(path: Path) -> str:
    return f"{'.'.join(str(part) for part in path)}: " if path else ""
