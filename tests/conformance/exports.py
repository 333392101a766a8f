"""Opens what `headwater export` made with the tools it is made for: pyarrow, DuckDB, polars and Hugging Face datasets."""

import argparse
import hashlib
import json
import pathlib
import tempfile

import duckdb
import polars
import pyarrow.parquet


def whole(folder):
    """The manifest's digests are those of the files."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for file in manifest["files"]:
        data = (folder / file["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"], file["path"]
    return manifest


def tables(place):
    """Parquet, CSV and JSON lines hold the same rows."""
    parquet = pyarrow.parquet.read_table(place / "raw.imu-parquet" / "2023-11-14.parquet")
    con = duckdb.connect()
    query = "SELECT count(*), sum(seq), min(device), count(note), sum(n) FROM read_{}('{}')"
    counts = [
        con.sql(query.format("parquet", place / "raw.imu-parquet" / "*.parquet")).fetchone(),
        con.sql(query.format("csv_auto", place / "raw.imu-csv" / "*.csv")).fetchone(),
        con.sql(query.format("json_auto", place / "raw.imu-jsonl" / "*.jsonl")).fetchone(),
    ]
    assert counts[0] == counts[1] == counts[2] and counts[0][0] == parquet.num_rows == 1000, counts
    assert polars.read_parquet(place / "raw.imu-parquet" / "*.parquet").height == 1000
    group = pyarrow.parquet.ParquetFile(place / "raw.imu-parquet" / "2023-11-14.parquet").metadata.row_group(0)
    assert group.column(0).compression == "ZSTD", group.column(0).compression
    print("  tables: 1000 rows, the same in Parquet, CSV and JSON lines")


def pictures(place):
    """Each row of metadata.jsonl names a file of its digest."""
    folder = place / "raw.image-images"
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        assert hashlib.sha256((folder / row["file_name"]).read_bytes()).hexdigest() == row["hash"]
    print(f"  pictures: {len(rows)} files, each of the digest its row says")
    return {row["hash"] for row in rows}


def hugging_face(place, hashes):
    """`load_dataset` opens the folder, knows the picture, and gives its bytes."""
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        folder = str(place / "raw.image-huggingface")
        rows = datasets.load_dataset(folder, split="train", cache_dir=cache)
        assert isinstance(rows.features["image"], datasets.Image), rows.features["image"]
        raw = rows.cast_column("image", datasets.Image(decode=False))
        found = {hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in raw}
        assert found == hashes == set(raw["hash"]), (len(found), len(hashes))
        aligned = datasets.load_dataset(str(place / "aligned.drive-huggingface"), split="train", cache_dir=cache)
        assert len(aligned) == len(rows) and aligned[0]["motion_src"]["stream"] == "imu", aligned[0]
        stream = datasets.load_dataset(folder, split="train", streaming=True, cache_dir=cache)
        first = next(iter(stream.cast_column("image", datasets.Image(decode=False))))
        assert first["image"]["bytes"], first
    print(f"  datasets {datasets.__version__}: {len(rows)} rows with their pictures, whole and streamed")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exports", required=True, type=pathlib.Path)
    place = parser.parse_args().exports
    folders = [folder for folder in place.iterdir() if folder.is_dir()]
    for folder in folders:
        whole(folder)
    print(f"  {len(folders)} exports are whole")
    tables(place)
    hugging_face(place, pictures(place))
    print("exports: all passed")


if __name__ == "__main__":
    main()
