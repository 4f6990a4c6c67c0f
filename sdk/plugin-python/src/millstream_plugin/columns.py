"""Records as columns, the shape in which they cross the plugin boundary (`record batch` in sdk/wit): one entry per record in
every column, the bytes of all keys (values, headers) end to end, a length of -1 for an absent part."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from .record import Record


class Batch(Protocol):
    """The columns that the host hands over."""

    offsets: list[int]
    timestamps: list[int]
    key_lens: list[int]
    keys: bytes
    value_lens: list[int]
    values: bytes
    header_counts: list[int]
    header_lens: list[int]
    headers: bytes


def records(batch: Batch) -> Iterator[Record]:
    """The records of a batch, in order."""
    keys, values, headers, all_lens = batch.keys, batch.values, batch.headers, batch.header_lens
    key_at = value_at = header_at = lens_at = 0
    columns = zip(batch.offsets, batch.timestamps, batch.key_lens, batch.value_lens, batch.header_counts, strict=True)
    for offset, timestamp, key_len, value_len, header_count in columns:
        key = value = None
        if key_len >= 0:
            key = keys[key_at : key_at + key_len]
            key_at += key_len
        if value_len >= 0:
            value = values[value_at : value_at + value_len]
            value_at += value_len
        lens: list[int] = []
        own = b""
        if header_count > 0:
            lens = all_lens[lens_at : lens_at + 2 * header_count]
            lens_at += 2 * header_count
            size = sum(length for length in lens if length > 0)
            own = headers[header_at : header_at + size]
            header_at += size
        yield Record(offset, timestamp, key, value, lens, own)


@dataclass(slots=True)
class Rows:
    """The records written to one output."""

    offsets: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    header_counts: list[int] = field(default_factory=list)
    header_lens: list[int] = field(default_factory=list)
    headers: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.offsets)

    def mark(self) -> tuple[int, int, int]:
        """Lengths to which the columns can be cut back."""
        return len(self.offsets), len(self.header_lens), len(self.headers)

    def truncate(self, mark: tuple[int, int, int] = (0, 0, 0)) -> None:
        """Cuts back to an earlier ``mark``; to nothing without one."""
        rows, header_lens, headers = mark
        for column in (self.offsets, self.timestamps, self.keys, self.values, self.header_counts):
            del column[rows:]
        del self.header_lens[header_lens:]
        del self.headers[headers:]

    def columns(self) -> dict[str, list[int] | bytes]:
        """The batch by the names of its columns."""
        return {
            "offsets": self.offsets[:],
            "timestamps": self.timestamps[:],
            "key_lens": [-1 if key is None else len(key) for key in self.keys],
            "keys": b"".join([key for key in self.keys if key]),
            "value_lens": [-1 if value is None else len(value) for value in self.values],
            "values": b"".join([value for value in self.values if value]),
            "header_counts": self.header_counts[:],
            "header_lens": self.header_lens[:],
            "headers": b"".join(self.headers),
        }
