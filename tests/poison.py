"""Records that no client of ours would make."""

import struct

from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c_py

BAD_RECORDS = 40
"""Many: the client's fault shows differently once the interpreter is warm."""


async def append_a_header_name_that_is_not_utf8(settings, topic):
    """As a client in another language could: the record's bytes are made by hand."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await producer.start()
    batch = producer.create_batch()
    for i in range(BAD_RECORDS):
        batch.append(key=b"k", value=b"%d" % i, timestamp=None, headers=[("QZ", b"1")])
    batch.close()
    made = bytes(batch._build()).replace(b"QZ", b"\xff\xfe")
    made = made[:17] + struct.pack(">I", calc_crc32c_py(made[21:])) + made[21:]
    batch._build = lambda: bytearray(made)
    try:
        await (await producer.send_batch(batch, topic, partition=0))
    finally:
        await producer.stop()
