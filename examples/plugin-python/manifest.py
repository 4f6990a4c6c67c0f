"""Adds plugin.toml to a component, as the custom section in which Millstream looks for a plugin's name and version."""

import json
import sys
import tomllib
from pathlib import Path


def leb128(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def section(name: str, contents: bytes) -> bytes:
    """A custom section of WebAssembly: id 0, length, name, contents."""
    label = name.encode()
    body = leb128(len(label)) + label + contents
    return b"\0" + leb128(len(body)) + body


if __name__ == "__main__":
    manifest, component = Path(sys.argv[1]), Path(sys.argv[2])
    fields = tomllib.loads(manifest.read_text()) | {"sdk": "componentize-py 0.25.1"}
    with component.open("ab") as file:
        file.write(section("millstream:plugin", json.dumps(fields).encode()))
    print(f"{component}  {component.stat().st_size / 2**20:.1f} MiB")
