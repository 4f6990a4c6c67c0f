"""Writes kafka_batches.txt, the batches of an independent producer.

    pip install kafka-python==3.0.12 lz4 python-snappy zstandard
    python kafka_batches.py > kafka_batches.txt

Compressed bytes depend on the versions of the codecs, so the file is committed, not made by the tests.
"""

from kafka.record.default_records import DefaultRecordBatchBuilder

for name, codec in {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}.items():
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=0,
        producer_id=4000, producer_epoch=3, base_sequence=17, batch_size=1 << 20,
    )
    builder.append(0, 1700000000000, b"key", b"value", [("h", b"1"), ("none", None)])
    builder.append(1, 1700000000005, None, b"", [])
    builder.append(2, 1699999999000, b"gone", None, [])
    for i in range(3, 40):
        builder.append(i, 1700000000000 + i, None, b"the same again", [])
    print(name, bytes(builder.build()).hex())
