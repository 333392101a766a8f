"""Reads a lake whose table grew (collector/tests/it/evolution.rs wrote it) with pyiceberg, DuckDB and polars: old rows are
null or promoted, converted values are in the table's unit, and every older commit still reads as it was."""

import argparse
import json

import polars as pl
from pyiceberg.table import StaticTable

from lake import duck, headwater, locations

COLUMNS = ["device", "seq", "t", "n", "rh"]
# As written: float in Cel and short; then with rh; then a long n and no t; then kelvin.
ROWS = [
    ("pi-1", 0, 20.5, 7, None),
    ("pi-1", 1, -0.5, -3, None),
    ("pi-1", 2, 21.5, 8, 40.0),
    ("pi-2", 0, None, 1 << 40, None),
    ("pi-3", 0, 20.1, None, None),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--program", required=True)
    args = parser.parse_args()
    con = duck()

    location = locations(args.program, args.lake)["raw.env"]
    static = StaticTable.from_metadata(location)
    types = {field.name: str(field.field_type) for field in static.schema().fields}
    assert (types["t"], types["n"], types["rh"]) == ("double", "long", "float"), types
    docs = {field.name: field.doc for field in static.schema().fields}
    assert (docs["t"], docs["rh"]) == ("unit: Cel", "unit: %"), docs
    by_pyiceberg = static.scan(selected_fields=tuple(COLUMNS)).to_arrow().select(COLUMNS).to_pylist()
    by_pyiceberg = sorted((tuple(row.values()) for row in by_pyiceberg), key=lambda row: row[:2])
    sql = f"SELECT {', '.join(COLUMNS)} FROM iceberg_scan('{location}') ORDER BY device, seq"
    by_polars = pl.scan_iceberg(static).select(COLUMNS).sort("device", "seq").collect().rows()
    for name, found in (("pyiceberg", by_pyiceberg), ("DuckDB", con.execute(sql).fetchall()), ("polars", by_polars)):
        assert found == ROWS, f"{name}: {found}"
        print(f"  {name:<10} reads all {len(ROWS)} rows of four declarations in one table")

    commits = json.loads(headwater(args.program, args.lake, "log", "--json"))
    seen = set()
    for commit in reversed(commits):
        at = locations(args.program, args.lake, commit["id"]).get("raw.env")
        if at is not None:
            columns = [row[0] for row in con.execute(f"DESCRIBE SELECT * FROM iceberg_scan('{at}')").fetchall()]
            rows = con.execute(f"SELECT count(*) FROM iceberg_scan('{at}')").fetchone()[0]
            assert ("rh" in columns) == (rows > 2), f"{commit['id']}: {rows} rows, {columns}"
            seen.add(rows)
    assert seen == {2, 3, 4, 5}, seen
    print("  every older commit reads as it was: the column came with its first row")


main()
