"""``make bench-agree``: our GPTQ and NF4 beside independent implementations of the same, number by number.

    python benchmarks/agree.py [--out FOLDER]

Random matrices with correlated inputs. GPTQ: llm-compressor's column loop gets the matrix, H, the damping and the grid
that ours has found, and must round every weight as ours does, but where two roundings of float32 fall to either side of
half a step. NF4: bitsandbytes must have the same codes and scales. Each runs in an environment of its own. Writes
docs/measured-agree.md; the last line is one JSON object, and the command ends with status 1 where they do not agree.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor

from jobs import SIDES
from peers import BITSANDBYTES, PEERS, python_of
from trimtab.core.codebook import Codebook
from trimtab.core.fit import Site
from trimtab.core.joins import leaves
from trimtab.core.pack import unpack
from trimtab.core.stats import Gram
from trimtab.core.weight import Dense, Quantized
from trimtab.measure.machine import facts
from trimtab.quantize import GPTQ, NF4

OUT = SIDES.parents[1] / "docs" / "measured-agree.md"
ROWS, WIDTH, TOKENS, DAMP = 256, 512, 2_048, 0.01
LEAST = 0.999
"""Of all weights that must be equal; one that differs changes what the columns behind it make up for."""
NEAR = 1e-3
"""Relative difference of tr(D H D^T) that is allowed."""
GRIDS = {
    f"{bits} bits, groups of {group}, {'symmetric' if symmetric else 'with zeros'}": {
        "bits": bits, "group_size": group, "symmetric": symmetric, "damp_percent": DAMP,
    }
    for bits in (4, 3) for group in (64, 128, WIDTH) for symmetric in (False, True)
}  # fmt: skip
SIZES = {f"nf4, groups of {group}": {"group_size": group} for group in (64, 128)}
HEAD = ("method", "beside", "case", "weights", "equal", "loss over theirs")


def layer(seed: int) -> tuple[Tensor, Tensor]:
    """A matrix and inputs that are correlated and of unequal size."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(WIDTH, WIDTH, generator=g) / WIDTH**0.5 + 0.3 * torch.eye(WIDTH)
    x = torch.randn(TOKENS, WIDTH, generator=g) @ mix * torch.logspace(-0.5, 0.5, WIDTH)
    return torch.randn(ROWS, WIDTH, generator=g) * 0.05, x


def asked(
    python: Path, side: str, given: Mapping[str, Tensor], cases: Mapping[str, Any], place: Path
) -> dict[str, Tensor]:
    """What ``side`` makes of ``given``. Raises CalledProcessError where it fails."""
    save_file(dict(given), place / f"{side}-given.safetensors", {"cases": json.dumps(cases)})
    files = [str(place / f"{side}-{what}.safetensors") for what in ("given", "made")]
    subprocess.run([str(python), "-P", str(SIDES / f"{side}.py"), *files], check=True, stdout=subprocess.PIPE)
    return load_file(files[1])


def gptq(python: Path, place: Path) -> list[dict[str, Any]]:
    """Ours with its own grids searched, columns as they stand; theirs on these grids."""
    given, ours, moments = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
    for seed, (name, case) in enumerate(GRIDS.items()):
        w, x = layer(seed)
        gram = Gram(WIDTH)
        gram.add(x, torch.zeros(TOKENS, dtype=torch.int64))
        made = GPTQ(**case, act_order=False)(Dense(w), Site(name, w.clone, gram))
        assert isinstance(made, Quantized)
        half = 2 ** (case["bits"] - 1)
        zero = torch.zeros_like(made.scale) if made.zero is None else made.zero.float() - half
        given |= {f"{name}/w": w, f"{name}/h": gram.read() / TOKENS, f"{name}/scale": made.scale, f"{name}/zero": zero}
        ours[name], moments[name] = made.dense(), gram.read().double()
    theirs = asked(python, "agree_gptq", given, GRIDS, place)
    rows = []
    for name in GRIDS:
        w = given[f"{name}/w"].double()
        loss = [
            float((((one - w) @ moments[name]) * (one - w)).sum())
            for one in (ours[name].double(), theirs[name].double())
        ]
        step = given[f"{name}/scale"].repeat_interleave(GRIDS[name]["group_size"], 1)
        equal = ((ours[name] - theirs[name]).abs() < 0.5 * step).double().mean()
        rows.append({"method": "gptq", "beside": PEERS["llmcompressor"].packages[0], "case": name,
                     "weights": w.numel(), "equal": float(equal), "ratio": loss[0] / loss[1]})  # fmt: skip
    return rows


def nf4(python: Path, place: Path) -> list[dict[str, Any]]:
    """Without double quantization, so that scales can be compared too."""
    given = {f"{name}/w": layer(seed)[0] for seed, name in enumerate(SIZES)}
    theirs, rows = asked(python, "agree_nf4", given, SIZES, place), []
    for name, case in SIZES.items():
        w = given[f"{name}/w"]
        (made,) = leaves(NF4(case["group_size"], double_quant=False)(Dense(w), Site(name, w.clone)))
        assert isinstance(made, Codebook)
        same = unpack(made.codes, 4) == theirs[f"{name}/codes"]
        scales = torch.equal(made.scales.read(slice(None)), theirs[f"{name}/scale"])
        rows.append({"method": "nf4", "beside": BITSANDBYTES.packages[0], "case": f"{name}; scales "
                     f"{'equal' if scales else 'differ'}", "weights": w.numel(),
                     "equal": float(same.double().mean()) if scales else 0.0, "ratio": 1.0})  # fmt: skip
    return rows


def cells(row: Mapping[str, Any]) -> list[str]:
    return [row["method"], row["beside"], row["case"], f"{row['weights']:,}", f"{100 * row['equal']:.3f} %",
            f"{row['ratio']:.5f}"]  # fmt: skip


def page(rows: list[dict[str, Any]]) -> str:
    """The kept file."""
    machine = facts()
    body = [HEAD, ["---", "---", "---", "---:", "---:", "---:"], *map(cells, rows)]
    return "\n".join([
        "# Measured: ours beside independent implementations", "",
        f"Written by `make bench-agree` on {datetime.now(UTC):%Y-%m-%d} on {machine.processor}, torch "
        f"{torch.__version__}. Random matrices of {ROWS} x {WIDTH} with correlated inputs. `gptq`: llm-compressor's "
        "column loop on the grids that ours has searched, columns as they stand; `loss over theirs` is the ratio of "
        "tr(D H D^T). `nf4`: codes, where the scales are equal too.", "",
        *("| " + " | ".join(line) + " |" for line in body), "",
    ])  # fmt: skip


def main() -> None:
    """Both, the table, the kept page, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-quantize"))
    place = parser.parse_args().out.resolve()
    (place / "peers").mkdir(parents=True, exist_ok=True)
    peer = python_of(PEERS["llmcompressor"], place / "peers" / "llmcompressor")
    rows = gptq(peer, place) + nf4(python_of(BITSANDBYTES, place / "peers" / "bitsandbytes"), place)
    table = Table(*HEAD)
    for row in rows:
        table.add_row(*cells(row))
    Console(width=150).print(table)
    OUT.write_text(page(rows), encoding="utf-8")
    agree = all(row["equal"] >= LEAST and abs(row["ratio"] - 1) <= NEAR for row in rows)
    print(json.dumps({"agree": agree, "rows": rows}))
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
