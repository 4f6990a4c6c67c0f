"""What the contract's table can't say: configurations of every type, parts that are refused, the harness itself."""

import enum
import struct
import unittest
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from millstream_plugin import Bounds, Output, Record, Reject, count, log, now, transform
from millstream_plugin.part import part_of
from millstream_plugin.testing import config, record, run


@transform
def shout(given: Record, out: Output) -> None:
    out.like(given).value(given.text().upper())


class Plugin(unittest.TestCase):
    def test_a_transform_is_called_for_each_record_and_stays_a_function(self) -> None:
        got = run(shout, None, [record("hello").key("k").header("h", "x").timestamp(5), record(b"\xff")])
        self.assertEqual(got.values, ["HELLO"])
        self.assertEqual(got.outputs[0].key_text, "k")
        self.assertEqual(got.outputs[0].headers, [("h", b"x")])
        self.assertEqual(got.outputs[0].timestamp, 5)
        self.assertEqual(got.rejected[0].index, 1)
        self.assertTrue(got.rejected[0].message.startswith("the value is not UTF-8 text"))
        self.assertEqual(shout.__name__, "shout")

    def test_what_is_no_transform_is_told(self) -> None:
        def one(given: Record) -> None: ...
        async def waiting(given: Record, out: Output) -> None: ...
        def yielding(given: Record, out: Output) -> Any:
            yield given

        for wrong, expected in [(one, "a transform is `def"), (waiting, "neither async"), (yielding, "neither async"), (7, "a transform is `def")]:
            with self.assertRaisesRegex(TypeError, expected):
                transform(wrong)  # type: ignore[arg-type]

        @transform
        def untyped(given, config, out):  # type: ignore[no-untyped-def]
            pass

        with self.assertRaisesRegex(TypeError, "needs the type of the configuration"):
            config(untyped, {})

    def test_messages_of_whatever_is_raised(self) -> None:
        def check(error: BaseException, expected: str) -> None:
            @transform
            def failing(given: Record, out: Output) -> None:
                raise error

            self.assertEqual(run(failing, None, [record("x")]).rejected[0].message, expected)

        check(Reject("no text"), "no text")
        check(KeyError("id"), "there is no 'id'")
        check(ValueError(), "ValueError")
        outer, middle = Reject("outer"), ValueError("middle")
        outer.__cause__, middle.__cause__ = middle, RuntimeError("inner")
        check(outer, "outer: middle: inner")

    def test_parts_are_text_bytes_numbers_or_none(self) -> None:
        def check(part: Any, expected: bytes | None) -> None:
            self.assertEqual(part_of("key", part), expected)

        check("ü", "ü".encode())
        check(bytearray(b"b"), b"b")
        check(memoryview(b"abc")[1:], b"bc")
        check(2**64, b"18446744073709551616")
        check(None, None)
        refused: Any
        for refused in (True, {}, [1], float("nan"), float("inf"), "\ud800"):
            with self.assertRaises(TypeError):
                part_of("key", refused)

    def test_fractions_are_written_as_rfc_8785_says(self) -> None:
        def check(bits: int, expected: str) -> None:
            number = struct.unpack(">d", bits.to_bytes(8))[0]
            self.assertEqual(part_of("key", number), expected.encode())

        check(0x8000000000000000, "0")
        check(0x0000000000000001, "5e-324")
        check(0x7FEFFFFFFFFFFFFF, "1.7976931348623157e+308")
        check(0x4340000000000001, "9007199254740994")
        check(0x4430000000000000, "295147905179352825856")
        check(0x44B52D02C7E14AF5, "9.999999999999997e+22")
        check(0x44B52D02C7E14AF6, "1e+23")
        check(0x444B1AE4D6E2EF50, "1e+21")
        check(0x3EB0C6F7A0B5ED8D, "0.000001")
        check(0x3EB0C6F7A0B5ED8C, "9.999999999999997e-7")
        check(0x41B3DE4355555553, "333333333.3333332")
        check(0xBECBF647612F3696, "-0.0000033333333333333333")
        check(0x43143FF3C1CB0959, "1424953923781206.2")

    def test_values_without_a_json_form_are_told(self) -> None:
        for value in (object(), {1, 2}, float("nan")):

            def written(given: Record, out: Output) -> None:
                out.json(value)  # noqa: B023


            got = run(transform(written), None, [record("x")])
            self.assertEqual(got.outputs, [])
            self.assertTrue(got.rejected[0].message.startswith("the output has no JSON form: "), got.rejected)

    def test_a_record_is_written_once(self) -> None:
        @transform
        def twice(given: Record, out: Output) -> None:
            emit = out.key("k")
            emit.value("1")
            emit.value("2")

        got = run(twice, None, [record("x")])
        self.assertEqual(got.outputs, [])
        self.assertIn("written already", got.rejected[0].message)

    def test_counters_and_logs_are_those_of_the_batch(self) -> None:
        @transform
        def telling(given: Record, out: Output) -> None:
            count("seen")
            count("weight", 2)
            log.info(f"at {now()}")

        got = run(telling, None, [record("a").timestamp(3), record("b").timestamp(8)])
        self.assertEqual((got.counter("seen"), got.counter("weight"), got.counter("none")), (2, 4, 0))
        self.assertEqual(got.logs, [("info", "at 8"), ("info", "at 8")])


class Mode(enum.Enum):
    MASK = "mask"
    DROP = "drop"
    HASH = "hash"


@dataclass
class Nested:
    deep: Annotated[int, Bounds(max=9)]

    def __post_init__(self) -> None:
        if self.deep == 7:
            raise ValueError("not 7")


@dataclass
class Config:
    text: str
    flag: bool = True
    size: Annotated[int, Bounds(min=1)] = 7
    share: Annotated[float, Bounds(0, 1)] | None = None
    mode: Mode = Mode.MASK
    level: Literal["low", "high"] = "low"
    names: list[str] = field(default_factory=list)
    rates: dict[str, float] | None = None
    nested: Nested | None = None
    rest: Any = None


@transform
def every(given: Record, config: Config, out: Output) -> None: ...


class Configuration(unittest.TestCase):
    def test_configurations_of_every_type_are_read(self) -> None:
        given = {
            "text": "a", "flag": False, "size": 3, "share": 1, "mode": "hash", "level": "high", "names": ["x"],
            "rates": {"eur": 1.5}, "nested": {"deep": 9}, "rest": [1],
        }  # fmt: skip
        expected = Config("a", False, 3, 1.0, Mode.HASH, "high", ["x"], {"eur": 1.5}, Nested(9), [1])
        self.assertEqual(config(every, given), expected)
        self.assertEqual(config(every, {"text": "a", "share": None}), Config("a"))

    def test_mistakes_are_told(self) -> None:
        def check(given: Any, expected: str) -> None:
            with self.assertRaises(ValueError) as raised:
                config(every, given)
            self.assertEqual(str(raised.exception), f"config: {expected}")

        check({"text": 1}, "text: invalid type: integer `1`, expected a string")
        check({"text": "a", "flag": "yes"}, 'flag: invalid type: string "yes", expected a boolean')
        check({"text": "a", "flag": None}, "flag: invalid type: null, expected a boolean")
        check({"text": "a", "size": True}, "size: invalid type: boolean `true`, expected an integer")
        check({"text": "a", "size": 0}, "size: invalid value: integer `0`, expected an integer of at least 1")
        check({"text": "a", "share": 1.5}, "share: invalid value: floating point `1.5`, expected a number from 0 to 1")
        check({"text": "a", "mode": "msak"}, "mode: unknown variant `msak`, expected one of `mask`, `drop`, `hash`")
        check({"text": "a", "level": "mid"}, "level: unknown variant `mid`, expected `low` or `high`")
        check({"text": "a", "names": ["x", 2]}, "names.1: invalid type: integer `2`, expected a string")
        check({"text": "a", "rates": {"eur": True}}, "rates.eur: invalid type: boolean `true`, expected a number")
        check({"text": "a", "nested": {"deep": 10}}, "nested.deep: invalid value: integer `10`, expected an integer of at most 9")
        check({"text": "a", "nested": {"dep": 1}}, "nested: unknown field `dep`, expected `deep`")
        check({"text": "a", "nested": {}}, "nested: missing field `deep`")
        check({"text": "a", "nested": {"deep": 7}}, "nested: not 7")
        check({"text": "a", "levle": 1}, "unknown field `levle`, expected one of `text`, `flag`, `size`, `share`, `mode`, `level`, `names`, `rates`, `nested`, `rest`")
        check(None, "missing field `text`")
        with self.assertRaisesRegex(ValueError, "this plugin takes no configuration"):
            config(shout, {"a": 1})
        self.assertIsNone(config(shout, None))


if __name__ == "__main__":
    unittest.main()
