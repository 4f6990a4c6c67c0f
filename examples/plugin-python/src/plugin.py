"""Turns readings in Fahrenheit into Celsius: {"sensor": "s1", "fahrenheit": 212} becomes {"sensor": "s1", "celsius": 100}.
A reading of `null` goes to the output `unreadable`; whatever else is no number is rejected."""

from dataclasses import dataclass
from typing import Annotated

from millstream_plugin import Bounds, Output, Record, Reject, transform


@dataclass
class Config:
    decimals: Annotated[int, Bounds(0, 9)] = 1


@transform
def celsius(record: Record, config: Config, out: Output) -> None:
    match record.json():
        case {"fahrenheit": None}:
            out.to("unreadable").forward(record)
        case {"fahrenheit": int() | float() as fahrenheit, **rest}:
            out.like(record).json({**rest, "celsius": convert(fahrenheit, config.decimals)})
        case _:
            raise Reject("fahrenheit is not a number")


def convert(fahrenheit: float, decimals: int) -> float:
    celsius = round((fahrenheit - 32) / 1.8, decimals)
    return int(celsius) if celsius == int(celsius) else celsius
