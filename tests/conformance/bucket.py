"""Makes a lake in an S3 bucket (moto's) and reads it there with other people's readers."""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request

import polars as pl
from pyiceberg.table import StaticTable

from lake import duck, headwater, locations

COMMITS = 6
ROWS = {"raw.imu": (COMMITS + 1) * 100, "ops.ledger": COMMITS + 1}


@contextlib.contextmanager
def bucket():
    """A server on loopback with one empty bucket; gives its address and ends it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = os.path.join(os.path.dirname(sys.executable), "moto_server")
    server = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            try:
                request = urllib.request.Request(f"http://127.0.0.1:{port}/lake", method="PUT")
                urllib.request.urlopen(request, timeout=10).close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise SystemExit("moto did not answer within a minute")
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def main():
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--program", required=True, help="the demo, which is also `headwater`")
    words.add_argument("--maker", required=True, help="the example make_lake")
    words = words.parse_args()
    place = "s3://lake/fleet"
    with bucket() as host:
        os.environ.update(
            AWS_ENDPOINT_URL=f"http://{host}",
            AWS_ALLOW_HTTP="true",
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_REGION="us-east-1",
        )
        subprocess.run([words.maker, place, str(COMMITS)], check=True, timeout=300, stdout=subprocess.DEVNULL)
        tables = locations(words.program, place)
        assert set(tables) == set(ROWS), tables
        con = duck()
        con.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID 'test', SECRET 'test', ENDPOINT '{host}', URL_STYLE 'path',"
            " USE_SSL false, REGION 'us-east-1')"
        )
        con.execute(headwater(words.program, place, "views").replace("LOAD iceberg;", ""))
        properties = {
            "s3.endpoint": f"http://{host}",
            "s3.access-key-id": "test",
            "s3.secret-access-key": "test",
            "s3.region": "us-east-1",
        }
        for name, rows in ROWS.items():
            table = StaticTable.from_metadata(tables[name], properties)
            found = {
                "duckdb": con.sql(f"SELECT count(*) FROM {name}").fetchone()[0],
                "pyiceberg": table.scan().to_arrow().num_rows,
                "polars": pl.scan_iceberg(table).select(pl.len()).collect().item(),
            }
            assert set(found.values()) == {rows}, (name, rows, found)
            print(f"{name}: {rows} rows in the bucket, by {', '.join(found)}")


if __name__ == "__main__":
    main()
