"""As-of matches of real recordings: ours beside pandas (our rules), polars (but nearest ties, and repeats forward) and
DuckDB (previous, on unique times). Linear beside numpy, to the last few bits.

    outside.py --folder DIR      (written by the test `outside` of headwater-align)
"""

import argparse

import duckdb
import numpy as np
import pandas as pd
import polars as pl


def pandas_match(left, right, method, tolerance):
    direction = {"previous": "backward", "next": "forward", "nearest": "nearest"}[method]
    # Of equal times the last counts; pandas' forward takes the first.
    right = right.drop_duplicates("t", keep="last")
    joined = pd.merge_asof(left, right, on="t", direction=direction, tolerance=tolerance)
    return joined["seq"].fillna(-1).astype("int64").to_numpy()


def polars_match(left, right, method, tolerance):
    strategy = {"previous": "backward", "next": "forward"}[method]
    frames = [pl.from_pandas(frame).with_columns(pl.col("t").set_sorted()) for frame in (left, right)]
    return frames[0].join_asof(frames[1], on="t", strategy=strategy, tolerance=tolerance)["seq"].fill_null(-1).to_numpy()


def duckdb_match(left, right, tolerance):
    con = duckdb.connect()
    con.register("l", left.assign(place=np.arange(len(left))))
    con.register("r", right)
    query = f"SELECT CASE WHEN l.t - r.t <= {tolerance} THEN r.seq ELSE -1 END AS seq FROM l ASOF LEFT JOIN r ON l.t >= r.t ORDER BY l.place"
    return con.execute(query).df()["seq"].fillna(-1).astype("int64").to_numpy()


def check(case, ours, theirs, who):
    wrong = np.flatnonzero(ours != theirs)
    assert len(wrong) == 0, f"{case}: {who} disagrees on {len(wrong)} rows, first {wrong[0]}: ours {ours[wrong[0]]}, theirs {theirs[wrong[0]]}"


def check_linear(case, rows, left, right, gap):
    right = right.drop_duplicates("t", keep="last")
    times, values = right["t"].to_numpy(), right["v"].to_numpy()
    at = np.searchsorted(times, left["t"].to_numpy(), side="right")
    t, lo, hi = left["t"].to_numpy(), times[np.maximum(at - 1, 0)], times[np.minimum(at, len(times) - 1)]
    exact = (at > 0) & (lo == t)
    there = exact | ((at > 0) & (at < len(times)) & (hi - lo <= gap))
    origin = t[0]
    wanted = np.interp((t - origin).astype(float), (times - origin).astype(float), values)
    ours = rows["value"].to_numpy()
    assert (np.isnan(ours) == ~there).all(), f"{case}: values where there should be none, or none where there should be"
    assert np.allclose(ours[there], wanted[there], rtol=1e-12, atol=1e-12), f"{case}: numpy interpolates otherwise"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    folder = parser.parse_args().folder
    ours = pd.read_csv(f"{folder}/ours.tsv", sep="\t", names=["case", "t", "seq", "value"])
    checks = 0
    for case, rows in ours.groupby("case", sort=False):
        name, method, tolerance = case.split("/")
        tolerance = int(tolerance)
        sides = [pd.read_csv(f"{folder}/{name}.{side}.tsv", sep="\t", names=["t", "v"]) for side in ("left", "right")]
        left, right = sides[0][["t"]], sides[1].assign(seq=np.arange(len(sides[1])))
        assert (rows["t"].to_numpy() == left["t"].to_numpy()).all(), f"{case}: other rows than the spine's"
        seq = rows["seq"].to_numpy()
        if method == "linear":
            check_linear(case, rows, left, right, tolerance)
            checks += 1
            continue
        check(case, seq, pandas_match(left, right, method, tolerance), "pandas")
        checks += 1
        unique = right["t"].is_unique
        if method == "previous" or (method == "next" and unique):
            check(case, seq, polars_match(left, right[["t", "seq"]], method, tolerance), "polars")
            checks += 1
        if method == "previous" and unique:
            check(case, seq, duckdb_match(left, right[["t", "seq"]], tolerance), "DuckDB")
            checks += 1
    assert checks >= 30, f"only {checks} comparisons were made"
    print(f"{checks} comparisons with pandas, polars, DuckDB and numpy agree on {len(ours)} rows")


main()
