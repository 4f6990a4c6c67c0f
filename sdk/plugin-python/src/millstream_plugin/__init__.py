"""Write Millstream plugins in Python: a plugin is one ordinary function from a record to any number of records.

    from dataclasses import dataclass
    from millstream_plugin import Output, Record, transform

    @dataclass
    class Config:
        vat_percent: int

    @transform
    def price(record: Record, config: Config, out: Output) -> None:
        order = record.json()           # what is raised is this record's failure, its neighbours go on
        out.key(order["id"]).json({**order, "total": order["net"] * (100 + config.vat_percent) // 100})

The function stays callable; ``millstream_plugin.testing`` runs it natively.
"""

from .config import Bounds
from .failure import Reject
from .output import Emit, Output, Part
from .record import Record
from .report import count, log, now
from .transform import Transform, transform

__all__ = ["Bounds", "Emit", "Output", "Part", "Record", "Reject", "Transform", "count", "log", "now", "transform"]
