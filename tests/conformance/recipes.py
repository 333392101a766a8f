"""Recipes written as SQL, run by DuckDB over random captures, against the rules counted out one by one.

Two gateways, one of them with three boots and another installation: jitter, duplicates, nulls, stamps out of order, wall
clocks that overlap between boots. Each case of tests/conformance/recipes is asked for in each dialect; those of other engines
are translated by sqlglot, which has to understand them first. Every value, source, distance, uncertainty and flag
must be the one that the plain rules below give, sample by sample: floats bit by bit, sums of windows to 12 digits.

Then DuckDB runs the queries of `headwater recipe sql` over a lake that a collector wrote (--lake), and its rows are held
against those of the collector's own aligned tables.
"""

import argparse
import json
import math
import pathlib
import random
import statistics
import tomllib

import duckdb
import sqlglot
from lake import duck

NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}
GRADES = ["ordering_only", "estimated", "guaranteed"]
STREAMS = {"imu": ("raw.imu", ["accel_x", "end"]), "camera/front": ("raw.image", ["hash", "width"])}
START = 1_770_000_000_000_000_000
LOOK = 10**10
# Declarations of imu, and what their stamps were floored to, as the queries know them.
UNITS = {77: 1_000_000, 78: 1}
# What the query's head says that flags leave out, and rows near the end that more samples may yet change.
UNSAID = 8 | 64 | 512 | 1024
OPEN_S = 1.0


def ns(text):
    number = text.rstrip("nusmi")
    return round(float(number) * NS[text[len(number) :]])


def captures(seed):
    """Rows of the raw tables as dictionaries, by stream."""
    random.seed(seed)
    out = {name: [] for name in STREAMS}
    boots = [("pi-1", "00000000000000aa", 0), ("pi-1", "00000000000000aa", 1), ("pi-1", "00000000000000aa", 2)]
    boots += [("pi-1", "00000000000000bb", 0), ("pi-2", "00000000000000cc", 0)]
    seqs = {}
    for number, (device, epoch, boot) in enumerate(boots):
        utc = START + number * 900_000_000 - boot * 30_000_000
        for stream, period, rows in (("imu", 10_000_000, 80), ("camera/front", 33_000_000, 24)):
            t = 5_000_000_000 * (boot + 1)
            for _ in range(rows):
                t += random.choice([period, period, period + 900_001, period * 4, 0, -period // 3])
                seq = seqs.setdefault((epoch, stream), 0)
                seqs[(epoch, stream)] += random.choice([1, 1, 1, 2])
                lo = random.choice([0, 0, 1, 3])
                hi = lo + random.choice([0, 1, 2, 5])
                event = t - (lo + hi) // 2
                row = {"device": device, "stream": stream, "epoch": epoch, "seq": seq, "boot_ordinal": boot}
                row |= {"boot_ns": t, "lat_lo_ns": lo, "lat_hi_ns": hi, "domain": random.choice(["boot"] * 19 + ["device:1"])}
                row |= {"stamp_kind": random.choice(["exposure_mid"] * 9 + ["arrival"]), "ts_ns": utc + event}
                row |= {"ts_err_ns": random.choice([1_000, 20_000_000, 50_000_000]), "grade": random.choice(GRADES)}
                row |= {"accel_x": random.choice([None, 1.0, 0.25, random.gauss(0, 1)]), "end": random.choice([None, random.randrange(100)])}
                row |= {"hash": f"{seq:064x}", "width": random.randrange(640)}
                row |= {"schema_fp": random.choice(list(UNITS)) if stream == "imu" else 1}
                out[stream].append(row)
    return out


def load(con, raw):
    con.execute("CREATE SCHEMA IF NOT EXISTS raw")
    for stream, (table, fields) in STREAMS.items():
        types = {"hash": "VARCHAR", "width": "INTEGER", "accel_x": "DOUBLE", "end": "INTEGER"}
        own = ", ".join(f'"{field}" {types[field]}' for field in fields)
        con.execute(
            f"CREATE OR REPLACE TABLE {table} (device VARCHAR, stream VARCHAR, epoch VARCHAR, seq BIGINT, boot_ordinal BIGINT,"
            " boot_ns BIGINT, lat_lo_ns BIGINT, lat_hi_ns BIGINT, domain VARCHAR, stamp_kind VARCHAR, ts_ns BIGINT,"
            f" ts_err_ns BIGINT, grade VARCHAR, schema_fp BIGINT, ts TIMESTAMPTZ, {own})"
        )
        names = ["device", "stream", "epoch", "seq", "boot_ordinal", "boot_ns", "lat_lo_ns", "lat_hi_ns", "domain"]
        names += ["stamp_kind", "ts_ns", "ts_err_ns", "grade", "schema_fp"]
        marks = ", ".join("?" for _ in names)
        values = [[row[n] for n in names] + [row["ts_ns"] // 1000] + [row[f] for f in fields] for row in raw[stream]]
        random.shuffle(values)
        ts = "make_timestamp(?) AT TIME ZONE 'UTC'"
        con.executemany(f"INSERT INTO {table} VALUES ({marks}, {ts}, {', '.join('?' for _ in fields)})", values)


def samples(raw, stream, offset=0):
    """Samples with their instants, those of devices' own clocks passed over."""
    out = []
    for row in raw[stream]:
        if row["domain"] == "boot":
            half = (row["lat_hi_ns"] - row["lat_lo_ns"] + 1) // 2 + UNITS.get(row["schema_fp"], 1) - 1
            event = row["boot_ns"] - (row["lat_lo_ns"] + row["lat_hi_ns"]) // 2 + offset
            out.append(row | {"e": event, "half": half, "ts_ns": row["ts_ns"] + offset})
    return out


class Rules:
    """The rules of a recipe, each as it is said."""

    def __init__(self, recipe, raw):
        self.recipe, self.raw = recipe, raw
        self.grid = "grid" in recipe["spine"]

    def distance(self, row, sample):
        if not self.grid and (row["epoch"], row["boot_ordinal"]) == (sample["epoch"], sample["boot_ordinal"]):
            dt = sample["e"] - row["e"]
            return dt, row["half"] + sample["half"] + -(-abs(dt) // 20_000)
        return sample["ts_ns"] - row["ts_ns"], row["ts_err_ns"] + sample["ts_err_ns"]

    def place(self, x):
        return x["ts_ns"] if self.grid else (x["boot_ordinal"], x["e"])

    def entity(self, row, some):
        own = ("device",) if self.grid else ("device", "epoch")
        return [s for s in some if all(s[key] == row[key] for key in own)]

    def spine(self):
        spine = self.recipe["spine"]
        worst = GRADES.index(spine.get("min_grade", "estimated"))
        good = lambda row: GRADES.index(row["grade"]) >= worst
        if self.grid:
            return self.points(spine["grid"], good)
        stream = spine.get("stream") or spine["event"]["stream"]
        rows = [dict(row, row_key=f"{row['epoch']}/{stream}/{row['seq']}") for row in samples(self.raw, stream)]
        if "event" in spine:
            rows.sort(key=lambda row: (row["device"], row["epoch"], row["boot_ordinal"], row["e"], row["seq"]))
            met, was = {}, []
            for row in rows:
                now = row["accel_x"] is not None and row["accel_x"] > 0.25
                was.append(now and not met.get(row["epoch"], False))
                met[row["epoch"]] = now
            rows = [row for row, rises in zip(rows, was, strict=True) if rises]
        limit = ns(spine.get("max_err", "100000s"))
        rows = [row for row in rows if "at" not in spine or row["stamp_kind"] == spine["at"]]
        return [row for row in rows if good(row) and row["ts_err_ns"] <= limit]

    def points(self, grid, good):
        period = ns(grid["period"])
        origin = int(grid["epoch"].timestamp()) * 10**9 + ns(grid["phase"])
        rows = []
        for device in ("pi-1", "pi-2"):
            streams = {column["stream"] for column in self.recipe["column"]}
            seen = [s["ts_ns"] for name in streams for s in samples(self.raw, name) if good(s) and s["device"] == device]
            for n in range(-((origin - min(seen)) // period), (max(seen) - origin) // period + 1):
                row = {"device": device, "ts_ns": origin + n * period, "ts_err_ns": 0, "grade": "guaranteed"}
                rows.append(row | {"row_key": f"grid/{n}", "epoch": None, "boot_ordinal": None})
        return rows

    def candidates(self, column):
        some = samples(self.raw, column["stream"], ns(column.get("offset", "0s")))
        if column.get("null_policy", "skip") == "skip":
            fields = ["hash" if field == "image" else field for field in column["select"]]
            some = [s for s in some if any(s[field] is not None for field in fields)]
        return some

    def value(self, column, field, sample):
        value = sample["hash" if field == "image" else field]
        if value is None:
            return None
        if column.get("unit", {}).get(field) == "[g]":
            return float(value) * 20_000.0 / 196_133.0
        return float(value) if column["method"] == "linear" else value

    def match(self, column, row):
        """Sample or samples, share of the later, n, flag."""
        last = column.get("dup", "last") == "last"
        order = sorted(self.entity(row, self.candidates(column)), key=lambda s: (self.place(s), s["epoch"], s["seq"] if last else -s["seq"]))
        before = [s for s in order if self.place(s) <= self.place(row)]
        after = [s for s in order if self.place(s) > self.place(row)]
        prev = before[-1] if before else None
        # Of equal times the one that counts: sorted to stand last.
        later = [s for s in after if self.place(s) == self.place(after[0])]
        next_ = later[-1] if later else None
        dt = lambda s: self.distance(row, s)[0]
        tolerance = ns(column.get("tolerance", "0s"))
        one = lambda s: ((s, s, 0.0, 1, 0) if abs(dt(s)) <= tolerance else (None, None, 0.0, 0, 2))
        method = column["method"]
        if method == "previous":
            return one(prev) if prev else (None, None, 0.0, 0, 1)
        if method == "next" and prev and dt(prev) == 0:
            return one(prev)
        if next_ and method != "linear" and dt(next_) > tolerance + LOOK:
            next_ = None
        if method == "next":
            return one(next_) if next_ else (None, None, 0.0, 0, 1)
        if method == "nearest":
            if not prev and not next_:
                return None, None, 0.0, 0, 1
            if not prev or not next_:
                return one(prev or next_)
            if column.get("tie") == "next":
                return one(prev if abs(dt(prev)) < abs(dt(next_)) else next_)
            return one(prev if abs(dt(prev)) <= abs(dt(next_)) else next_)
        if not prev:
            return None, None, 0.0, 0, 1
        if dt(prev) == 0:
            return prev, prev, 0.0, 1, 0
        sides = next_ and dt(prev) < 0 and dt(next_) >= 0 and prev["epoch"] == next_["epoch"]
        if not sides or dt(next_) - dt(prev) > ns(column["max_gap"]):
            return None, None, 0.0, 0, 4
        return prev, next_, abs(dt(prev)) / (dt(next_) - dt(prev)), 2, 0

    def column(self, column, row):
        if column["method"] == "window":
            return self.window(column, row)
        lo, hi, weight, n, flag = self.match(column, row)
        fallback = column.get("fallback", "null")
        constants = None
        if lo is None and isinstance(fallback, dict) and "locf" in fallback:
            order = sorted(self.entity(row, self.candidates(column)), key=lambda s: (self.place(s), s["epoch"], s["seq"]))
            before = [s for s in order if self.place(s) <= self.place(row)]
            age = -self.distance(row, before[-1])[0] if before else -1
            if 0 <= age <= ns(fallback["locf"]):
                lo = hi = before[-1]
                n, flag = 1, flag + 16
        elif lo is None and isinstance(fallback, dict):
            flag, constants = flag + 16, fallback["const"]
        values = []
        for field in column["select"]:
            if lo is None:
                values.append(constants.get(field) if constants else None)
                continue
            a, b = self.value(column, field, lo), self.value(column, field, hi)
            if lo is hi:
                values.append(a)
            else:
                values.append(None if a is None or b is None else a + weight * (b - a))
        return values, self.source(column, row, lo, hi, n, flag)

    def source(self, column, row, lo, hi, n, flag):
        if lo is None:
            return {"stream": None, "epoch": None, "seq_lo": None, "seq_hi": None, "dt_ns": None, "err_ns": None, "n": n, "flag": flag}
        line = lambda s: (s["epoch"], s["boot_ordinal"])
        if line(lo) != line(hi) or (not self.grid and line(lo) != line(row)):
            flag += 128
        if "ordering_only" in (lo["grade"], hi["grade"]):
            flag += 256
        a, b = self.distance(row, lo), self.distance(row, hi)
        dt, err = a if abs(a[0]) <= abs(b[0]) else b
        epoch = (hi if column["method"] == "window" else lo)["epoch"]
        return {"stream": column["stream"], "epoch": epoch, "seq_lo": lo["seq"], "seq_hi": hi["seq"], "dt_ns": dt, "err_ns": err, "n": n, "flag": flag}

    def window(self, column, row):
        start, end = ns(column["window"]["from"]), ns(column["window"]["to"])
        some = self.entity(row, self.candidates(column))
        if not self.grid:
            some = [s for s in some if s["boot_ordinal"] == row["boot_ordinal"]]
        held = [s for s in some if start <= self.distance(row, s)[0] < end]
        held.sort(key=lambda s: (s["ts_ns"] if self.grid else s["e"], s["seq"]))
        enough = len(held) >= column.get("min_count", 1)
        values = []
        for field in column["select"]:
            numbers = [s[field] for s in held if s[field] is not None]
            for stat in column["stats"]:
                values.append(len(numbers) if stat == "count" else self.stat(stat, numbers) if enough else None)
        if not enough:
            return values, self.source(column, row, None, None, 0, 1)
        return values, self.source(column, row, held[0], held[-1], len(held), 0)

    def stat(self, stat, numbers):
        if not numbers or (stat == "std" and len(numbers) < 2):
            return None
        ends = {"first": numbers[0], "last": numbers[-1], "min": min(numbers), "max": max(numbers)}
        if stat in ends:
            return ends[stat]
        total = math.fsum(numbers)
        return {"sum": lambda: total, "mean": lambda: total / len(numbers), "std": lambda: statistics.stdev(numbers)}[stat]()

    def rows(self):
        """Row key to values and sources, columns in order."""
        out = {}
        for row in self.spine():
            columns = [self.column(column, row) for column in self.recipe["column"]]
            dropped = [c.get("fallback") == "drop" and source["n"] == 0 for c, (_, source) in zip(self.recipe["column"], columns, strict=True)]
            if any(dropped):
                continue
            own = [row["hash" if f == "image" else f] for f in self.recipe["spine"].get("select", [])]
            line = [row["device"], row["ts_ns"], row["ts_err_ns"], row["grade"], row["row_key"], False, *own]
            for values, source in columns:
                line += [*values, source]
            out[(row["device"], row["row_key"])] = line
        return out


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return a == b or math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12)
    return a == b


def exact(column):
    return column["method"] != "window"


def check(recipe, sql, con, expect):
    cursor = con.execute(sql)
    names = [name for name, *_ in cursor.description]
    found = cursor.fetchall()
    assert [n for n in names[:7]] == ["device", "ts", "ts_ns", "ts_err_ns", "grade", "row_key", "provisional"], names
    assert len(found) == len(expect), f"{len(found)} rows, the rules give {len(expect)}"
    order = [names.index(name) for name in recipe.get("output", {}).get("sort", ["device", "ts_ns", "row_key"])]
    assert [[row[i] for i in order] for row in found] == sorted([row[i] for i in order] for row in found), "not in order"
    windows = not all(exact(column) for column in recipe["column"])
    matched = 0
    for row in found:
        wanted = expect[(row[0], row[5])]
        line = [row[0], *row[2:]]
        assert row[1].timestamp() == row[2] // 1000 / 1e6, f"ts of {row[5]}: {row[1]}"
        assert len(line) == len(wanted), f"{names}: {wanted}"
        for name, got, want in zip([names[0], *names[2:]], line, wanted, strict=True):
            fits = same(got, want) if windows else got == want
            assert fits, f"{name} of {row[5]}: {got}, the rules give {want}"
            matched += isinstance(want, dict) and want["n"] > 0
    return len(found), matched


def translated(sql, dialect):
    """What the other engine would do, in DuckDB's words."""
    tree = sqlglot.parse_one(sql, read=dialect)
    if dialect == "trino":
        # There / of two integers is a whole number; the translator does not know the types of columns.
        for quotient in list(tree.find_all(sqlglot.exp.Div)):
            of_doubles = [*quotient.find_all(sqlglot.exp.DataType), *(n for n in quotient.find_all(sqlglot.exp.Literal) if "E" in n.name)]
            if not of_doubles:
                quotient.replace(sqlglot.exp.IntDiv(this=quotient.this, expression=quotient.expression))
    return tree.sql(dialect="duckdb")


def as_rows(con, sql):
    """Rows by device and key, as dictionaries, provisional ones left out."""
    cursor = con.execute(sql)
    names = [name for name, *_ in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return names, {(row["device"], row["row_key"]): row for row in rows if not row["provisional"]}


def alike(name, got, want):
    """Of a source all but the flags that the query does not know; NaN is NaN; sums of windows to 12 digits."""
    if isinstance(want, dict):
        masked = lambda of: {key: value & ~UNSAID if key == "flag" else value for key, value in of.items()}
        return masked(got) == masked(want)
    if isinstance(got, float) and isinstance(want, float) and math.isnan(want):
        return math.isnan(got)
    if name.endswith(("_mean", "_std", "_sum")):
        return same(got, want)
    return got == want


def over_a_lake(folder):
    """The queries over the collector's lake, against the collector's rows."""
    told = json.loads((folder / "lake.json").read_text())
    con = duck()
    con.execute("SET TimeZone = 'UTC'")
    con.execute("CREATE SCHEMA raw")
    for table, location in told["tables"].items():
        if table.startswith("raw."):
            con.execute(f"CREATE VIEW {table} AS SELECT * FROM iceberg_scan('{location}')")
    for name in told["recipes"]:
        names, found = as_rows(con, (folder / f"{name}.sql").read_text())
        columns, wanted = as_rows(con, f"SELECT * FROM iceberg_scan('{told['tables'][f'aligned.{name}']}')")
        assert names == columns, f"{name}: {names}, the table has {columns}"
        assert len(wanted) >= 70, f"{name}: the collector made {len(wanted)} rows"
        for key, row in wanted.items():
            assert key in found, f"{name}: the query has no row {key}"
            for column in columns:
                got, want = found[key][column], row[column]
                assert alike(column, got, want), f"{name}: {column} of {key}: {got}, the collector made {want}"
        last = {}
        for (device, _), row in wanted.items():
            last[device] = max(last.get(device, 0), row["ts_ns"])
        for key in found.keys() - wanted.keys():
            late = found[key]["ts_ns"] - last.get(key[0], 0)
            first = min(row["ts_ns"] for (device, _), row in wanted.items() if device == key[0])
            assert late > -OPEN_S * 1e9 or found[key]["ts_ns"] < first, f"{name}: the collector has no row {key}"
        extra = len(found) - len(wanted)
        print(f"  {name:<10} {len(wanted):>5} rows of a lake, in DuckDB what the collector made; {extra} not final there")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", required=True, type=pathlib.Path, help="NAME.DIALECT.sql, from `tests/run recipes`")
    parser.add_argument("--only", default="*", help="one case")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lake", type=pathlib.Path, help="a lake and its queries, from `tests/run recipes`")
    args = parser.parse_args()
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    # Functions of the other engines that the translator leaves as they are.
    con.execute("CREATE MACRO timestamp_micros(us) AS make_timestamp(us) AT TIME ZONE 'UTC'")
    con.execute("CREATE MACRO from_unixtime_nanos(ns) AS make_timestamp(ns // 1000) AT TIME ZONE 'UTC'")
    checked = 0
    for path in sorted((pathlib.Path(__file__).parent / "recipes").glob(f"{args.only}.toml")):
        recipe = tomllib.loads(path.read_text())
        for seed in range(args.seeds):
            raw = captures(seed)
            load(con, raw)
            expect = Rules(recipe, raw).rows()
            for dialect in ("duckdb", "spark", "trino"):
                sql = (args.queries / f"{recipe['name']}.{dialect}.sql").read_text()
                if dialect != "duckdb":
                    sql = translated(sql, dialect)
                try:
                    rows, matched = check(recipe, sql, con, expect)
                except Exception as error:
                    raise SystemExit(f"{recipe['name']}, {dialect}, seed {seed}: {error}\n{sql if isinstance(error, duckdb.Error) else ''}")
                assert matched > 0, f"{recipe['name']}: nothing was matched"
                checked += 1
        print(f"  {recipe['name']:<10} {rows:>5} rows, {matched} values matched, in every dialect what the rules give")
    assert checked >= 15 or args.only != "*", "cases are missing"
    if args.lake:
        over_a_lake(args.lake)


if __name__ == "__main__":
    main()
