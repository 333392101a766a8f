"""DuckDB fetching one picture by its key, from our table and from its files alone; medians in JSON."""

import json
import statistics
import sys
import time

from pyiceberg.table import StaticTable

from lake import duck


def main():
    location, rows, tries = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    files = [t.file.file_path.removeprefix("file://") for t in StaticTable.from_metadata(location).scan().plan_files()]
    con = duck()
    answer = {}
    for name, source in (("iceberg", f"iceberg_scan('{location}')"), ("files", f"read_parquet({files!r}, hive_partitioning = false)")):
        times = []
        for turn in range(tries + 1):
            seq = (turn * 7919) % rows
            began = time.perf_counter()
            found = con.execute(f"SELECT image.bytes, size FROM {source} WHERE seq = {seq}").fetchall()
            if turn > 0:
                times.append(time.perf_counter() - began)
            assert len(found) == 1 and len(found[0][0]) == found[0][1], f"seq {seq}: {len(found)} rows"
        answer[f"{name}_s"] = statistics.median(times)
    print(json.dumps(answer))


main()
