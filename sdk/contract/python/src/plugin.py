"""Does what its configuration tells it: the Python guest of ../../cases.json."""

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

from millstream_plugin import Bounds, Emit, Output, Record, Reject, count, log, now, transform


@dataclass
class Config:
    program: list[list[Any]]
    level: Annotated[int, Bounds(0, 255)] = 0


@transform
def obey(record: Record, config: Config, out: Output) -> None:
    follow(config.program, record, config, out)


def follow(program: list[list[Any]], record: Record, config: Config, out: Output) -> None:
    begun: Emit | None = None
    for word, *args in program:
        emit: Output | Emit = out if begun is None else begun
        match word:
            case "key" | "header" | "timestamp":
                begun = getattr(emit, word)(*args)
                continue
            case "keyof":
                begun = emit.key(record.field(args[0]))
                continue
            case "like":
                begun = emit.like(record)
                continue
            case "to":
                begun = out.to(*args)
                continue
            case "when":
                if record.value is not None and record.text() == args[0]:
                    follow(args[1], record, config, out)
                continue
            case "count":
                count(args[0], int(args[1]))
                continue
            case "log":
                getattr(log, args[0])(args[1])
                continue
            case "fail":
                fail(*args)
            case "loop":
                while True:
                    pass
            case "exhaust":
                kept = [b"x" * (1 << 20) + bytes([i % 256]) for i in itertools.count()]
                raise AssertionError(len(kept))
            case _:
                begun = None
                write(word, args, record, config, out if emit is out else emit)


def write(word: str, args: list[Any], record: Record, config: Config, emit: Output | Emit) -> None:
    match word:
        case "drop":
            pass
        case "value" | "json":
            getattr(emit, word)(*args)
        case "tombstone":
            (emit.key(None) if isinstance(emit, Output) else emit).tombstone()
        case "forward":
            emit.forward(record)
        case "echo":
            emit.value(record.value)
        case "text":
            emit.value(record.text())
        case "parse":
            emit.json(record.json())
        case "field":
            emit.json(record.field(args[0], "none"))
        case "facts":
            emit.json(facts(record))
        case "now":
            emit.value(now())
        case "level":
            emit.value(config.level)
        case "badjson":
            bad_json(emit)
        case _:
            raise ValueError(f"unknown word {word}")


def facts(record: Record) -> list[Any]:
    def text(part: bytes | None) -> str | None:
        return None if part is None else part.decode()

    headers = [[name, text(value)] for name, value in record.headers]
    return [record.key_text, record.is_tombstone, headers, text(record.header("h")), record.timestamp, record.offset]


def fail(message: str, cause: str | None = None) -> NoReturn:
    raise Reject(message) from (None if cause is None else ValueError(cause))


def bad_json(emit: Output | Emit) -> None:
    try:
        emit.json(["half", object()])
    except ValueError:
        return
    raise AssertionError("a bad value was written")
