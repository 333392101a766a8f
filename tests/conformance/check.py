"""Reads a lake that our code wrote with DuckDB, pyiceberg and polars, and compares what they see.

1. All three count the same rows in every table, and the commit's own counts agree.
2. Rows read by pyiceberg and DuckDB are equal, value by value, bit by bit.
3. Read by pyiceberg and by DuckDB, the lake is the truth the run left behind (truth.jsonl): every captured
   row once, every value what was emitted, bit by bit, every picture byte for byte.
4. Every aligned value is what DuckDB's ASOF JOIN computes from the raw tables: the previous sample by
   boot time within one boot, within the recipe's tolerance.
"""

import argparse
import datetime
import hashlib
import json
import math
import struct

import polars as pl
from pyiceberg.table import StaticTable

from lake import duck, headwater, locations
from truth import Truth

# The demo's recipe: column -> (table, stream, tolerance in ns, fields compared).
COLUMNS = {
    "motion": ("raw.imu", "imu", 200_000_000, ["n", "accel_x", "gyro_z"]),
    "place": ("raw.gps_fix", "gps", 2_000_000_000, ["lat", "lon", "utc"]),
    "air": ("raw.env", "env/roof", 5_000_000_000, ["temperature", "humidity"]),
}
# Event time of a row on its boot line: stamp minus the middle of its latency, rounded down.
EVENT = "boot_ns - ((lat_lo_ns + lat_hi_ns) // 2)"


def bits(value):
    """A value in a form where equality is bit equality."""
    if isinstance(value, float):
        return ("f64", struct.pack("<d", value)) if not math.isnan(value) else "nan"
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc)
    if isinstance(value, bytes | bytearray):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, dict):
        return tuple((key, bits(item)) for key, item in sorted(value.items()))
    return value


def same_counts(con, tables, program, lake):
    ours = {t["name"]: t["rows"] for t in json.loads(headwater(program, lake, "tables", "--at", "main", "--json"))}
    for name, location in sorted(tables.items()):
        by_duck = con.execute(f"SELECT count(*) FROM iceberg_scan('{location}')").fetchone()[0]
        static = StaticTable.from_metadata(location)
        by_pyiceberg = static.scan().to_arrow().num_rows
        by_polars = pl.scan_iceberg(static).select(pl.len()).collect().item()
        counts = {"commit": ours[name], "duckdb": by_duck, "pyiceberg": by_pyiceberg, "polars": by_polars}
        assert len(set(counts.values())) == 1, f"{name}: {counts}"
        print(f"  {name:<18} {by_duck:>8} rows, the same to all four")
        assert by_duck > 0, f"{name} is empty"


def same_values(con, tables):
    for name in ("raw.imu", "raw.gps_fix", "raw.image", "raw.env", "ops.ledger", "ops.gaps"):
        location = tables[name]
        static = StaticTable.from_metadata(location)
        columns = [f.name for f in static.schema().fields]
        order = [c for c in ("device", "stream", "epoch", "seq", "seq_lo", "ts_ns") if c in columns]
        by_pyiceberg = static.scan(selected_fields=tuple(columns)).to_arrow().sort_by([(c, "ascending") for c in order])
        sql = f"SELECT {', '.join(columns)} FROM iceberg_scan('{location}') ORDER BY {', '.join(order)}"
        by_duck = con.execute(sql).fetchall()
        pairs = zip(by_pyiceberg.select(columns).to_pylist(), by_duck, strict=True)
        for row, (left, right) in enumerate(pairs):
            left, right = [bits(left[c]) for c in columns], [bits(x) for x in right]
            assert left == right, f"{name} row {row}: {left} != {right}"
        print(f"  {name:<18} equal bit by bit in pyiceberg and DuckDB")


def lake_is_the_truth(con, tables, path):
    """Each reader on its own against what was emitted; `ops.gaps` says what may be missing."""

    def by_pyiceberg(name, columns):
        table = StaticTable.from_metadata(tables[name]).scan(selected_fields=tuple(columns)).to_arrow()
        return [tuple(row[c] for c in columns) for row in table.to_pylist()]

    def by_duck(name, columns):
        return con.execute(f"SELECT {', '.join(columns)} FROM iceberg_scan('{tables[name]}')").fetchall()

    for reader, read in (("pyiceberg", by_pyiceberg), ("DuckDB", by_duck)):
        truth = Truth(path)
        for line in truth.compare(read):
            print(f"  {reader:<10} {line}")


def aligned_equals_asof(con, tables):
    aligned, frames = tables["aligned.drive"], tables["raw.image"]
    rows = con.execute(f"SELECT count(*) FROM iceberg_scan('{aligned}')").fetchone()[0]
    assert rows > 0, "no aligned rows"
    names = {d[0] for d in con.execute(f"SELECT * FROM iceberg_scan('{aligned}') LIMIT 0").description}
    for column, (table, stream, tolerance, fields) in COLUMNS.items():
        shown = {field: next(n for n in (f"{column}_{field}", field) if n in names) for field in fields}
        ours = ", ".join(f'a."{shown[f]}" AS ours_{f}' for f in fields)
        theirs = ", ".join(f'r."{f}" AS theirs_{f}' for f in fields)
        sql = f"""
        WITH spine AS (
            SELECT device, epoch, boot_ordinal, seq, {EVENT} AS e, epoch || '/' || stream || '/' || seq AS long_key
            FROM iceberg_scan('{frames}') WHERE stream = 'camera/front'
        ), rights AS (
            SELECT *, {EVENT} AS e FROM iceberg_scan('{tables[table]}') WHERE stream = '{stream}'
            QUALIFY row_number() OVER (PARTITION BY device, epoch, boot_ordinal, {EVENT} ORDER BY seq DESC) = 1
        ), ours AS (
            SELECT *, row_key FROM iceberg_scan('{aligned}')
        )
        SELECT s.seq, a.{column}_src.seq_lo, a.{column}_src.dt_ns, r.seq, r.e - s.e, {ours}, {theirs}
        FROM spine s
        ASOF LEFT JOIN rights r
          ON s.device = r.device AND s.epoch = r.epoch AND s.boot_ordinal = r.boot_ordinal AND s.e >= r.e
        JOIN ours a ON a.device = s.device AND a.row_key = s.long_key
        """
        joined = con.execute(sql).fetchall()
        assert len(joined) == rows, f"{column}: {len(joined)} of {rows} aligned rows found their camera frame"
        matched = 0
        for frame, seq, dt, want_seq, want_dt, *values in joined:
            if want_dt is not None and -want_dt > tolerance:
                want_seq = want_dt = None
            assert (seq, dt) == (want_seq, want_dt), f"{column} of frame {frame}: seq, dt {(seq, dt)}, ASOF says {(want_seq, want_dt)}"
            mine, reference = values[: len(fields)], values[len(fields) :]
            if want_seq is None:
                assert mine == [None] * len(fields), f"{column} of frame {frame}: a value out of tolerance"
            else:
                matched += 1
                assert [bits(x) for x in mine] == [bits(x) for x in reference], f"{column} of frame {frame}: {mine} != {reference}"
        assert matched > 0, f"{column} was never matched"
        print(f"  {column:<18} {matched} of {rows} rows matched, each equal to DuckDB's ASOF JOIN")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--truth", required=True, help="truth.jsonl of the run")
    parser.add_argument("--program", required=True, help="the demo binary, which is `headwater` too")
    args = parser.parse_args()
    tables = locations(args.program, args.lake)
    con = duck()
    checks = 0
    for check in (
        lambda: same_counts(con, tables, args.program, args.lake),
        lambda: same_values(con, tables),
        lambda: lake_is_the_truth(con, tables, args.truth),
        lambda: aligned_equals_asof(con, tables),
    ):
        check()
        checks += 1
    print(f"conformance: {checks} passed, 0 failed")


if __name__ == "__main__":
    main()
