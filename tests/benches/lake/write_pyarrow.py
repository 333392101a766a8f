"""Writes each record batch of an Arrow file as a Parquet file of its own, as pyarrow does with zstd, level 3.

Prints seconds and bytes as JSON: in order of arrival, and sorted as the lake sorts; each file synced, as the lake's are.
"""

import json
import os
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq

SORT = [(c, "ascending") for c in ("device", "ts", "stream", "epoch", "seq")]


def write(tables, folder, sort):
    os.makedirs(folder)
    began, size = time.perf_counter(), 0
    for n, table in enumerate(tables):
        path = os.path.join(folder, f"{n}.parquet")
        table = table.sort_by(SORT) if sort else table
        pq.write_table(table, path, compression="zstd", compression_level=3)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        size += os.path.getsize(path)
    return time.perf_counter() - began, size


def main():
    source, folder = sys.argv[1:]
    with pa.OSFile(source) as file:
        reader = pa.ipc.open_file(file)
        tables = [pa.Table.from_batches([reader.get_batch(n)]) for n in range(reader.num_record_batches)]
    write(tables[:1], os.path.join(folder, "warm"), False)
    plain_s, plain_bytes = write(tables, os.path.join(folder, "plain"), False)
    sorted_s, sorted_bytes = write(tables, os.path.join(folder, "sorted"), True)
    print(json.dumps({
        "rows": sum(t.num_rows for t in tables), "plain_s": plain_s, "plain_bytes": plain_bytes,
        "sorted_s": sorted_s, "sorted_bytes": sorted_bytes,
    }))


main()
