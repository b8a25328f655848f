# SPDX-License-Identifier: Apache-2.0
"""Measure the seconds from a file of 1 GB, in the page cache, to its first vector.

::

    python asv_bench/load_large_file.py

The script writes the file once: MiniLM with its layers repeated until the size is reached.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import gguf
from benchmarks import workloads

from embellama import catalog

PROGRAM = """
import json, sys, time, resource, numpy
start = time.perf_counter()
import embellama
model = embellama.EmbeddingModel(sys.argv[1])
loaded = time.perf_counter()
vector = model.embed("What is the capital of France?")
end = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"load": loaded - start, "first": end - start, "peak": peak}))
"""


def write_repeated(source: Path, target: Path, n_bytes: int) -> int:
    """Write `source` with its layers repeated to `n_bytes` or a little more; return the layers."""
    reader = gguf.GGUFReader(source)
    layer = re.compile(r"blk\.(\d+)\.")
    of_layer: dict[int, list[gguf.ReaderTensor]] = {}
    others = []
    for tensor in reader.tensors:
        if match := layer.match(tensor.name):
            of_layer.setdefault(int(match[1]), []).append(tensor)
        else:
            others.append(tensor)
    layer_bytes = sum(int(tensor.n_bytes) for tensor in of_layer[0])
    other_bytes = sum(int(tensor.n_bytes) for tensor in others)
    n_layers = -(-(n_bytes - other_bytes) // layer_bytes)
    writer = gguf.GGUFWriter(target, "bert")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = n_layers if name == "bert.block_count" else field.contents()
        kinds = field.types
        writer.add_key_value(name, value, kinds[0], kinds[1] if len(kinds) > 1 else None)
    tensors = [(tensor.name, tensor) for tensor in others]
    for i in range(n_layers):
        for tensor in of_layer[i % len(of_layer)]:
            tensors.append((layer.sub(f"blk.{i}.", tensor.name), tensor))
    for name, tensor in tensors:
        writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return n_layers


@click.command()
@click.option("--file-type", default="F16", show_default=True, help="Type of the weights.")
@click.option("--gigabytes", type=float, default=1.0, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(file_type: str, gigabytes: float, rounds: int) -> None:
    """Measure loading a large file, each round in a process of its own."""
    source = catalog.resolve(workloads.MODEL, file_type=file_type)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.gguf"
        n_layers = write_repeated(source, path, int(gigabytes * 1e9))
        size = path.stat().st_size
        results = []
        for _ in range(rounds + 1):
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, str(path)],
                capture_output=True,
                text=True,
                check=True,
                cwd=folder,
            )
            results.append(json.loads(done.stdout))
        results = results[1:]  # the first brought the file into the page cache
        median = {key: statistics.median(result[key] for result in results) for key in results[0]}
        click.echo(
            f"{size / 1e9:.2f} GB, {n_layers} layers, {file_type}: import and load "
            f"{median['load']:.2f} s, to the first vector {median['first']:.2f} s, "
            f"peak memory {median['peak'] / size:.2f} of the file"
        )


if __name__ == "__main__":
    main()
