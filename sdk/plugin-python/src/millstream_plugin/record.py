"""One input record: its parts as the batch has them, parsed when they are asked for."""

import json
from typing import Any, TypeAlias

from .failure import Reject

# In the class below `bytes` is a method.
_Bytes: TypeAlias = bytes


class Record:
    """An input record."""

    __slots__ = ("offset", "timestamp", "key", "value", "_header_lens", "_header_bytes")

    offset: int
    """The record's place in its input partition."""
    timestamp: int
    """Event time in milliseconds since the epoch."""
    key: _Bytes | None
    """The key, or ``None``."""
    value: _Bytes | None
    """The value; ``None`` is a tombstone, which deletes its key from a compacted topic."""

    def __init__(
        self, offset: int, timestamp: int, key: _Bytes | None, value: _Bytes | None, header_lens: list[int], header_bytes: _Bytes
    ) -> None:
        self.offset = offset
        self.timestamp = timestamp
        self.key = key
        self.value = value
        self._header_lens = header_lens
        self._header_bytes = header_bytes

    @property
    def key_text(self) -> str | None:
        """The key as text; ``None`` without a key or when it is not UTF-8."""
        return None if self.key is None else _text_or_none(self.key)

    @property
    def is_tombstone(self) -> bool:
        return self.value is None

    def bytes(self) -> _Bytes:
        """The value's bytes; raises for a tombstone."""
        if self.value is None:
            raise Reject("the record has no value (a tombstone)")
        return self.value

    def text(self) -> str:
        """The value as text; raises when it is not UTF-8, and for a tombstone."""
        try:
            return self.bytes().decode()
        except UnicodeDecodeError as error:
            raise Reject("the value is not UTF-8 text") from error

    def json(self) -> Any:
        """The value, parsed as JSON; raises when it is not JSON, and for a tombstone."""
        value = self.bytes()
        try:
            # Decoded here: given bytes, the parser would guess an encoding.
            return json.loads(value.decode(), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise Reject("the value is not the JSON expected") from error

    def field(self, path: str, default: Any = None) -> Any:
        """One field of a JSON value, by a path of names such as ``user.address.city``; ``default`` when there is none."""
        found = self.json()
        for name in path.split("."):
            if not isinstance(found, dict) or name not in found:
                return default
            found = found[name]
        return found

    @property
    def headers(self) -> list[tuple[str, _Bytes | None]]:
        """The headers in order, as pairs of name and value (``None`` where it is null); names may repeat."""
        found = []
        at = 0
        lens = iter(self._header_lens)
        for name_len, value_len in zip(lens, lens, strict=True):
            name = _text_or_none(self._header_bytes[at : at + name_len])
            at += name_len
            value = None
            if value_len >= 0:
                value = self._header_bytes[at : at + value_len]
                at += value_len
            found.append(("\ufffd" if name is None else name, value))
        return found

    def header(self, name: str) -> _Bytes | None:
        """The value of the last header of this name; ``None`` without one, and when that header's value is null."""
        return next((value for found, value in reversed(self.headers) if found == name), None)

    def __repr__(self) -> str:
        return f"Record(offset={self.offset}, key={self.key!r}, value={self.value!r})"


def _text_or_none(part: _Bytes) -> str | None:
    try:
        return part.decode()
    except UnicodeDecodeError:
        return None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
