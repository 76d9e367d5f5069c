"""``make bench-quantize [TEXT=DIR]``: GPTQ, AWQ and Wanda beside llm-compressor, on one model and the same tokens.

    python benchmarks/quantize.py [--text FILE_OR_DIR] [--seeds 3] [--only gptq4 gptq3 awq4 wanda] [--out FOLDER]

Each job runs in a fresh process, ours and the peer's in turn. Two clocks: weights and tokens in memory to trimmed
weights in memory (``fitted``), and command start to synced folder (``whole``; the peer's dense copy for the evaluation
is not counted). Like with like: the same bits, group and zero points, embedding and head left as they are; every
perplexity is that of the dense bfloat16 matrices, evaluated here by one version of transformers on windows of Python's
language reference. ``full4`` is ours once more with embedding and tied head quantized too. Calibration: windows of
``--text`` at places drawn with each seed, by default the docstrings of the standard library. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from peers import PEERS, python_of
from trimtab.data import text as texts
from trimtab.data.task import Task
from trimtab.evaluate.perplexity import losses
from trimtab.evaluate.ratio import of_repeats, of_windows
from trimtab.load.builtin import builtin_folder
from trimtab.load.sources import open_source
from trimtab.measure.machine import facts

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "measured-quantize.md"
WORDS = ("language",)
GRID: dict[str, Any] = {"group_size": 128, "symmetric": True, "targets": WORDS}
JOBS: dict[str, dict[str, Any]] = {
    "gptq4": GRID | {"method": "gptq", "bits": 4},
    "gptq3": GRID | {"method": "gptq", "bits": 3},
    "awq4": GRID | {"method": "awq", "bits": 4, "symmetric": False},
    "wanda": {"method": "wanda", "targets": WORDS},
    "full4": GRID | {"method": "gptq", "bits": 4, "targets": (*WORDS, "embedding")},
}
PEER = "llmcompressor"
LEAD = {"gptq4": 4.0, "gptq3": 4.0, "awq4": 5.0, "wanda": 2.0}
"""How many times as fast ours is meant to be."""


def tokens(text: str, tokenizer: Any, seed: int, path: Path, count: int = 64, length: int = 512) -> Path:
    """``count`` windows at places drawn with ``seed``."""
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    places = torch.randint(0, len(ids) - length, (count,), generator=torch.Generator().manual_seed(seed))
    save_file({"input_ids": torch.stack([ids[at : at + length] for at in places.tolist()])}, path)
    return path


def job(python: Path, side: str, asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One job in a process of its own; the folder that it wrote is taken away, its dense weights stay."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    said = asked | {"out": str(folder / "out"), "dense": str(folder / "model.safetensors")}
    (folder / "job.json").write_text(json.dumps(said), encoding="utf-8")
    env = os.environ | {"BENCH_BEGUN": repr(time.time()), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [str(python), "-P", str(HERE / "sides" / f"{side}.py"), str(folder / "job.json")]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} {asked['method']} failed; see {folder / 'log.txt'}")
    shutil.rmtree(folder / "out")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def scored(model: Path, weights: Path | None, text: str, folder: Path) -> list[float]:
    """Losses by window of ``model`` with the dense ``weights``, in bfloat16."""
    place = model
    if weights is not None:
        place = folder / "scored"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(model, place, ignore=shutil.ignore_patterns("*.safetensors"))
        weights.rename(place / "model.safetensors")
    loaded = open_source(str(place), dtype="bfloat16")
    return list(losses(loaded.library, texts.windows(text, loaded.tokenizer)))


def forward(model: Path, path: Path) -> float:
    """Seconds of one forward of the library itself over the calibration tokens, in batches of 8."""
    from safetensors.torch import load_file

    library, rows = open_source(str(model), dtype="bfloat16").library, load_file(path)["input_ids"]
    with torch.no_grad():
        library(rows[:8])
        begun = time.monotonic()
        for part in rows.split(8):
            library(part)
    return time.monotonic() - begun


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every job with every seed, ours and the peer's in turn."""
    model = builtin_folder("gemma-3-270m")
    tokenizer, peer = open_source(str(model), dtype="bfloat16").tokenizer, python_of(PEER, folder / "peers")
    task = Task(type="text", data=str(given.text)) if given.text else Task(type="text", dataset="text")
    text, test = texts.text_of(task, "train"), texts.evaluation()
    found: dict[str, Any] = {"dense": scored(model, None, test, folder), "runs": []}
    for seed in range(given.seeds):
        path = tokens(text, tokenizer, seed, folder / f"tokens-{seed}.safetensors")
        if not seed:
            found["forward_s"] = forward(model, path)
        for name in given.only:
            asked = JOBS[name] | {"model": str(model), "tokens": str(path), "threads": torch.get_num_threads()}
            sides = {"ours": Path(sys.executable)} | ({PEER: peer} if name in LEAD else {})
            for side in sides if seed % 2 else reversed(sides):
                row = job(sides[side], side, asked, folder / f"{name}-{side}")
                row["losses"] = scored(model, folder / f"{name}-{side}" / "model.safetensors", test, folder)
                found["runs"].append({"job": name, "side": side, "seed": seed, **row})
                print(name, side, seed, {k: v for k, v in row.items() if k != "losses"}, perplexity(row["losses"]),
                      flush=True)  # fmt: skip
                (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
    return found


def perplexity(nll: list[float]) -> float:
    return math.exp(statistics.fmean(nll))


def compared(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each job: speed by both clocks, perplexity by pairs of windows (all seeds), bytes, memory."""
    rows = []
    for name in dict.fromkeys(run["job"] for run in found["runs"]):
        sides = {side: [run for run in found["runs"] if (run["job"], run["side"]) == (name, side)]
                 for side in ("ours", PEER)}  # fmt: skip
        ours, theirs = sides["ours"], sides[PEER]
        figures = ("fitted_s", "whole_s", "peak_bytes", "weight_bytes")
        row: dict[str, Any] = {"job": name, "seeds": len(ours), "ppl": statistics.median(ppl(ours))}
        row |= {key: middle(ours, key) for key in figures}
        if theirs:
            for clock in ("fitted_s", "whole_s"):
                ratio = of_repeats([run[clock] for run in ours], [run[clock] for run in theirs])
                row |= {
                    f"peer_{clock}": middle(theirs, clock),
                    f"{clock}_lead": ratio.value,
                    f"{clock}_lead_low": ratio.low,
                }
            each = [of_windows(b["losses"], a["losses"]) for a, b in zip(ours, theirs, strict=True)]
            row |= {"peer_ppl": statistics.median(ppl(theirs)), "ppl_ratio": statistics.median(r.value for r in each),
                    "ppl_ratio_high": max(r.high for r in each), "peer_peak_bytes": middle(theirs, "peak_bytes"),
                    "peer_weight_bytes": middle(theirs, "weight_bytes")}  # fmt: skip
        rows.append(row)
    return rows


def ppl(runs: list[dict[str, Any]]) -> list[float]:
    return [perplexity(run["losses"]) for run in runs]


def middle(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def said(rows: list[dict[str, Any]], found: dict[str, Any]) -> dict[str, Any]:
    """The last line."""
    by = {row["job"]: row for row in rows}
    made: dict[str, Any] = {"dense_ppl": perplexity(found["dense"]), "forward_s": found.get("forward_s")}
    for name in LEAD:
        if name in by:
            made |= {f"{name}_speedup": by[name]["fitted_s_lead"], f"{name}_speedup_whole": by[name]["whole_s_lead"],
                     f"{name}_ppl": by[name]["ppl"], f"{name}_ppl_best_peer": by[name]["peer_ppl"],
                     f"{name}_ppl_ratio_high": by[name]["ppl_ratio_high"]}  # fmt: skip
    if "full4" in by and "gptq4" in by:
        made |= {"full4_ppl": by["full4"]["ppl"],
                 "folder_ratio": by["full4"]["weight_bytes"] / by["gptq4"]["peer_weight_bytes"]}  # fmt: skip
    if "gptq4" in by:
        made["peak_memory_ratio"] = by["gptq4"]["peak_bytes"] / by["gptq4"]["peer_peak_bytes"]
        made["forwards"] = by["gptq4"]["fitted_s"] / found["forward_s"]
    return made


HEAD = ("job", "seconds", "peer's", "times as fast (at least)", "command, s", "peer's", "perplexity", "peer's",
        "ratio (at most)", "peak MB", "peer's", "weights MB", "peer's")  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    def of(key: str, form: str = ".1f", by: float = 1.0) -> str:
        return format(row[key] / by, form) if key in row else ""

    lead, ratio = "", ""
    if "peer_ppl" in row:
        lead = f"{row['fitted_s_lead']:.2f} ({row['fitted_s_lead_low']:.2f})"
        ratio = f"{row['ppl_ratio']:.3f} ({row['ppl_ratio_high']:.3f})"
    return [row["job"], of("fitted_s"), of("peer_fitted_s"), lead, of("whole_s"), of("peer_whole_s"), of("ppl", ".2f"),
            of("peer_ppl", ".2f"), ratio, of("peak_bytes", ".0f", 1e6), of("peer_peak_bytes", ".0f", 1e6),
            of("weight_bytes", ".0f", 1e6), of("peer_weight_bytes", ".0f", 1e6)]  # fmt: skip


def page(rows: list[dict[str, Any]], found: dict[str, Any], given: argparse.Namespace) -> str:
    """The kept file."""
    machine, versions = facts(), ", ".join(PEERS[PEER])
    lines = [list(HEAD), ["---", *["---:"] * (len(HEAD) - 1)], *map(cells, rows)]
    forwards, dense = found["forward_s"], perplexity(found["dense"])
    text = "a given text" if given.text else "the standard library's docstrings"
    return "\n".join([
        "# Measured: quantizing and pruning Gemma 3 270M beside llm-compressor", "",
        f"Written by `make bench-quantize` on {datetime.now(UTC):%Y-%m-%d} on {machine.processor}, {machine.threads} "
        f"threads; the peer: {versions}. 64 windows of 512 tokens of {text}, {given.seeds} draws of them; groups of "
        f"128. Perplexity on 24 windows of Python's language reference, {dense:.2f} as it came; one forward of the "
        f"library over the calibration tokens takes {forwards:.1f} s. The model comes from a 4-to-6-bit file, which "
        "flatters 4-bit grids that happen to agree with its own. `full4` has embedding and head quantized too.", "",
        *("| " + " | ".join(line) + " |" for line in lines), "",
    ])  # fmt: skip


def main() -> None:
    """All jobs, the table, the kept page of a whole run, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--out", type=Path, default=Path("runs/bench-quantize"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    found = measure(given, given.out.resolve())
    rows = compared(found)
    table = Table(*HEAD)
    for row in rows:
        table.add_row(*cells(row))
    Console(width=170).print(table)
    if len(given.only) == len(JOBS):
        PAGE.write_text(page(rows, found, given), encoding="utf-8")
    print(json.dumps(said(rows, found)))


if __name__ == "__main__":
    main()
