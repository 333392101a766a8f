"""Runs the README's reading lines as they stand, against a run of the demo.

The README says `target/demo`; the only change made here is that path.
"""

import argparse
import contextlib
import io
import pathlib
import re


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, help="folder of a demo run")
    args = parser.parse_args()
    readme = pathlib.Path(__file__).resolve().parents[2] / "README.md"
    blocks = re.findall(r"```python\n(.*?)```", readme.read_text(), re.S)
    assert len(blocks) >= 2, "README shows DuckDB and pyiceberg"
    for block in blocks:
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            exec(compile(block.replace("target/demo", args.run), "README.md", "exec"), {})
        text = shown.getvalue()
        assert "motion" in text and len(text.splitlines()) > 5, f"no aligned rows shown by:\n{block}\n{text}"
        print(text)
    print(f"readme: {len(blocks)} passed, 0 failed")


if __name__ == "__main__":
    main()
