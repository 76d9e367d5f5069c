"""Who is compared with whom in ``make bench-decode``, and what is told of it; a side that stays, and one that ends."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

import worker
from decode import Prompts
from decodepage import joined, page, said
from decoding import Side
from pictures import compared
from worker import Ended, Worker

HERE = Path(sys.executable)
EVERY = [Side(name, engine, HERE, Path("x"), name) for name, engine in
         (("ours", "ours"), ("transformers", "transformers"), ("close", "llama.cpp"), ("far", "OpenVINO"))]  # fmt: skip
SECONDS = {"ours": (0.1, 0.5), "transformers": (0.2, 4.0), "close": (0.4, 1.0), "far": (0.01, 0.1)}
LOSSES = {"ours": 2.01, "transformers": 2.0, "close": 2.005, "far": 2.5}


def rows() -> list[dict[str, Any]]:
    """Six rounds whose times are all different."""
    made = []
    for number in range(6):
        for name, (first, after) in SECONDS.items():
            by = 1 + number / 100
            row = {"side": name, "prompt": 404, "first": first * by, "after": after * by, "rate": 63 / (after * by),
                   "resident": 400_000_000}  # fmt: skip
            if name == "ours":
                row |= {"bandwidth": 20e9, "read": 100_000_000, "cache": 1}
            made.append(row)
    return made


def told() -> dict[str, Any]:
    losses = {name: {"some": [value, value + 0.1], "all": [value, value + 0.1]} for name, value in LOSSES.items()}
    del losses["close"]["all"]
    return said(EVERY, {side.name: "as it is" for side in EVERY}, [], rows(), losses, {})


def shown() -> list[dict[str, Any]]:
    """Six of each, in seconds: what ours takes with all tokens, with its policy, again, and of its decoder's prompt."""
    made = []
    for number in range(1, 7):
        by = 1 + number / 100
        for side, what, seconds in (
            ("ours", "", 1.0), ("ours", "policy", 0.5), ("fast", "", 2.0), ("slow", "", 3.0), ("ours", "new", 0.6),
            ("ours", "unknown", 0.6), ("ours", "again", 0.1), ("ours", "decoder", 0.3), ("ours", "keep 0.25", 0.1),
            ("ours", "keep 1.0", 0.31),
        ):  # fmt: skip
            made.append({"side": side, "what": what, "number": number, "first": seconds * by, "whole": seconds * by})
    return made


def test_pictures_are_compared_with_the_fastest_engine() -> None:
    found = compared(shown())
    assert found["best_peer"] == "fast"
    ours = {key: one["value"] for key, one in found["ours"].items()}
    assert ours == pytest.approx({"policy": 4.0, "equal": 2.0, "repeat": 6.0, "keep25": 3.0, "keep100": 0.31 / 0.3})
    assert all(one["low"] < one["value"] < one["high"] for one in found["ours"].values())


def test_where_weights_are_random_bits_say_who_is_as_good() -> None:
    every = [Side(one.name, one.engine, HERE, Path("x"), one.name, {"ours": 8, "close": 8, "far": 4}.get(one.name, 16))
             for one in EVERY]  # fmt: skip
    (one,) = said(every, {side.name: "as it is" for side in EVERY}, [], rows(), None, {})["compared"]
    assert (one["decode_peer"], one["prefill_peer"]) == ("close", "transformers")


def test_the_fastest_as_good_as_ours_is_what_counts() -> None:
    """Not the fastest of all, whose perplexity is another; another one for prompts than for words."""
    (one,) = told()["compared"]
    assert (one["decode_peer"], one["prefill_peer"]) == ("close", "transformers")
    assert (one["decode"], one["prefill"]) == (pytest.approx(2.0), pytest.approx(2.0))
    assert 1.8 < one["decode_low"] < 2.0
    rate = 63 / (0.5 * 1.025)
    assert one["bandwidth_fraction"] == pytest.approx(100e6 * rate / 20e9, rel=1e-3)
    assert one["resident_ratio"] == pytest.approx(400 / (100 + 150))


def test_the_page_has_every_engine_and_the_keys_are_there() -> None:
    parts = {"gemma": told() | {"repeated": {"ours": {"value": 9.0, "low": 8.0, "cold": 0.9, "warm": 0.1}}},
             "pictures": {"grid": compared(shown())}}  # fmt: skip
    found = joined(parts)
    assert {"decode_ratio_best_peer", "bandwidth_fraction", "prefill_ratio_best_peer", "resident_ratio", "peers",
            "vlm_latency_ratio_best_peer", "repeat_ttft_ratio", "keep25_prefill_speedup"} <= set(found)  # fmt: skip
    assert found["repeat_ttft_ratio"] == parts["pictures"]["grid"]["ours"]["repeat"]["low"] < 8
    assert found["resident_ratio"] == pytest.approx(400 / (100 + 150))
    text = page(parts, Namespace(tokens=64, rounds=6, windows=2, prompts=[404]))
    assert "| with its policy | 4.0" in text
    for name in SECONDS:
        assert f"| {name} | as it is |" in text
    assert "2.00 (1.9" in text


def test_no_window_is_handed_out_twice() -> None:
    prompts = Prompts(range(100_000))
    made = [tuple(prompts.next(32)) for _ in range(50)]
    assert len(set(made)) == 50
    assert all(len(one) == 32 for one in made)


def test_a_side_answers_line_by_line_and_says_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SIDES", tmp_path)
    shared = Path(worker.__file__).parent / "sides" / "shared"
    (tmp_path / "shared").symlink_to(shared)
    (tmp_path / "echo.py").write_text(
        "import sys\nfrom asked import answer_all\n"
        "def answer(x):\n    print('noise')\n    return {'twice': 2 * x['n']}\n"
        "answer_all(answer, {'loaded': sys.argv[1]})\n",
        encoding="utf-8",
    )
    with Worker(HERE, "echo.py", ["x"], tmp_path / "log") as one:
        assert one.loaded["loaded"] == "x"
        assert one.loaded["VmRSS"] > 1_000_000
        assert [one.ask({"n": n})["twice"] for n in (1, 5)] == [2, 10]


def test_a_side_that_ends_says_what_it_said_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SIDES", tmp_path)
    (tmp_path / "bad.py").write_text("raise SystemExit('no such model')\n", encoding="utf-8")
    with pytest.raises(Ended, match="no such model"), Worker(HERE, "bad.py", [], tmp_path / "log"):
        pass
