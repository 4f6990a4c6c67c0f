"""Columns to records and back. Batches cross the boundary as columns: one entry per record in every column, and the bytes
of all keys (values, headers) end to end. See sdk/wit/plugin.wit."""

from collections.abc import Iterator
from dataclasses import dataclass

from wit_world.imports.types import Batch


@dataclass
class Record:
    """One input record; key, value and header values are `None` where absent."""

    index: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    header_lens: list[int]
    headers: bytes

    def text(self) -> str:
        if self.value is None:
            raise ValueError("the record has no value (a tombstone)")
        return self.value.decode()


def records(batch: Batch) -> Iterator[Record]:
    """The records of a batch, in order."""
    key = value = header = header_len = 0
    for index, offset in enumerate(batch.offsets):
        key_end = key + max(batch.key_lens[index], 0)
        value_end = value + max(batch.value_lens[index], 0)
        header_lens = batch.header_lens[header_len : header_len + 2 * batch.header_counts[index]]
        header_end = header + sum(max(length, 0) for length in header_lens)
        yield Record(
            index,
            offset,
            batch.timestamps[index],
            None if batch.key_lens[index] < 0 else batch.keys[key:key_end],
            None if batch.value_lens[index] < 0 else batch.values[value:value_end],
            header_lens,
            batch.headers[header:header_end],
        )
        key, value, header = key_end, value_end, header_end
        header_len += len(header_lens)


class Output:
    """The records written to one output."""

    def __init__(self) -> None:
        self._batch = Batch([], [], [], b"", [], b"", [], [], b"")
        self._keys, self._values, self._headers = [], [], []

    @property
    def rows(self) -> int:
        return len(self._batch.offsets)

    def write(self, record: Record, value: bytes | None) -> None:
        """Writes a record made from `record`, whose key, headers and timestamp it keeps."""
        batch = self._batch
        batch.offsets.append(record.offset)
        batch.timestamps.append(record.timestamp)
        batch.key_lens.append(-1 if record.key is None else len(record.key))
        batch.value_lens.append(-1 if value is None else len(value))
        batch.header_counts.append(len(record.header_lens) // 2)
        batch.header_lens.extend(record.header_lens)
        self._keys.append(record.key or b"")
        self._values.append(value or b"")
        self._headers.append(record.headers)

    def forward(self, record: Record) -> None:
        """Passes a record on as it is."""
        self.write(record, record.value)

    def batch(self) -> Batch:
        self._batch.keys = b"".join(self._keys)
        self._batch.values = b"".join(self._values)
        self._batch.headers = b"".join(self._headers)
        return self._batch
