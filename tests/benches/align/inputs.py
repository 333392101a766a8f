"""Inputs of the as-of joins as Parquet, once: numpy `default_rng(7)`, drawn in the order written down in time-align's anchors.

Left every 10 ms ± 2 ms; rights every 9.7 ms, 100 ms, 1 s ± a fifth; then values of each right, then of left; then keys of
left and of each right, below 100.
"""

import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PERIODS_NS = (9_700_000, 100_000_000, 1_000_000_000)


def stamps(rng, n, period, jitter):
    t = np.arange(n, dtype=np.int64) * period + rng.integers(-jitter, jitter, n, dtype=np.int64, endpoint=True)
    return np.sort(t)


def main():
    folder, n = sys.argv[1], int(sys.argv[2])
    rng = np.random.default_rng(7)
    left = stamps(rng, n, 10_000_000, 2_000_000)
    span = n * 10_000_000
    rights = [stamps(rng, span // p, p, p // 5) for p in PERIODS_NS]
    values = [rng.standard_normal(len(t)) for t in rights]
    left_values = rng.standard_normal(n)
    keys = [rng.integers(0, 100, len(t), dtype=np.int32) for t in [left, *rights]]
    os.makedirs(folder, exist_ok=True)
    tables = [("left", left, left_values, keys[0])]
    tables += [(f"right{i}", t, v, k) for i, (t, v, k) in enumerate(zip(rights, values, keys[1:]))]
    for name, t, v, k in tables:
        table = pa.table({"t": t, "v": v, "k": k})
        # Plain and uncompressed: what is measured is the join.
        pq.write_table(table, f"{folder}/{name}.parquet", compression="none", use_dictionary=False, row_group_size=1 << 17)


main()
print("{}")
