"""As-of joins of other engines: one process an engine and case; only joining and writing are timed. Prints one line of JSON.

    join.py polars|polars_lazy|pandas|duckdb FOLDER one_key|keys memory|ipc|parquet FILE THREADS
"""

import json
import os
import resource
import sys

TOLERANCE_NS = 500_000_000


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3


def names(folder):
    return [f"{folder}/{name}.parquet" for name in ("left", "right0", "right1", "right2")]


def polars(folder, keyed, output, file):
    import polars as pl

    columns = ["t", "v", "k"] if keyed else ["t", "v"]
    left, *rights = [pl.read_parquet(path, columns=columns).with_columns(pl.col("t").set_sorted()) for path in names(folder)]
    began = cpu()
    for i, right in enumerate(rights):
        options = {"by": "k", "check_sortedness": False} if keyed else {}
        right = right.rename({"v": f"r{i}_v"})
        left = left.join_asof(right, on="t", strategy="backward", tolerance=TOLERANCE_NS, **options)
    if output == "ipc":
        left.write_ipc(file)
    elif output == "parquet":
        left.write_parquet(file, compression="zstd", compression_level=3, row_group_size=1 << 17)
    spent = cpu() - began
    return spent, [left[f"r{i}_v"] for i in range(3)]


def polars_lazy(folder, keyed, output, file):
    """The streaming engine from file to file: reading is timed too, since it cannot be told apart."""
    import polars as pl

    columns = ["t", "v", "k"] if keyed else ["t", "v"]
    left, *rights = [pl.scan_parquet(path).select(columns).set_sorted("t") for path in names(folder)]
    began = cpu()
    for i, right in enumerate(rights):
        options = {"by": "k", "check_sortedness": False} if keyed else {}
        right = right.rename({"v": f"r{i}_v"})
        left = left.join_asof(right, on="t", strategy="backward", tolerance=TOLERANCE_NS, **options)
    if output == "ipc":
        left.sink_ipc(file, engine="streaming")
    else:
        left.sink_parquet(file, compression="zstd", compression_level=3, row_group_size=1 << 17, engine="streaming")
    spent, peak = cpu() - began, peak_mb()
    read = pl.scan_ipc(file) if output == "ipc" else pl.scan_parquet(file)
    frame = read.select([f"r{i}_v" for i in range(3)]).collect()
    return spent, [frame[f"r{i}_v"] for i in range(3)], peak


def pandas(folder, keyed, output, file):
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["t", "v", "k"] if keyed else ["t", "v"]
    left, *rights = [pd.read_parquet(path, columns=columns) for path in names(folder)]
    began = cpu()
    for i, right in enumerate(rights):
        options = {"by": "k"} if keyed else {}
        right = right.rename(columns={"v": f"r{i}_v"})
        left = pd.merge_asof(left, right, on="t", direction="backward", tolerance=TOLERANCE_NS, **options)
    if output != "memory":
        table = pa.Table.from_pandas(left, preserve_index=False)
        if output == "ipc":
            with pa.OSFile(file, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        else:
            pq.write_table(table, file, compression="zstd", compression_level=3, row_group_size=1 << 17)
    return cpu() - began, [left[f"r{i}_v"] for i in range(3)]


def duckdb(folder, keyed, output, file, threads):
    import duckdb

    con = duckdb.connect()
    con.execute(f"SET threads = {threads}")
    con.execute("SET preserve_insertion_order = false")
    for i, path in enumerate(names(folder)):
        con.execute(f"CREATE TABLE s{i} AS SELECT * FROM '{path}'")
    key = " AND l.k = r{0}.k" if keyed else ""
    joins = " ".join(f"ASOF LEFT JOIN s{i + 1} r{i} ON l.t >= r{i}.t{key.format(i)}" for i in range(3))
    values = ", ".join(f"CASE WHEN l.t - r{i}.t <= {TOLERANCE_NS} THEN r{i}.v END AS r{i}_v" for i in range(3))
    query = f"SELECT l.t, l.v, {values} FROM s0 l {joins}"
    began = cpu()
    if output == "parquet":
        con.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3)")
    elif output == "ipc":
        import pyarrow as pa

        reader = con.execute(query).to_arrow_reader(1 << 17)
        with pa.OSFile(file, "wb") as sink, pa.ipc.new_file(sink, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
    else:
        con.execute(f"CREATE TABLE out AS {query}")
    spent, peak = cpu() - began, peak_mb()
    source = "out"
    if output == "parquet":
        source = f"'{file}'"
    elif output == "ipc":
        import pyarrow as pa

        joined = pa.ipc.open_file(file).read_all()
        source = "joined"
    row = con.execute(f"SELECT count(*), {', '.join(f'count(r{i}_v), sum(r{i}_v)' for i in range(3))} FROM {source}").fetchone()
    return spent, (row[0], list(row[1::2]), list(row[2::2])), peak


def main():
    engine, folder, keys, output, file, threads = sys.argv[1:]
    os.environ["POLARS_MAX_THREADS"] = threads
    keyed = keys == "keys"
    options = [threads] if engine == "duckdb" else []
    spent, joined, *peak = globals()[engine](folder, keyed, output, file, *options)
    peak = peak[0] if peak else peak_mb()
    if engine == "duckdb":
        rows, counts, sums = joined
    else:
        rows = len(joined[0])
        counts = [rows - int(column.isna().sum() if engine == "pandas" else column.null_count()) for column in joined]
        sums = [float(column.sum()) for column in joined]
    print(json.dumps({"cpu_s": spent, "peak_mb": peak, "rows": rows, "counts": counts, "sums": sums}))


main()
