"""The contract's table over the guest in Python, natively; `.ci/languages` runs it over the component."""

import importlib.util
import json
import unittest
from pathlib import Path
from typing import Any

from millstream_plugin.testing import config, record, run

CONTRACT = Path(__file__).parents[2] / "contract"


def load_guest() -> Any:
    spec = importlib.util.spec_from_file_location("obey", CONTRACT / "python/src/plugin.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.obey


def part(given: Any) -> bytes | None:
    """A part of the table as bytes."""
    if given is None or isinstance(given, str):
        return None if given is None else given.encode()
    if "hex" in given:
        return bytes.fromhex(given["hex"])
    text: str = given["repeat"] * given["times"]
    return text.encode()


class Contract(unittest.TestCase):
    maxDiff = 2_000

    def test_every_case(self) -> None:
        obey = load_guest()
        cases = json.loads((CONTRACT / "cases.json").read_text())
        for case in cases:
            # What ends an instance would end this process.
            if "failure" in case:
                continue
            with self.subTest(case["name"]):
                self.check(obey, case)

    def check(self, obey: Any, case: dict[str, Any]) -> None:
        for words in case.get("refused", []):
            with self.assertRaises(ValueError) as raised:
                config(obey, case["config"])
            self.assertIn(words, str(raised.exception))
        if "refused" in case:
            return
        times, size = range(case.get("times", 1)), len(case["input"])
        inputs = []
        for given in case["input"] * len(times):
            made = record(part(given["value"])).key(part(given.get("key"))).timestamp(int(given.get("timestamp", 0)))
            for name, value in given.get("headers", []):
                made.header(name, part(value))
            inputs.append(made)
        got = run(obey, case["config"], inputs)
        expected = {"": case.get("output", []), "other": [], "refunds": [], **case.get("outputs", {})}
        for output, rows in expected.items():
            wanted = [
                (
                    row["from"] + i * size,
                    part(row.get("key")),
                    part(row.get("value")),
                    [(name, part(value)) for name, value in row.get("headers", [])],
                    int(row.get("timestamp", 0)),
                )
                for i in times
                for row in rows
            ]
            found = [(o.origin, o.key, o.value, o.headers, o.timestamp) for o in got.outputs if o.to == output]
            self.assertTrue(found == wanted, f"output `{output}`:\n{found[:20]}\n{wanted[:20]}")
        rejected = [(one, one["index"] + i * size) for i in times for one in case.get("rejected", [])]
        self.assertEqual([one.index for one in got.rejected], [index for _, index in rejected])
        for found_one, (one, _) in zip(got.rejected, rejected, strict=True):
            if "message" in one:
                self.assertEqual(found_one.message, one["message"])
            else:
                self.assertTrue(found_one.message.startswith(one["begins"]), found_one.message)
        self.assertEqual(got.logs, [(level, message) for level, message in case.get("logs", [])])
        self.assertEqual(got.counters, {name: int(total) for name, total in case.get("counters", {}).items()})


if __name__ == "__main__":
    unittest.main()
