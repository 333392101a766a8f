"""The same query on two metadata locations in turn; medians in JSON."""

import json
import statistics
import sys
import time

from lake import duck

ROUNDS = 15
QUERY = "SELECT device, count(*), avg(value), max(ts) FROM iceberg_scan('{}') WHERE ts >= TIMESTAMPTZ '{}' GROUP BY device"


def main():
    ours, compacted, midnight = sys.argv[1:]
    con = duck()
    con.execute("SET TimeZone = 'UTC'")
    times, counts = {ours: [], compacted: []}, set()
    for turn in range(ROUNDS + 1):
        for location in times:
            began = time.perf_counter()
            found = con.execute(QUERY.format(location, midnight)).fetchall()
            if turn > 0:
                times[location].append(time.perf_counter() - began)
            counts.add(sum(row[1] for row in found))
    assert len(counts) == 1, f"they hold other rows: {counts}"
    files = {loc: con.execute(f"SELECT count(*) FROM iceberg_metadata('{loc}') WHERE status <> 'DELETED'").fetchone()[0] for loc in times}
    print(json.dumps({
        "rows": counts.pop(), "ours_s": statistics.median(times[ours]), "compacted_s": statistics.median(times[compacted]),
        "ours_files": files[ours], "compacted_files": files[compacted],
    }))


main()
