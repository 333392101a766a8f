"""Reads a lake that our code wrote with DuckDB, pyiceberg and polars, and compares what they see.

1. All three count the same rows in every table, and the commit's own counts agree.
2. Rows read by pyiceberg and DuckDB are equal, value by value, bit by bit.
3. Read by pyiceberg and by DuckDB, the lake is the truth the run left behind (truth.jsonl): every captured
   row once, every value what was emitted, bit by bit, every picture byte for byte.
4. Every `previous` value is what DuckDB's ASOF JOIN computes from the raw tables: the previous sample by
   boot time within one boot, within the recipe's tolerance.
5. Nearest readings, windows of the IMU and values between fixes are counted out row by row from the raw tables, by the
   plain rules below, in pandas and the standard library.
6. The gateway with a fault has all its raw rows in the lake and no aligned row on main, and the verdicts say why.
"""

import argparse
import bisect
import datetime
import hashlib
import json
import math
import statistics
import struct

import polars as pl
from pyiceberg.expressions import EqualTo
from pyiceberg.table import StaticTable

from lake import duck, headwater, locations
from truth import Truth

GOOD, BAD = "gateway-1", "gateway-bad"
# The demo's recipe (tests/demo/drive.toml): column -> (table, stream, tolerance in ns, fields compared).
COLUMNS = {
    "motion": ("raw.imu", "imu", 200_000_000, ["n", "accel_x", "gyro_z"]),
}
AIR_TOLERANCE, GAP_MAX = 2_000_000_000, 3_000_000_000
SHAKE_FROM, SHAKE_MIN, SHAKE_FIELDS = -1_000_000_000, 20, ["accel_x", "accel_y", "accel_z", "gyro_z"]
# Up to so many degrees between fixes a straight line on the map is within a centimetre of the ellipsoid's.
NEAR_DEG, CENTIMETRE_DEG = 0.003, 1e-7
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
        scan = StaticTable.from_metadata(tables[name]).scan(row_filter=EqualTo("device", GOOD), selected_fields=tuple(columns))
        table = scan.to_arrow()
        return [tuple(row[c] for c in columns) for row in table.to_pylist()]

    def by_duck(name, columns):
        sql = f"SELECT {', '.join(columns)} FROM iceberg_scan('{tables[name]}') WHERE device = '{GOOD}'"
        return con.execute(sql).fetchall()

    for reader, read in (("pyiceberg", by_pyiceberg), ("DuckDB", by_duck)):
        truth = Truth(path)
        for line in truth.compare(read):
            print(f"  {reader:<10} {line}")


def aligned_equals_asof(con, tables):
    aligned, frames = tables["aligned.drive"], tables["raw.image"]
    # A provisional row was made before all its samples were there.
    rows = con.execute(f"SELECT count(*) FROM iceberg_scan('{aligned}') WHERE NOT provisional").fetchone()[0]
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
            SELECT *, row_key FROM iceberg_scan('{aligned}') WHERE NOT provisional
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


def frame(tables, name, device, columns=("*",)):
    """A device's rows of a table as pandas has them, each with its event time `e` if it is a capture."""
    scan = StaticTable.from_metadata(tables[name]).scan(row_filter=EqualTo("device", device), selected_fields=tuple(columns))
    rows = scan.to_pandas()
    if "boot_ns" in rows.columns:
        rows["e"] = rows["boot_ns"] - (rows["lat_lo_ns"] + rows["lat_hi_ns"]) // 2
    return rows


STAMP = ("epoch", "boot_ordinal", "seq", "stream", "boot_ns", "lat_lo_ns", "lat_hi_ns", "domain")


def captures(tables, name, stream, fields, newest=True):
    """Samples of a stream on the boot line, in order: by time, then number; of equal times the last, if `newest`."""
    rows = frame(tables, name, GOOD, (*STAMP, *fields))
    rows = rows[(rows["stream"] == stream) & (rows["domain"] == "boot")].sort_values(["e", "seq"])
    lines = rows[["epoch", "boot_ordinal"]].drop_duplicates()
    assert len(lines) == 1, f"{name}: one boot of one installation is what the demo plays, not {len(lines)}"
    if newest:
        rows = rows.drop_duplicates("e", keep="last")
    return rows.to_dict("records")


def close(got, want, tolerance=1e-9):
    """Equal as null or number, within rounding."""
    missing = lambda x: x is None or (isinstance(x, float) and math.isnan(x))
    if missing(got) or missing(want):
        return missing(got) and missing(want)
    return math.isclose(got, want, rel_tol=tolerance, abs_tol=tolerance)


def nearest_reading(row, t, samples, times):
    """The nearer neighbour, the earlier of two equally near; its number and distance."""
    at = bisect.bisect_right(times, t)
    around = [s for s in samples[max(at - 1, 0) : at + 1] if abs(s["e"] - t) <= AIR_TOLERANCE]
    best = min(around, key=lambda s: (abs(s["e"] - t), s["e"]), default=None)
    seen = (row["air_src"]["seq_lo"], row["air_src"]["dt_ns"], row["air_temperature"])
    want = (best["seq"], best["e"] - t, best["temperature"]) if best else (None, None, None)
    assert all(close(a, b, 0.0) for a, b in zip(seen, want, strict=True)), f"air of {row['row_key']}: {seen}, not {want}"
    return best is not None


def window_of_imu(row, t, samples, times):
    """Count, mean and standard deviation of the second before the picture."""
    held = samples[bisect.bisect_left(times, t + SHAKE_FROM) : bisect.bisect_left(times, t)]
    for field in SHAKE_FIELDS:
        numbers = [s[field] for s in held if not math.isnan(s[field])]
        enough = len(held) >= SHAKE_MIN
        want = {
            "count": len(numbers),
            "mean": math.fsum(numbers) / len(numbers) if enough else None,
            "std": statistics.stdev(numbers) if enough else None,
        }
        for stat, value in want.items():
            got = row[f"shake_{field}_{stat}"]
            assert close(got, value), f"shake_{field}_{stat} of {row['row_key']}: {got}, not {value}"
    return len(held) >= SHAKE_MIN


def between_fixes(row, t, samples, times):
    """Speed by time between the neighbours; position on the line between them."""
    at = bisect.bisect_right(times, t)
    before, after = samples[at - 1] if at else None, samples[at] if at < len(samples) else None
    if before and before["e"] == t:
        after = before
    if not before or not after or after["e"] - before["e"] > GAP_MAX:
        assert all(close(row[name], None) for name in ("pace_sog", "place_lat", "place_lon")), f"fix of {row['row_key']}"
        return False
    gap = after["e"] - before["e"]
    share = (t - before["e"]) / gap if gap else 0.0
    between = lambda field: before[field] + share * (after[field] - before[field])
    assert close(row["pace_sog"], between("sog")), f"pace of {row['row_key']}: {row['pace_sog']}, not {between('sog')}"
    if max(abs(after[field] - before[field]) for field in ("lat", "lon")) > NEAR_DEG:
        return False
    for field in ("lat", "lon"):
        got = row[f"place_{field}"]
        assert abs(got - between(field)) <= CENTIMETRE_DEG, f"{field} of {row['row_key']}: {got}, not {between(field)}"
    return True


def aligned_is_counted_out(tables):
    aligned = frame(tables, "aligned.drive", GOOD)
    final = aligned[~aligned["provisional"]]
    frames = {f"{s['epoch']}/{s['stream']}/{s['seq']}": s["e"] for s in captures(tables, "raw.image", "camera/front", (), False)}
    for what, rule, name, stream, fields, newest in (
        ("air", nearest_reading, "raw.env", "env/roof", ("temperature",), True),
        ("shake", window_of_imu, "raw.imu", "imu", SHAKE_FIELDS, False),
        ("place, pace", between_fixes, "raw.gps_fix", "gps", ("lat", "lon", "sog"), True),
    ):
        samples = captures(tables, name, stream, fields, newest)
        times = [s["e"] for s in samples]
        matched = sum(rule(row, frames[row["row_key"]], samples, times) for row in final.to_dict("records"))
        assert matched > 0, f"{what} was never matched"
        print(f"  {what:<18} {matched} of {len(final)} rows counted out from raw, each equal ({len(aligned) - len(final)} provisional)")


def bad_gateway_is_held_back(tables):
    for name in ("raw.imu", "raw.gps_fix", "raw.image", "raw.env"):
        rows = len(frame(tables, name, BAD, ("device",)))
        assert rows > 0, f"{name}: no row of {BAD}; its captures wait for nobody's verdict"
        print(f"  {name:<18} {rows:>8} rows of {BAD}")
    for name in (name for name in tables if name.startswith("aligned.")):
        published = len(frame(tables, name, BAD, ("device",)))
        assert published == 0, f"{name}: {published} rows of {BAD} are on main"
    verdicts = StaticTable.from_metadata(tables["ops.verdicts"]).scan(row_filter=EqualTo("verdict", "fail")).to_pandas()
    fails = [json.loads(text)["devices"] for text in verdicts[verdicts["gate"] == "demo.gravity"]["evidence"]]
    assert fails and all(devices[BAD]["verdict"] == "fail" for devices in fails), "no verdict of demo.gravity says why"
    print(f"  held back          no aligned row of {BAD} on main; demo.gravity refused {len(fails)} candidates")


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
        lambda: aligned_is_counted_out(tables),
        lambda: bad_gateway_is_held_back(tables),
    ):
        check()
        checks += 1
    print(f"conformance: {checks} passed, 0 failed")


if __name__ == "__main__":
    main()
