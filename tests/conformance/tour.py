# %% [markdown]
# # A tour of a lake with history
#
# Attach, query, branch, change the alignment, audit, merge, roll back, reproduce: with DuckDB over the Iceberg REST catalog
# and the `headwater` command. Cells begin with `# %%`, so notebooks and editors open it; as a script it asserts what it
# says, on the lake of a demo run, which it leaves as it is:
#
#     cargo demo --for 20s --dir target/demo
#     PYTHONPATH=tests/conformance target/venv/bin/python tests/conformance/tour.py --run target/demo --program target/debug/demo

# %%
import argparse
import json
import pathlib
import tempfile

from lake import headwater
from rest import Server, attached

parser = argparse.ArgumentParser(description="A tour of a lake with history.")
parser.add_argument("--run", required=True, help="folder of a demo run")
parser.add_argument("--program", required=True, help="`headwater`, or the demo's binary")
args = parser.parse_args()
scratch = tempfile.TemporaryDirectory(prefix="headwater-tour-")

# %% [markdown]
# ## A copy to play with
# Iceberg names files by absolute location, so a lake is copied by `headwater clone`, not by `cp`. Names and history stay.

# %%
lake = pathlib.Path(scratch.name) / "lake"
headwater(args.program, pathlib.Path(args.run) / "lake", "clone", str(pathlib.Path(args.run) / "lake"), str(lake))


def hw(*words):
    """One `headwater` command on the copy, shown as it is typed."""
    print("$ headwater", *words)
    text = headwater(args.program, lake, *words)
    print(text)
    return text


def head(ref="main"):
    """Full id of the commit a ref names."""
    shown = json.loads(headwater(args.program, lake, "show", ref, "--json"))
    return shown["id"]


# %% [markdown]
# ## Attach and query
# The warehouse is a ref: a branch, a tag, or `ref@commit`. Nothing else to set up.

# %%
server = Server(args.program, lake)
con = attached(server.url, ("main", "lake"))
con.sql("SELECT ts, name, motion_accel_z, motion_src.dt_ns, place_lat FROM lake.aligned.drive ORDER BY ts LIMIT 5").show()
TOTALS = "SELECT count(*), count(motion_accel_z), min(ts), max(ts) FROM {}.aligned.drive"
before = con.execute(TOTALS.format("lake")).fetchone()
print("aligned rows, rows with motion, from, to:", *before)

# %% [markdown]
# ## Branch
# A branch is one small object; no row is copied. The tag keeps this state for ever. `main` is protected: from now on no client
# moves it directly, this command included. (A collector does that when it makes a lake; a clone begins without.)

# %%
hw("branch", "--protect", "main", "-m", "models are trained on it")
hw("tag", "before-the-tour", "main")
hw("branch", "exp", "main")
first = head()

# %% [markdown]
# ## Change the alignment, on the branch
# A stricter tolerance: rows whose motion sample is further from the frame than most are taken out. `main` is protected, so
# an engine may write to the branch only, and nobody who reads `main` sees it.

# %%
con = attached(server.url, ("main", "lake"), ("exp", "exp"))
limit = con.execute("SELECT quantile_cont(abs(motion_src.dt_ns), 0.8) FROM lake.aligned.drive").fetchone()[0]
con.execute(f"DELETE FROM exp.aligned.drive WHERE motion_src.dt_ns IS NULL OR abs(motion_src.dt_ns) > {limit:.0f}")

# %% [markdown]
# ## Audit
# Both branches in one query: what went, and whether anything else changed.

# %%
con = attached(server.url, ("main", "lake"), ("exp", "exp"))
gone, worst_left = con.execute(f"""
    SELECT (SELECT count(*) FROM lake.aligned.drive l ANTI JOIN exp.aligned.drive e USING (device, row_key)),
           (SELECT max(abs(motion_src.dt_ns)) FROM exp.aligned.drive)
""").fetchone()
changed = con.execute("""
    SELECT count(*) FROM lake.aligned.drive l JOIN exp.aligned.drive e USING (device, row_key)
    WHERE l.ts_ns <> e.ts_ns OR l.motion_accel_z IS DISTINCT FROM e.motion_accel_z
""").fetchone()[0]
print(f"{gone} rows are out, the worst distance left is {worst_left} ns, {changed} rows differ otherwise")
assert gone > 0 and changed == 0 and worst_left <= limit
assert con.execute(TOTALS.format("lake")).fetchone() == before, "main changed while the branch did"
hw("diff", "main", "exp")

# %% [markdown]
# ## Merge
# We like it; now the gate before `main` judges what the merge would make, and `main` takes it: all tables at once or none.

# %%
said = hw("merge", "exp", "-m", "alignment: motion within the usual distance")
assert "judged: aligned.drive" in said
merged = head()
con = attached(server.url, ("main", "lake"))
after = con.execute(TOTALS.format("lake")).fetchone()
assert after[0] == before[0] - gone and merged != first
hw("log", "--limit", "5")

# %% [markdown]
# ## Roll back
# It was a bad idea after all. A rollback is a commit like any other: aligned rows go back, captures stay, nothing is deleted.
# On a protected branch it takes one word more, which its log keeps.

# %%
hw("rollback", "before-the-tour", "--override", "-m", "the model got worse")
con = attached(server.url, ("main", "lake"))
assert con.execute(TOTALS.format("lake")).fetchone() == before

# %% [markdown]
# ## Reproduce
# What was trained on in between is still there under its commit id, row for row.

# %%
con = attached(server.url, (f"main@{merged}", "merged"), ("before-the-tour", "tagged"))
assert con.execute(TOTALS.format("merged")).fetchone() == after
assert con.execute(TOTALS.format("tagged")).fetchone() == before
print(f"main@{merged[:12]} holds the {after[0]} rows of the merge, the tag the {before[0]} of before")

# %%
con.close()
server.__exit__()
scratch.cleanup()
print("tour: 8 stations, all as said")
