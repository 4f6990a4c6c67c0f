"""What a transform tells besides its records: log lines and counters; and the one clock it may read, record time. In a
component these reach the host, natively the test harness collects them."""

from collections.abc import Callable

_U64_MAX = 2**64 - 1

_counters: dict[str, int] = {}
_time = 0


def _nowhere(level: str, message: str) -> None:
    pass


_sink: Callable[[str, str], None] = _nowhere


def count(name: str, delta: int = 1) -> None:
    """Adds to a counter of this plugin, shown by ``millstream pipeline describe``. A rejected record's counts stay."""
    if not isinstance(name, str):
        raise TypeError(f"a counter is named by a str, not by {type(name).__name__}")
    if type(delta) is not int or not 0 <= delta <= _U64_MAX:
        raise TypeError(f"a counter grows by a whole number, not by {delta!r}")
    _counters[name] = min(_counters.get(name, 0) + delta, _U64_MAX)


def now() -> int:
    """Record time: the largest timestamp of the batch being processed, in milliseconds since the epoch. There is no other
    clock, so that a replay gives the same results."""
    return _time


class _Log:
    """Writes lines to the pipeline's log."""

    def trace(self, message: object) -> None:
        """For following a single record."""
        _sink("trace", str(message))

    def debug(self, message: object) -> None:
        """For whoever debugs the plugin."""
        _sink("debug", str(message))

    def info(self, message: object) -> None:
        _sink("info", str(message))

    def warn(self, message: object) -> None:
        """Something looks wrong, the record is handled nevertheless."""
        _sink("warn", str(message))

    def error(self, message: object) -> None:
        """Something is wrong. A record that fails needs no such line, its error is reported anyway."""
        _sink("error", str(message))


log = _Log()
"""Writes lines to the pipeline's log."""


def _set_sink(sink: Callable[[str, str], None]) -> None:
    """Where log lines go from now on."""
    global _sink
    _sink = sink


def _set_now(timestamp: int) -> None:
    global _time
    _time = timestamp


def _take_counters() -> dict[str, int]:
    """Counters since the last call: a call to the host per batch, not per record."""
    taken = dict(_counters)
    _counters.clear()
    return taken
