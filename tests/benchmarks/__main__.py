"""All benchmarks, as one table of ratios.

    python -m tests.benchmarks [--rows N] [--events FILE.json]... [NAME ...]

Names are engine, decode, import, startup and load; without one all are run. Ratios are
to be compared, not seconds. Engine: 2 million records unless --rows says otherwise; the
aims are stated for 20 million. --events gives captured Windows events to ``import``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from tests.benchmarks import bench_decode, bench_engine, bench_import, bench_load, bench_startup
from tests.benchmarks.table import Row, show

NAMES = ("engine", "decode", "import", "startup", "load")


def chosen(options: argparse.Namespace) -> Iterator[Row]:
    """The rows of the benchmarks that were asked for, each made when it is its turn."""
    benchmarks = {
        "engine": lambda: bench_engine.rows(options.rows),
        "decode": bench_decode.rows,
        "import": lambda: bench_import.rows(options.events),
        "startup": bench_startup.rows,
        "load": bench_load.rows,
    }
    for name in options.names or NAMES:
        yield from benchmarks[name]()


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--events", action="append", default=[], metavar="FILE")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark named {unknown[0]!r}; there are {', '.join(NAMES)}")
    show(chosen(options))


if __name__ == "__main__":
    main()
