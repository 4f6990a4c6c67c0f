"""Turns readings in Fahrenheit into Celsius: {"sensor": "s1", "fahrenheit": 212} becomes {"sensor": "s1", "celsius": 100}.
A reading of `null` goes to the output `unreadable`; whatever else is no number is rejected."""

import json

from columns import Output, records
from componentize_py_types import Err
from wit_world.imports import host
from wit_world.imports.types import Batch, Level

# A new WitWorld serves every call: what lasts is kept here.
settings = {"decimals": 1}


class WitWorld:
    def init(self, config: str) -> None:
        fields = json.loads(config) or {}
        unknown = next((name for name in fields if name != "decimals"), None)
        if unknown is not None:
            raise Err(f"config: unknown field `{unknown}`, expected `decimals`")
        decimals = fields.get("decimals", 1)
        if type(decimals) is not int or not 0 <= decimals <= 9:
            raise Err("config: decimals: expected a number from 0 to 9")
        settings["decimals"] = decimals
        host.log(Level.DEBUG, f"rounding to {decimals} decimals")

    def process(self, rows: Batch) -> None:
        readings, unreadable = Output(), Output()
        for record in records(rows):
            try:
                reading = json.loads(record.text())
                if type(reading) is not dict:
                    raise ValueError("not a JSON object")
                fahrenheit = reading.pop("fahrenheit", "missing")
                if fahrenheit is None:
                    unreadable.forward(record)
                    continue
                if type(fahrenheit) not in (int, float):
                    raise ValueError("fahrenheit is not a number")
                reading["celsius"] = convert(fahrenheit)
                readings.write(record, json.dumps(reading, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
            except Exception as error:
                host.reject(record.index, f"the value is not the JSON expected: {error}")
        for name, output in (("", readings), ("unreadable", unreadable)):
            if output.rows:
                host.emit(name, output.batch())


def convert(fahrenheit: float) -> float:
    celsius = round((fahrenheit - 32) / 1.8, settings["decimals"])
    return int(celsius) if celsius == int(celsius) else celsius
