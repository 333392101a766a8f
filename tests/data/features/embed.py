#!/usr/bin/env python3
"""A column from a program: lists of numbers to small embeddings.

Headwater writes one Arrow IPC stream to standard input, with the recipe's `inputs` as its columns, and reads one from
standard output: one column, one value for every row, in the same order. Print nothing else there; standard error is
free, and its end is shown when the program fails. Every row must be answered from that row alone.

    command = { program = "python3", args = ["{file:script}", "{file:weights}"],
                files = { script = "embed.py", weights = "weights.txt" },
                version = "1", inputs = ["motion_accel_z"], output = "list<float32, 2>" }

Here the model is a matrix in a text file, times the mean and the root mean square of the list. An ONNX model is used
alike: `onnxruntime.InferenceSession(sys.argv[1])`, its file declared under `files`.
"""

import math
import sys

import pyarrow as pa


def features(values):
    """Mean and root mean square; None of nothing."""
    values = [x for x in values or [] if x is not None and not math.isnan(x)]
    if not values:
        return None
    return [sum(values) / len(values), math.sqrt(sum(x * x for x in values) / len(values))]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        weights = [[float(word) for word in line.split()] for line in file if line.strip()]
    with pa.ipc.open_stream(sys.stdin.buffer) as rows:
        lists = rows.read_all().column(0).to_pylist()
    seen = [features(values) for values in lists]
    embedded = [None if f is None else [sum(w * x for w, x in zip(row, f)) for row in weights] for f in seen]
    answer = pa.table({"embedding": pa.array(embedded, pa.list_(pa.float32()))})
    with pa.ipc.new_stream(sys.stdout.buffer, answer.schema) as out:
        out.write_table(answer)


if __name__ == "__main__":
    main()
