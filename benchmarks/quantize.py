"""``make bench-quantize [TEXT=DIR] [PEERS="..."]``: GPTQ, AWQ and Wanda beside llm-compressor, GPTQModel and NNCF.

    python benchmarks/quantize.py [--text FILE_OR_DIR] [--seeds 3] [--only gptq4 gptq3 awq4 wanda] [--peers nncf ...]
                                  [--windows 64] [--length 512] [--test-windows 24] [--test-length 512]
                                  [--patience 600] [--out FOLDER]

One model and the same tokens. Each job runs in a fresh process, ours and the peers' in turn, and each seed begins with
another side. Two clocks: weights and tokens in memory to trimmed weights in memory (``fitted``), and command start to
synced folder (``whole``; the dense copy for the evaluation is not counted). Like with like: the same bits, group and
zero points, embedding and head left as they are; every perplexity is that of the dense bfloat16 matrices, evaluated
here by one version of transformers on windows of Python's language reference. ``full4`` is ours once more with
embedding and tied head in 4 bits too, in groups of 16 with zeros, held against the peers' ``gptq4``. Ours streams:
matrices stay in the model's files until they are needed, so reading them is within its first clock. Calibration:
windows of ``--text`` at places drawn with each seed, by default the docstrings of the standard library.

Rows are printed as they come and kept in FOLDER/found.json: the same command goes on where it was stopped, as long as
settings and versions are the same; ours and the library's forward as long as the whole tree is, a peer's as long as its
side is and what loads and evaluates here. A peer that does not install, or cannot do a job, is named
with the reason and is in no comparison; so is one that takes more than ``--patience`` seconds for a job, which is
stopped then and asked for no other. One that takes more than ten times as long as ours in the first draw is asked for
that draw alone. A whole run writes docs/measured-quantize.md. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import targets
from compared import OURS, compared, perplexity, said
from finished import Finished, digest, digest_of_files
from jobs import AGAINST, JOBS, SIDES, Failed, Stopped, forward, run, scored, tokens
from peers import PEERS, ready
from trimtab.data import text as texts
from trimtab.data.task import Task
from trimtab.load.builtin import builtin_folder
from trimtab.load.sources import fingerprint, open_source
from trimtab.measure.machine import facts, versions

ROOT = SIDES.parents[1]
PACKAGE = ROOT / "src" / "trimtab"
PAGE = ROOT / "docs" / "measured-quantize.md"
JUDGING = ("load", "data", "evaluate")
"""Of the package: what a peer's row depends on, by which its weights are loaded and evaluated."""
SLOW = 10.0
"""Times ours beyond which a peer's job is run with one draw only."""
HEAD = ("job", "side", "draws", "seconds", "ours is faster by (at least)", "command, s", "perplexity",
        "ours over it (at most)", "peak MB", "weights MB")  # fmt: skip
HELD = ("target", "wanted", "median", "95 % bound", "by the median", "by the bound")


class Bench:
    """One model, its texts and what is finished already."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder = given, folder
        self.model = builtin_folder("gemma-3-270m")
        self.tokenizer = open_source(str(self.model), dtype="bfloat16").tokenizer
        task = Task(type="text", data=str(given.text)) if given.text else Task(type="text", dataset="text")
        self.text, self.test = texts.text_of(task, "train"), texts.evaluation()
        self.finished = Finished(folder / "found.json")
        self.pythons, failed = ready(given.peers, folder / "peers")
        self.not_run = {job: dict(failed) for job in JOBS}
        for peer in self.pythons:
            for job, reason in PEERS[peer].cannot.items():
                self.not_run[job][peer] = reason
        self.depends = digest(
            fingerprint(self.model), texts.digest(self.text), texts.digest(self.test), facts().processor, versions(),
            torch.get_num_threads(), given.windows, given.length, given.test_windows, given.test_length,
            digest_of_files([file for part in JUDGING for file in (PACKAGE / part).rglob("*.py")]),
        )  # fmt: skip
        sources = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.cpp"), SIDES / "ours.py"]
        self.tree = digest_of_files(sources)

    def key(self, side: str, name: str, seed: int) -> str:
        """Of everything that a row depends on."""
        if side == OURS:
            return digest(self.depends, self.tree, side, name, JOBS[name], seed)
        files = [SIDES / f"{side}.py", SIDES / "shared" / "side.py"]
        own = (PEERS[side].pins, PEERS[side].environment, digest_of_files(files))
        return digest(self.depends, side, own, name, JOBS[name], seed)

    def score(self, weights: Path | None) -> list[float]:
        return scored(self.model, weights, self.test, self.folder, self.given.test_windows, self.given.test_length)

    def dense(self) -> list[float]:
        """Losses of the model as it came."""
        key = digest(self.depends, self.tree, "dense")
        found: list[float] = self.finished.get(key) or self.finished.put(key, self.score(None))
        return found

    def tokens(self, seed: int) -> Path:
        place = self.folder / f"tokens-{seed}.safetensors"
        return tokens(self.text, self.tokenizer, seed, place, self.given.windows, self.given.length)

    def forward_s(self) -> float:
        """Seconds of one library forward over the calibration tokens."""
        key = digest(self.depends, self.tree, "forward")
        found: float = self.finished.get(key) or self.finished.put(key, forward(self.model, self.tokens(0)))
        return found

    def order(self, name: str, seed: int) -> list[str]:
        """Who does the job: ours and the peers that can, each seed beginning with another."""
        peers = [peer for peer in self.pythons if name in PEERS[peer].jobs and peer not in self.not_run[name]]
        sides = [OURS, *peers]
        return sides[seed % len(sides) :] + sides[: seed % len(sides)]

    def row(self, side: str, name: str, seed: int, path: Path) -> dict[str, Any]:
        """One finished run: from the file, or made now. Raises Failed."""
        key = self.key(side, name, seed)
        before: dict[str, Any] | None = self.finished.get(key)
        if before is not None:
            return before
        asked = JOBS[name] | {"model": str(self.model), "tokens": str(path), "threads": torch.get_num_threads()}
        folder, python = self.folder / f"{name}-{side}", self.pythons.get(side, Path(sys.executable))
        environment, limit = ({}, None) if side == OURS else (PEERS[side].environment, self.given.patience)
        made = run(python, side, asked, folder, environment, limit)
        made["losses"] = self.score(folder / "model.safetensors")
        row: dict[str, Any] = self.finished.put(key, {"job": name, "side": side, "seed": seed, **made})
        return row


def measure(bench: Bench) -> list[dict[str, Any]]:
    """Every job with every seed. A peer that fails is named, and not asked for that job again; one that was stopped is
    asked for none. Raises Failed where ours does."""
    rows = []
    for seed in range(bench.given.seeds):
        path = bench.tokens(seed)
        for name in bench.given.only:
            for side in bench.order(name, seed):
                if slow(rows, name, side):
                    continue
                try:
                    row = bench.row(side, name, seed, path)
                except Failed as error:
                    if side == OURS:
                        raise
                    for job in JOBS if isinstance(error, Stopped) else (name,):
                        bench.not_run[job].setdefault(side, str(error) if job == name else f"{name}: {error}")
                    print(f"{name} {side} seed {seed}: not run: {error}", flush=True)
                    continue
                rows.append(row)
                shown = {key: value for key, value in row.items() if key not in ("job", "side", "seed", "losses")}
                print(f"{name} {side} seed {seed}: {shown}, perplexity {perplexity(row['losses']):.2f}", flush=True)
    return rows


def slow(rows: Sequence[dict[str, Any]], name: str, side: str) -> bool:
    """Whether the first draw showed that ``side`` takes more than ``SLOW`` times as long for the job as ours."""
    first = {row["side"]: row["fitted_s"] for row in rows if (row["job"], row["seed"]) == (name, 0)}
    return side in first and OURS in first and first[side] > SLOW * first[OURS]


def lines(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The table: for each job ours, the peers that ran, and those that did not, with the reason."""
    made = []
    for row in rows:
        made.append([row["job"], OURS, *cells(row, "", "")])
        for peer, found in row["peers"].items():
            name = peer if AGAINST[row["job"]] == row["job"] else f"{peer} ({AGAINST[row['job']]})"
            low = f"{found['speedup_low']:.2f}" if found["seeds"] > 1 else "one draw"
            lead = f"{found['speedup']:.2f} ({low})"
            ratio = f"{found['ppl_ratio']:.3f} ({found['ppl_ratio_high']:.3f})" if "ppl_ratio" in found else ""
            made.append([row["job"], name, *cells(found, lead, ratio)])
        made += [[row["job"], peer, "", f"not run: {reason}", *[""] * (len(HEAD) - 4)]
                 for peer, reason in row["not_run"].items()]  # fmt: skip
    return made


def cells(of: dict[str, Any], lead: str, ratio: str) -> list[str]:
    return [str(of["seeds"]), f"{of['fitted_s']:.1f}", lead, f"{of['whole_s']:.1f}", f"{of['ppl']:.2f}", ratio,
            f"{of['peak_bytes'] / 1e6:.0f}", f"{of['weight_bytes'] / 1e6:.0f}"]  # fmt: skip


def page(table: Sequence[Sequence[str]], told: dict[str, Any], bench: Bench) -> str:
    """The kept file."""
    machine, given = facts(), bench.given
    peers = "; ".join(", ".join(PEERS[peer].pins) for peer in bench.pythons)
    text = "a given text" if given.text else "the standard library's docstrings"
    body = [HEAD, ["---", "---", *["---:"] * (len(HEAD) - 2)], *table]
    held = [HELD, ["---", "---:", "---:", "---:", "---", "---"], *targets.lines(told["targets"])]
    return "\n".join([
        "# Measured: quantizing and pruning Gemma 3 270M beside its peers", "",
        f"Written by `make bench-quantize` on {datetime.now(UTC):%Y-%m-%d} on {machine.processor}, {machine.threads} "
        f"threads; the peers: {peers}. {given.windows} windows of {given.length} tokens of {text}, {given.seeds} draws "
        f"of them; groups of 128. Perplexity on {given.test_windows} windows of Python's language reference, "
        f"{perplexity(bench.dense()):.2f} as it came; one forward of the library over the calibration tokens takes "
        f"{bench.forward_s():.1f} s. The model comes from a 4-to-6-bit file, which flatters 4-bit grids that happen to "
        "agree with its own. `full4` has embedding and head in 4 bits too, in groups of 16 with zeros; it is held "
        "against the peers' `gptq4`. Ours reads its matrices from the files as it comes to them. A peer that took more "
        f"than {SLOW:g} times as long as ours with the first draw was asked for no other.", "",
        *("| " + " | ".join(line) + " |" for line in body), "",
        "Whether targets were met, by the medians and by their 95 % bounds:", "",
        *("| " + " | ".join(line) + " |" for line in held), "",
    ])  # fmt: skip


def parsed() -> tuple[argparse.Namespace, bool]:
    """What was asked for, and whether it is the whole benchmark, whose table is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    for name, value in (
        ("windows", 64),
        ("length", 512),
        ("test-windows", texts.WINDOWS),
        ("test-length", texts.LENGTH),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--patience", type=float, default=600)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-quantize"))
    given = parser.parse_args()
    free = ("text", "out")
    return given, all(getattr(given, key) == value for key, value in vars(parser.parse_args([])).items()
                      if key not in free)  # fmt: skip


def main() -> None:
    """All jobs, the table, the kept page of a whole run, one line of JSON."""
    given, whole = parsed()
    given.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(given, given.out.resolve())
    dense, forward_s = bench.dense(), bench.forward_s()
    rows = compared(measure(bench), bench.not_run)
    table = Table(*HEAD)
    for line in lines(rows):
        table.add_row(*line)
    held = Table(*HELD)
    told = said(rows, dense, forward_s)
    for line in targets.lines(told["targets"]):
        held.add_row(*line)
    console = Console(width=150)
    console.print(table)
    console.print(held)
    if whole:
        PAGE.write_text(page(lines(rows), told, bench), encoding="utf-8")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
