"""Runs a transform natively, as a component would run it: ``python -m unittest`` or pytest need no broker and no WebAssembly.

    from millstream_plugin.testing import record, run

    got = run(shout, None, [record("hello").key("k"), record(b"\\xff")])
    assert got.values == ["HELLO"]
    assert got.outputs[0].key_text == "k"
    assert "UTF-8" in got.rejected[0].message
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self

from . import report
from .columns import Rows, records
from .output import Emit, Output
from .part import Part, part_of
from .transform import Transform


class Input:
    """An input record for :func:`run`."""

    def __init__(self, value: Part) -> None:
        self._value = part_of("value", value)
        self._key: bytes | None = None
        self._headers: list[tuple[str, Part]] = []
        self._timestamp = 0

    def key(self, key: Part) -> Self:
        self._key = part_of("key", key)
        return self

    def header(self, name: str, value: Part) -> Self:
        self._headers.append((name, value))
        return self

    def timestamp(self, timestamp: int) -> Self:
        self._timestamp = timestamp
        return self

    def _push_to(self, rows: Rows, offset: int) -> None:
        emit = Emit(rows, offset, 0).timestamp(self._timestamp).key(self._key)
        for name, value in self._headers:
            emit.header(name, value)
        emit.value(self._value)


def record(value: Part) -> Input:
    """An input record with this value, without key or headers, at timestamp 0."""
    return Input(value)


@dataclass
class Emitted:
    """A record that the transform wrote."""

    to: str
    """The output's name; "" is the main one."""
    origin: int
    """Index of the input record it was made from."""
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp: int

    @property
    def key_text(self) -> str | None:
        """The key as text; ``None`` without a key."""
        return None if self.key is None else self.key.decode(errors="replace")

    @property
    def text(self) -> str:
        """The value as text. A tombstone is ``"<tombstone>"``."""
        return "<tombstone>" if self.value is None else self.value.decode(errors="replace")

    def json(self) -> Any:
        """The value as JSON."""
        return json.loads(self.text)


@dataclass
class Rejected:
    """A record that failed."""

    index: int
    message: str


@dataclass
class Outcome:
    """What came of a batch."""

    outputs: list[Emitted] = field(default_factory=list)
    """Records of the main output in order, then those of each other output."""
    rejected: list[Rejected] = field(default_factory=list)
    logs: list[tuple[str, str]] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def values(self) -> list[str]:
        """Values of the main output, as text. A tombstone is ``"<tombstone>"``."""
        return self.values_of("")

    def values_of(self, output: str) -> list[str]:
        """Values of a named output, as text."""
        return [emitted.text for emitted in self.outputs if emitted.to == output]

    def counter(self, name: str) -> int:
        """The counter's sum; 0 when it was never counted."""
        return self.counters.get(name, 0)


def run(transform: Transform[...], config: Any, inputs: Iterable[Input]) -> Outcome:
    """Runs a transform over one batch; an input's offset is its index. ``config`` is the configuration itself, or a dict as a
    pipeline gives it; a transform without one takes ``None``."""
    rows = Rows()
    for index, given in enumerate(inputs):
        given._push_to(rows, index)
    settings = transform.configure(config) if config is None or isinstance(config, dict) else config
    outcome = Outcome()
    # What an earlier call outside of `run` counted is not this batch's.
    report._take_counters()
    report._set_sink(lambda level, message: outcome.logs.append((level, message)))
    try:
        out = Output()
        batch: Any = SimpleNamespace(**rows.columns())
        transform.run(settings, batch, out, lambda index, message: outcome.rejected.append(Rejected(index, message)))
        out._drain(lambda to, rows: outcome.outputs.extend(_emitted(to, rows)))
    finally:
        report._set_sink(report._nowhere)
    outcome.counters = report._take_counters()
    return outcome


def config(transform: Transform[...], value: Any) -> Any:
    """Reads a configuration as a starting component does; raises with the message that the pipeline's author would see."""
    return transform.configure(value)


def _emitted(to: str, rows: Rows) -> list[Emitted]:
    batch: Any = SimpleNamespace(**rows.columns())
    return [
        Emitted(to, found.offset, found.key, found.value, found.headers, found.timestamp) for found in records(batch)
    ]
