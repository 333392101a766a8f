"""How the checks open a lake with other people's readers."""

import importlib.util
import json
import pathlib
import subprocess

import duckdb


def headwater(program, lake, *words):
    """Runs the `headwater` command on `lake`; its standard output."""
    command = [program, "--role", "headwater", "--lake", str(lake), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed: {done.stderr}")
    return done.stdout


def locations(program, lake, ref="main"):
    """Table name -> metadata location at `ref`."""
    tables = json.loads(headwater(program, lake, "tables", "--at", ref, "--json"))
    return {table["name"]: table["metadata_location"] for table in tables}


def duck():
    """A DuckDB connection with its Iceberg extension from the wheels: nothing is fetched."""
    con = duckdb.connect()
    for name in ("avro", "httpfs", "iceberg"):
        folder = importlib.util.find_spec(f"duckdb_extension_{name}").submodule_search_locations[0]
        con.load_extension(str(next(pathlib.Path(folder).rglob("*.duckdb_extension"))))
    return con
