"""What can be a key, a value or a header's value: text, bytes, a number (as the shortest decimal text that is exactly it, as
RFC 8785 writes numbers; a whole one below 10^21 keeps all its digits), or ``None``."""

import math
from typing import TypeAlias

Part: TypeAlias = "str | bytes | bytearray | memoryview | int | float | None"


def part_of(what: str, part: Part) -> bytes | None:
    """The part's bytes; raises for what can't be one."""
    if part is None or type(part) is bytes:
        return part
    if isinstance(part, str):
        try:
            return part.encode()
        except UnicodeEncodeError as error:
            raise TypeError(f"a {what} can't be text with a lone surrogate") from error
    if isinstance(part, (bytes, bytearray, memoryview)):
        return bytes(part)
    if isinstance(part, bool):
        raise TypeError(f"a {what} can't be a bool: use text, bytes, a number or None")
    if isinstance(part, int):
        return str(part).encode()
    if isinstance(part, float):
        if not math.isfinite(part):
            raise TypeError(f"a {what} can't be {part}")
        return _shortest(part).encode()
    raise TypeError(f"a {what} can't be of type {type(part).__name__}: use text, bytes, a number or None")


def _shortest(number: float) -> str:
    """As ECMAScript writes it: `repr` has the same digits, in another notation."""
    if number.is_integer() and abs(number) < 1e21:
        return str(int(number))
    sign = "-" if number < 0 else ""
    mantissa, _, power = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    # The decimal point stands behind so many of the digits.
    point = len(whole) + int(power or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if 0 < point <= 21:
        text = digits.ljust(point, "0") if len(digits) <= point else f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        exponent = point - 1
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{rest}e{'+' if exponent > 0 else '-'}{abs(exponent)}"
    return sign + text
