"""DuckDB on our table's current snapshot, beside the same rows as plain Parquet: the same files, and one sorted file.

Every query runs in turn on all of them, so that a busy machine is busy for all; medians are printed as JSON. What DuckDB
does before it reads a row (metadata, list and manifests, or the footers) is a query of its own, `plan`.
"""

import json
import os
import statistics
import sys
import time

import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyiceberg.table import StaticTable

from lake import duck

ROUNDS = 25
QUERIES = {
    "plan": "EXPLAIN SELECT avg(accel_x) FROM {t}",
    "count": "SELECT count(*) FROM {t}",
    "mean": "SELECT count(accel_x), avg(accel_x) FROM {t}",
    "scan": "SELECT device, count(*), avg(accel_x), max(ts) FROM {t} GROUP BY device",
    "minute": "SELECT count(*), sum(gyro_z) FROM {t} WHERE device = '{device}' AND ts BETWEEN TIMESTAMPTZ '{lo}' AND TIMESTAMPTZ '{hi}'",
}


def main():
    location, folder = sys.argv[1:]
    table = StaticTable.from_metadata(location)
    files = [task.file.file_path.removeprefix("file://") for task in table.scan().plan_files()]
    os.makedirs(folder, exist_ok=True)
    one = os.path.join(folder, "one.parquet")
    rows = ds.dataset(files).to_table().sort_by([("device", "ascending"), ("ts", "ascending")])
    pq.write_table(rows, one, compression="zstd", compression_level=3)
    con = duck()
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET threads = 2")
    tables = {
        "iceberg": f"iceberg_scan('{location}')",
        "same_files": f"read_parquet({files!r}, hive_partitioning = false)",
        "one_file": f"read_parquet('{one}')",
    }
    lo, hi, device = con.execute(f"SELECT min(ts), max(ts), min(device) FROM '{one}'").fetchone()
    middle = lo + (hi - lo) / 2
    words = {"device": device, "lo": middle, "hi": middle + (hi - lo) / 20}
    manifests = len(table.current_snapshot().manifests(table.io))
    answer = {"files": len(files), "manifests": manifests, "rows": rows.num_rows}
    for name, query in QUERIES.items():
        times, results = {t: [] for t in tables}, set()
        for turn in range(ROUNDS + 1):
            for t, source in tables.items():
                began = time.perf_counter()
                found = con.execute(query.format(t=source, **words)).fetchall()
                if turn > 0:
                    times[t].append(time.perf_counter() - began)
                # Sums of floats depend on the order of rows; counts do not. Plans say what they will.
                if name != "plan":
                    results.add(str(sorted(row[0:2] if name == "scan" else row[0:1] for row in found)))
        assert len(results) == (name != "plan"), f"{name}: the readers disagree: {results}"
        for t in tables:
            answer[f"{name}_{t}_s"] = statistics.median(times[t])
    print(json.dumps(answer))


main()
