"""Lets other people's engines read and write a lake over its Iceberg REST catalog, and checks what each sees.

The lake is one that `make_lake` made: raw.imu and ops.ledger on `main`, branches `exp/a` and `exp/b` of it, the tag `v1`.
The server is `headwater serve`, on loopback, ended by its process id.

1. Without tokens: pyiceberg and DuckDB read branch, tag and pinned commit; both append, overwrite, delete and change
   the schema on `exp/a`; DuckDB also updates, merges, travels in time, commits two tables at once and compares two
   branches in one query; what is the lake's is refused with words that say what to do.
2. polars, pandas and our own `scan` see the same rows as DuckDB after all that, position deletes included.
3. Two clients write one branch at once: every row that was acknowledged is there, once.
4. With tokens: strangers, readers and writers get what they are for; each change has its line in the audit log.

With --bench it measures DuckDB over the catalog beside DuckDB over the same rows as plain Parquet, and prints JSON.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

import polars as pl
import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import CommitFailedException, ForbiddenError, UnauthorizedError
from pyiceberg.expressions import GreaterThanOrEqual, LessThan
from pyiceberg.types import DoubleType, LongType

from lake import duck

# How long the server may take to start, s.
START_S = 30
# Appends of each of two clients that race.
RACE_APPENDS = 8


def words(program):
    """How the `headwater` command is called: by its own binary, or as a role of the demo's."""
    return [program] if pathlib.Path(program).name == "headwater" else [program, "--role", "headwater"]


class Server:
    """`headwater serve` on a port of its choice."""

    def __init__(self, program, lake, *options):
        command = [*words(program), "--lake", str(lake), "serve", "--listen", "127.0.0.1:0", *options]
        self.log = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        guard = threading.Timer(START_S, self.process.kill)
        guard.start()
        line = self.process.stdout.readline()
        guard.cancel()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if not found:
            self.log.seek(0)
            raise SystemExit(f"{' '.join(command)} did not start: {line}{self.log.read()}")
        self.url = found.group()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        code = self.process.wait(timeout=30)
        assert code == 0, f"headwater serve ended with {code}"

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read().decode()


def refused(kind, word, act):
    """`act` fails with an exception of `kind` whose text has `word`."""
    try:
        act()
    except kind as error:
        assert word in str(error), f"{word!r} is not in: {error}"
        return
    raise AssertionError(f"it was taken: {word}")


def attached(url, *refs, options="AUTHORIZATION_TYPE 'none'"):
    """DuckDB with each ref attached under the last part of its name."""
    con = duck()
    # Tables of a lake declare a sort order; DuckDB writes files without it, which is legal, once it is told to.
    con.execute("SET unsafe_iceberg_ignore_sort_order = true")
    for ref, name in refs:
        con.execute(f"ATTACH '{ref}' AS {name} (TYPE iceberg, ENDPOINT '{url}', {options})")
    return con


def one(con, sql):
    return con.execute(sql).fetchone()[0]


def pyiceberg_reads_and_writes(url):
    catalog = lambda ref: RestCatalog(ref, uri=url, warehouse=ref)
    main, branch = catalog("main"), catalog("exp/a")
    assert main.list_namespaces() == [("ops",), ("raw",)] and main.list_tables("raw") == [("raw", "imu")]
    count = lambda catalog: catalog.load_table("raw.imu").scan().to_arrow().num_rows
    rows = count(main)
    assert count(catalog("v1")) == rows and count(catalog("main~3")) < rows

    table = branch.load_table("raw.imu")
    ten = table.scan(limit=10).to_arrow()
    table.append(ten)
    assert count(branch) == rows + 10 and count(main) == rows
    table.delete(LessThan("seq", 20))
    left = count(branch)
    low = main.load_table("raw.imu").scan(row_filter=LessThan("seq", 20)).to_arrow()
    repeated = sum(1 for seq in ten["seq"].to_pylist() if seq >= 20)
    assert left == rows - low.num_rows + repeated, (left, rows, low.num_rows, repeated)
    table.overwrite(low, overwrite_filter=LessThan("seq", 40))
    kept = table.scan().to_arrow()
    assert sorted(seq for seq in kept["seq"].to_pylist() if seq < 40) == sorted(low["seq"].to_pylist())
    with table.update_schema() as update:
        update.add_column("quality", LongType(), doc="1 is best")
        update.update_column("ax", DoubleType())
    schema = branch.load_table("raw.imu").schema()
    assert schema.find_field("quality").doc == "1 is best" and schema.find_field("ax").field_type == DoubleType()
    assert "quality" not in main.load_table("raw.imu").schema().column_names

    shape = pa.schema([("id", pa.int64()), ("note", pa.string())])
    branch.create_namespace("mine")
    branch.create_table("mine.notes", shape).append(pa.table({"id": [1, 2], "note": ["a", "b"]}))
    done = branch.load_table("mine.notes").upsert(pa.table({"id": [2, 3], "note": ["bb", "c"]}), join_cols=["id"])
    assert (done.rows_updated, done.rows_inserted) == (1, 1)
    with branch.create_table_transaction("mine.more", shape) as transaction:
        transaction.append(pa.table({"id": [1], "note": ["x"]}))
    branch.drop_table("mine.more")
    assert branch.list_tables("mine") == [("mine", "notes")] and branch.list_views("mine") == []
    stale = catalog("exp/a").load_table("mine.notes")
    branch.load_table("mine.notes").append(pa.table({"id": [4], "note": ["d"]}))
    # The server's conflict makes pyiceberg load the table again and retry by itself: both rows are there.
    stale.append(pa.table({"id": [5], "note": ["e"]}))
    assert sorted(branch.load_table("mine.notes").scan().to_arrow()["id"].to_pylist()) == [1, 2, 3, 4, 5]

    def drop_column():
        with branch.load_table("raw.imu").update_schema() as update:
            update.delete_column("late")

    def no_collection():
        with branch.load_table("raw.imu").transaction() as transaction:
            transaction.set_properties({"gc.enabled": "true"})

    def expire():
        notes = branch.load_table("mine.notes")
        notes.maintenance.expire_snapshots().by_id(notes.snapshots()[0].snapshot_id).commit()

    refused(ForbiddenError, "only grow", drop_column)
    refused(ForbiddenError, "gc.enabled", no_collection)
    refused(ForbiddenError, "retention", expire)
    refused(ForbiddenError, "headwater branch exp/local main", lambda: main.load_table("raw.imu").append(ten))
    refused(ForbiddenError, "never changes", lambda: catalog("v1").load_table("raw.imu").append(ten))
    refused(ForbiddenError, "location", lambda: branch.create_table("mine.far", shape, location="file:///tmp/far"))
    refused(Exception, "exp/a, exp/b, main", lambda: catalog("exp/nowhere"))
    print("  pyiceberg: read, append, delete, overwrite, upsert, schema, create, drop; refusals say what to do")


def duckdb_reads_and_writes(url):
    con = attached(url, ("main", "lake"), ("exp/a", "a"), ("exp/b", "b"), ("v1", "v1"))
    rows = one(con, "SELECT count(*) FROM lake.raw.imu")
    assert one(con, "SELECT count(*) FROM v1.raw.imu") == rows
    before = one(con, "SELECT count(*) FROM b.raw.imu")
    con.execute("INSERT INTO b.raw.imu SELECT * FROM b.raw.imu WHERE seq < 30")
    assert one(con, "SELECT count(*) FROM b.raw.imu") == before + 30
    gone = con.execute("DELETE FROM b.raw.imu WHERE seq >= 30 AND seq < 70").fetchone()[0]
    assert gone == 40 and one(con, "SELECT count(*) FROM b.raw.imu") == before - 10
    con.execute("UPDATE b.raw.imu SET gz = 1.5 WHERE seq % 10 = 0 AND seq >= 100")
    assert one(con, "SELECT count(*) FROM b.raw.imu WHERE gz = 1.5") == len(range(100, rows, 10))
    con.execute("ALTER TABLE b.raw.imu ADD COLUMN checked BOOLEAN")
    con.execute("CREATE SCHEMA b.mine")
    con.execute("CREATE TABLE b.mine.notes (id BIGINT, note VARCHAR)")
    con.execute("INSERT INTO b.mine.notes VALUES (1, 'a'), (2, 'b')")
    con.execute(
        "MERGE INTO b.mine.notes t USING (SELECT 2 AS id, 'bb' AS note UNION ALL SELECT 3, 'c') s ON t.id = s.id "
        "WHEN MATCHED THEN UPDATE SET note = s.note WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.note)"
    )
    assert con.execute("SELECT * FROM b.mine.notes ORDER BY id").fetchall() == [(1, "a"), (2, "bb"), (3, "c")]
    con.execute("CREATE TABLE b.mine.hundred AS SELECT seq, gz FROM b.raw.imu WHERE seq < 100")
    con.execute("DROP TABLE b.mine.hundred")

    commits = json.loads(urllib.request.urlopen(f"{url}/api/v1/log?at=exp/b&limit=1000", timeout=30).read())["commits"]
    con.execute("BEGIN")
    con.execute("INSERT INTO b.mine.notes VALUES (4, 'd')")
    con.execute("INSERT INTO b.ops.ledger SELECT * FROM b.ops.ledger LIMIT 1")
    con.execute("COMMIT")
    after = json.loads(urllib.request.urlopen(f"{url}/api/v1/log?at=exp/b&limit=1000", timeout=30).read())["commits"]
    assert len(after) == len(commits) + 1, "two tables are one commit"
    assert after[0]["kind"] == "foreign" and after[0]["message"].count("append") == 2, after[0]
    con.execute("BEGIN")
    con.execute("INSERT INTO b.mine.notes VALUES (5, 'e')")
    con.execute("ROLLBACK")
    assert one(con, "SELECT count(*) FROM b.mine.notes") == 4

    snapshots = con.execute("SELECT snapshot_id FROM iceberg_snapshots(b.raw.imu) ORDER BY sequence_number").fetchall()
    old = one(con, f"SELECT count(*) FROM b.raw.imu AT (VERSION => {snapshots[-4][0]})")
    assert old == before, (old, before)
    both = "SELECT (SELECT count(*) FROM lake.raw.imu), (SELECT count(*) FROM b.raw.imu WHERE seq < 30)"
    assert con.execute(both).fetchone() == (rows, 60)
    different = one(con, "SELECT count(*) FROM (SELECT seq FROM lake.raw.imu EXCEPT SELECT seq FROM b.raw.imu)")
    assert different == 40
    refused(Exception, "protected", lambda: con.execute("INSERT INTO lake.raw.imu SELECT * FROM lake.raw.imu LIMIT 1"))
    refused(Exception, "keep their names", lambda: con.execute("ALTER TABLE b.mine.notes RENAME TO remarks"))
    print("  DuckDB: select, insert, delete, update, merge, alter, create, drop, transaction, time travel, two branches")


def all_see_the_same(url, program, lake):
    con = attached(url, ("exp/a", "a"), ("exp/b", "b"))
    for ref, name in (("exp/a", "a"), ("exp/b", "b")):
        table = RestCatalog(ref, uri=url, warehouse=ref).load_table("raw.imu")
        by_duck = con.execute(f"SELECT seq, gz FROM {name}.raw.imu ORDER BY ALL").fetchall()
        by_arrow = table.scan(selected_fields=("seq", "gz")).to_arrow().to_pylist()
        order = lambda rows: sorted(rows, key=lambda row: (row[0], row[1] is None, row[1] or 0.0))
        assert order(by_duck) == order((row["seq"], row["gz"]) for row in by_arrow)
        polars_rows = pl.scan_iceberg(table).select(pl.len()).collect().item()
        pandas_rows = len(table.scan(row_filter=GreaterThanOrEqual("seq", 0)).to_pandas())
        scan = [*words(program), "--lake", str(lake), "scan", "raw.imu", "--at", ref, "--limit", "1000000", "--columns", "seq"]
        done = subprocess.run([*scan, "--json"], capture_output=True, text=True, timeout=120, check=True)
        ours = sorted(json.loads(line)["seq"] for line in done.stdout.splitlines() if line.strip())
        assert ours == sorted(row[0] for row in by_duck), (ref, len(ours), len(by_duck))
        assert polars_rows == pandas_rows == len(by_duck), (polars_rows, pandas_rows, len(by_duck))
        print(f"  {ref}: {len(by_duck)} rows, the same to DuckDB, pyiceberg, polars, pandas and headwater scan")


def two_clients_race(url):
    catalog = RestCatalog("r", uri=url, warehouse="exp/b")
    catalog.create_table("mine.race", pa.schema([("who", pa.string()), ("n", pa.int64())]))
    acknowledged, tries, errors = [], [], []

    def by_pyiceberg():
        own = RestCatalog("p", uri=url, warehouse="exp/b")
        for n in range(RACE_APPENDS):
            while True:
                tries.append("pyiceberg")
                try:
                    own.load_table("mine.race").append(pa.table({"who": ["pyiceberg"], "n": [n]}))
                except CommitFailedException:
                    continue
                acknowledged.append(("pyiceberg", n))
                break

    def by_duckdb():
        own = attached(url, ("exp/b", "b"))
        for n in range(RACE_APPENDS):
            while True:
                tries.append("duckdb")
                try:
                    own.execute(f"INSERT INTO b.mine.race VALUES ('duckdb', {n})")
                except Exception as error:
                    if "Conflict" not in str(error):
                        raise
                    continue
                acknowledged.append(("duckdb", n))
                break

    def kept(act):
        try:
            act()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=kept, args=(act,)) for act in (by_pyiceberg, by_duckdb)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not errors, errors
    rows = catalog.load_table("mine.race").scan().to_arrow().to_pylist()
    assert sorted((row["who"], row["n"]) for row in rows) == sorted(acknowledged) and len(rows) == 2 * RACE_APPENDS
    print(f"  two clients: {len(rows)} appends of {len(tries)} tries, each acknowledged one there once")


def tokens_bound_what_clients_do(program, lake, folder):
    tokens, lines = {}, []
    for name, role, refs in (("reader", "reader", "*"), ("alice", "writer", "exp/*")):
        command = [*words(program), "token", "new", "--name", name, "--role", role, "--refs", refs, "--json"]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
        tokens[name] = told["token"]
        quoted = {key: json.dumps(told[key]) for key in ("name", "role", "refs", "sha256")}
        lines.append("[[token]]\n" + "".join(f"{key} = {value}\n" for key, value in quoted.items()))
    file, audit = folder / "tokens.toml", folder / "audit.jsonl"
    file.write_text("\n".join(lines))
    with Server(program, lake, "--tokens", str(file), "--audit", str(audit)) as server:
        url = server.url
        refused(UnauthorizedError, "token", lambda: RestCatalog("n", uri=url, warehouse="main"))
        refused(UnauthorizedError, "not known", lambda: RestCatalog("n", uri=url, warehouse="main", token="hw..0000"))
        reader = RestCatalog("r", uri=url, warehouse="exp/a", token=tokens["reader"])
        rows = reader.load_table("raw.imu").scan(limit=1).to_arrow()
        refused(ForbiddenError, "reader", lambda: reader.load_table("raw.imu").append(rows))
        # As a secret to be exchanged, as some clients want it.
        alice = RestCatalog("a", uri=url, warehouse="exp/a", credential=f"alice:{tokens['alice']}")
        alice.load_table("raw.imu").append(rows)
        refused(ForbiddenError, "exp/*", lambda: RestCatalog("a", uri=url, warehouse="main", token=tokens["alice"]))
        con = duck()
        con.execute("SET unsafe_iceberg_ignore_sort_order = true")
        con.execute(f"CREATE SECRET alice (TYPE iceberg, TOKEN '{tokens['alice']}')")
        con.execute(f"ATTACH 'exp/a' AS a (TYPE iceberg, ENDPOINT '{url}', SECRET alice)")
        con.execute("INSERT INTO a.raw.imu SELECT * FROM a.raw.imu LIMIT 1")
    entries = [json.loads(line) for line in audit.read_text().splitlines()]
    told = [(entry["who"], entry["ref"], entry["result"]) for entry in entries]
    assert told == [
        ("reader", "exp/a", "refused"),
        ("alice", "exp/a", "committed"),
        ("alice", "exp/a", "committed"),
    ], told
    assert all((entry["commit"] is None) == (entry["result"] == "refused") for entry in entries)
    beyond = [*words(program), "--lake", str(lake), "serve", "--listen", "0.0.0.0:0"]
    done = subprocess.run(beyond, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "token" in done.stderr, done.stderr
    print("  tokens: strangers, readers, writers; each change is in the audit log; none are needed on loopback only")


QUERIES = {
    "count": "SELECT count(*) FROM {t}",
    "mean": "SELECT avg(ax), max(n) FROM {t} WHERE seq % 3 = 0",
    "one device by time": "SELECT device, min(ts), max(ts), count(*) FROM {t} GROUP BY device ORDER BY device",
    "needle": "SELECT * FROM {t} WHERE seq = 12345",
}


def bench(program, lake, runs):
    """DuckDB over the catalog beside DuckDB over the same Parquet files by name, and beside `iceberg_scan` of the table's
    metadata file, which is the format's own cost without a server; medians in ms of interleaved runs."""
    with Server(program, lake) as server:
        table = RestCatalog("m", uri=server.url, warehouse="main").load_table("raw.imu")
        files = [task.file.file_path.removeprefix("file://") for task in table.scan().plan_files()]
        con, plain = attached(server.url, ("main", "lake")), duck()
        plain.execute(f"CREATE VIEW plain AS SELECT * FROM read_parquet({files!r}, union_by_name = true)")
        rows = one(con, "SELECT count(*) FROM lake.raw.imu")
        assert rows == one(plain, "SELECT count(*) FROM plain")
        sides = {
            "catalog": (con, "lake.raw.imu"),
            "iceberg_scan": (con, f"iceberg_scan('{table.metadata_location}')"),
            "parquet": (plain, "plain"),
        }
        figures = {}
        for name, query in QUERIES.items():
            took = {side: [] for side in sides}
            for _ in range(runs):
                for side, (run, source) in sides.items():
                    begun = time.perf_counter()
                    run.execute(query.format(t=source)).fetchall()
                    took[side].append((time.perf_counter() - begun) * 1000)
            medians = {side: round(statistics.median(times), 2) for side, times in took.items()}
            figures[name] = {**medians, "ratio": round(medians["catalog"] / medians["parquet"], 2)}
        loads = []
        for _ in range(runs):
            begun = time.perf_counter()
            server.get("/v1/b.main/namespaces/raw/tables/imu")
            loads.append((time.perf_counter() - begun) * 1000)
        cached = re.search(r'headwater_catalog_metadata_total\{from="memory"\} (\d+)', server.get("/metrics"))
    told = {"rows": rows, "files": len(files), "runs": runs, "ms": figures}
    told |= {"load_table_ms": round(statistics.median(loads), 2), "from_memory": int(cached[1]) if cached else 0}
    print(json.dumps(told))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lake", required=True, help="folder of a lake that make_lake made; it is written to")
    parser.add_argument("--program", required=True, help="the headwater binary, or the demo's")
    parser.add_argument("--bench", action="store_true", help="measure instead of checking")
    parser.add_argument("--runs", type=int, default=15, help="runs of each query when measuring")
    arguments = parser.parse_args()
    program, lake = arguments.program, pathlib.Path(arguments.lake).resolve()
    if arguments.bench:
        bench(program, lake, arguments.runs)
        return
    print(f"{lake} over its REST catalog")
    with Server(program, lake) as server:
        pyiceberg_reads_and_writes(server.url)
        duckdb_reads_and_writes(server.url)
        all_see_the_same(server.url, program, lake)
        two_clients_race(server.url)
        text = server.get("/metrics")
        hits = re.search(r'headwater_catalog_metadata_total\{from="memory"\} (\d+)', text)
        assert hits and int(hits[1]) > 0, "metadata is never taken from memory"
    with tempfile.TemporaryDirectory() as folder:
        tokens_bound_what_clients_do(program, lake, pathlib.Path(folder))
    print("the catalog is what other people's clients expect")


if __name__ == "__main__":
    main()
