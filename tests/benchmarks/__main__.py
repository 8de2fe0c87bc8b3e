"""Runs benchmarks by name; without one, all that need no download. Adding one: a module here with `run(quick)`, and its
line in BENCHMARKS or DOWNLOADING.

python -m tests.benchmarks [--quick] [NAME...]
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from tests.benchmarks.tables import machine

BENCHMARKS = {
    "catalog": "the catalogue at 100,000 models: requests per second, queries, a start with 30,000 known files, requests while hashing",
    "corpus": "what a file is: 3,000 headers that others made, how many are told rightly",
    "probes": "what a file is: CPU time and bytes read per header, a folder of LoRAs, a remote file",
    "weights": "LoRAs on a UNet of true size: on, another weight, another set, off, against diffusers + PEFT",
    "headline": "4 steps with an LCM-LoRA, switching included, against 25 with guidance: the starter, SDXL's true size",
    "service": "200 requests over 20 LoRA sets, shuffled, against the same without a LoRA",
    "gpu": "LoRAs on SDXL in half precision on a CUDA device, and 6.9 GB loaded to it",
}
"""Name of a module in this package -> what it measures. Its `run(quick: bool)` yields tables; `quick` is for trying the
benchmark, not for figures."""

DOWNLOADING = {"invokeai": "what a file is, and what knowing that costs, beside InvokeAI's identification"}
"""The same, for those that install something from the package index: run only when named."""


def main(arguments: list[str]) -> None:
    known = BENCHMARKS | DOWNLOADING
    listed = [
        "benchmarks:",
        *_lines(BENCHMARKS),
        "only when named, for it needs the package index:",
        *_lines(DOWNLOADING),
    ]
    parser = argparse.ArgumentParser("python -m tests.benchmarks", epilog="\n".join(listed))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="which to run; when none is named, all that need no package index"
    )
    parser.add_argument("--quick", action="store_true", help="few rounds and small samples, to see that it runs")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - known.keys())
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(known)}")
    print(machine())
    for name in options.names or BENCHMARKS:
        for table in import_module(f"tests.benchmarks.{name}").run(options.quick):
            print(f"\n{table}", flush=True)


def _lines(benchmarks: dict[str, str]) -> list[str]:
    return [f"  {name:12} {what}" for name, what in benchmarks.items()]


if __name__ == "__main__":
    main(sys.argv[1:])
