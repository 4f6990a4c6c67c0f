"""Where a transform's records go: builders whose terminal call writes into the output's columns.

Every record gets the input's timestamp unless given another, and no key unless given one: keeping a key must be said (``like``,
``forward``), since a new value seldom belongs to it."""

import json
from collections.abc import Callable
from typing import Any, Self

from .columns import Rows
from .part import Part, part_of
from .record import Record

__all__ = ["Emit", "Output", "Part"]

_I64 = range(-(2**63), 2**63)


class Emit:
    """A record being built. It counts once its value is given: ``value``, ``json``, ``tombstone``, ``forward``."""

    __slots__ = ("_rows", "_offset", "_timestamp", "_key", "_lens", "_headers", "_done")

    def __init__(self, rows: Rows, offset: int, timestamp: int) -> None:
        self._rows = rows
        self._offset = offset
        self._timestamp = timestamp
        self._key: bytes | None = None
        self._lens: list[int] = []
        self._headers: list[bytes] = []
        self._done = False

    def key(self, key: Part) -> Self:
        """Gives the key. ``None`` is no key."""
        self._key = part_of("key", key)
        return self

    def header(self, name: str, value: Part) -> Self:
        """Adds a header. A value of ``None`` is a null value."""
        if not isinstance(name, str):
            raise TypeError(f"a header is named by a str, not by {type(name).__name__}")
        name_bytes = part_of("header's name", name) or b""
        value_bytes = part_of("header's value", value)
        self._lens += (len(name_bytes), -1 if value_bytes is None else len(value_bytes))
        self._headers += (name_bytes, value_bytes or b"")
        return self

    def timestamp(self, timestamp: int) -> Self:
        """Gives the event time, in milliseconds since the epoch."""
        if type(timestamp) is not int or timestamp not in _I64:
            raise TypeError(f"a timestamp is a whole number of milliseconds, not {timestamp!r}")
        self._timestamp = timestamp
        return self

    def like(self, record: Record) -> Self:
        """Takes over key, headers and timestamp of a record; headers given before stay."""
        self._key = record.key
        self._timestamp = record.timestamp
        if record._header_lens:
            self._lens += record._header_lens
            self._headers.append(record._header_bytes)
        return self

    def value(self, value: Part) -> None:
        """Writes the record with this value. ``None`` is a tombstone."""
        self._write(part_of("value", value))

    def json(self, value: Any) -> None:
        """Writes the record with a value in JSON."""
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except Exception as error:
            raise ValueError("the output has no JSON form") from error
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            # JSON can write a lone surrogate, UTF-8 can't.
            encoded = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
        self._write(encoded)

    def tombstone(self) -> None:
        """Writes the record without a value: its key is deleted from a compacted topic."""
        self._write(None)

    def forward(self, record: Record) -> None:
        """Passes a record on as it is: key, value, headers, timestamp."""
        self.like(record)._write(record.value)

    def _write(self, value: bytes | None) -> None:
        if self._done:
            raise RuntimeError("this record was written already: begin the next one from `out`")
        self._done = True
        rows = self._rows
        rows.offsets.append(self._offset)
        rows.timestamps.append(self._timestamp)
        rows.keys.append(self._key)
        rows.values.append(value)
        rows.header_counts.append(len(self._lens) // 2)
        if self._lens:
            rows.header_lens += self._lens
            rows.headers += self._headers


class Output:
    """The outputs of a transform. Any number of records may be written per input record; those of one that fails are taken back."""

    __slots__ = ("_outputs", "_marks", "_offset", "_timestamp")

    def __init__(self) -> None:
        #: The main output first, named "".
        self._outputs: dict[str, Rows] = {"": Rows()}
        self._marks: dict[str, tuple[int, int, int]] = {}
        self._offset = 0
        self._timestamp = 0

    def key(self, key: Part) -> Emit:
        """Starts a record with this key on the main output."""
        return self._emit("").key(key)

    def header(self, name: str, value: Part) -> Emit:
        """Starts a record with this header on the main output."""
        return self._emit("").header(name, value)

    def timestamp(self, timestamp: int) -> Emit:
        """Starts a record with this timestamp (milliseconds since the epoch) on the main output."""
        return self._emit("").timestamp(timestamp)

    def like(self, record: Record) -> Emit:
        """Starts a record with the key, headers and timestamp of ``record`` on the main output."""
        return self._emit("").like(record)

    def to(self, output: str) -> Emit:
        """Starts a record on another output, which pyproject.toml declares: ``[tool.millstream] outputs = ["refunds"]``."""
        if not isinstance(output, str):
            raise TypeError(f"an output is named by a str, not by {type(output).__name__}")
        if output not in self._outputs:
            self._outputs[output] = Rows()
        return self._emit(output)

    def value(self, value: Part) -> None:
        """Writes a value without key or headers to the main output."""
        self._emit("").value(value)

    def json(self, value: Any) -> None:
        """Writes a value as JSON, without key or headers, to the main output."""
        self._emit("").json(value)

    def forward(self, record: Record) -> None:
        """Passes a record on to the main output as it is: key, value, headers, timestamp."""
        self._emit("").forward(record)

    def _emit(self, output: str) -> Emit:
        return Emit(self._outputs[output], self._offset, self._timestamp)

    # What the batch loop and the component call.

    def _begin_record(self, record: Record) -> None:
        self._offset = record.offset
        self._timestamp = record.timestamp
        self._marks = {name: rows.mark() for name, rows in self._outputs.items()}

    def _roll_back(self) -> None:
        """Takes back what was written since the record began."""
        for name, rows in self._outputs.items():
            rows.truncate(self._marks.get(name, (0, 0, 0)))

    def _drain(self, emit: Callable[[str, Rows], None]) -> None:
        """Hands over the rows of each output that has some, in order of first use, and forgets them."""
        for name, rows in self._outputs.items():
            if len(rows) > 0:
                emit(name, rows)
                rows.truncate()

    def _clear(self) -> None:
        """Drops what a batch left that did not come to its end."""
        for rows in self._outputs.values():
            rows.truncate()
