"""Names, rounding, units and the words of a change."""

from __future__ import annotations

import math
import random

import pytest

from trimtab.report.figures import change, kind, label
from trimtab.report.say import interval, plain, points, say, times


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2_134_000, "bytes", "2.13 MB"), (999_600, "bytes", "1.00 MB"), (512, "bytes", "512 B"),
        (7_825_408.5, "bytes", "7.83 MB"), (0, "bytes", "0 bytes"), (1.6e10, "bytes", "16.0 GB"),
        (0.01234, "s", "12.3 ms"), (0.9996, "s", "1.00 s"), (4.2e-6, "s", "4.20 µs"), (150.0, "s", "2.5 min"),
        (7200.0, "s", "2.0 h"), (0.973, "share", "97.3 %"), (1.0, "share", "100.0 %"), (0.9997, "share", "99.97 %"),
        (0.0003, "share", "0.03 %"), (0.0, "share", "0.0 %"), (3_912_704, "count", "3.91 million"),
        (41, "count", "41"), (1.9713e9, "flop", "1.97 GFLOP"), (21.374, "", "21.4"), (18, "GB/s", "18 GB/s"),
        (2.5e11, "op/s", "250 GOP/s"),
        (1.8e10, "bytes/s", "18.0 GB/s"),
        (math.nan, "s", "not finite"), (math.inf, "bytes", "not finite"), (None, "s", "not measured"),
    ],
)  # fmt: skip
def test_say(value: float | None, unit: str, text: str) -> None:
    assert say(value, unit) == text


def test_plain_keeps_three_digits_of_any_number() -> None:
    rng = random.Random(1)
    for _ in range(400):
        value = rng.choice((-1, 1)) * 10 ** rng.uniform(-9, 17)
        read = float(plain(value).replace(",", "").replace("\u2212", "-"))
        assert abs(read - value) <= 0.0051 * abs(value)


def test_interval_says_the_unit_once() -> None:
    assert interval((0.965, 0.979), "share") == "96.5 to 97.9 %"
    assert interval((0.0009, 0.0011), "s") == "900 µs to 1.10 ms"
    assert interval(None, "s") == ""


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.29, "0.29x"), (0.043, "0.043x"), (1.0, "1.00x"), (1.04, "1.04x"), (1.4, "1.4x"), (12.3, "12x"),
     (0.996, "1.00x"), (1500.0, "1,500x"), (math.nan, "not finite")],
)  # fmt: skip
def test_times(ratio: float, text: str) -> None:
    assert times(ratio) == text


@pytest.mark.parametrize(("share", "text"), [(-0.0025, "\u22120.2 pt"), (0.013, "+1.3 pt"), (0.0, "0.0 pt"),
                                             (0.0003, "+0.03 pt"), (-0.0003, "\u22120.03 pt")])  # fmt: skip
def test_points(share: float, text: str) -> None:
    assert points(share) == text


@pytest.mark.parametrize(
    ("name", "before", "after", "text", "tone"),
    [
        ("latency.decode.b1", 0.01, 0.014, "1.4x SLOWER", "bad"), ("latency.decode.b1", 0.014, 0.01, "0.71x", "good"),
        ("bytes.weights", 10.0, 2.9, "0.29x", "good"), ("bytes.weights", 2.9, 3.1, "1.07x LARGER", "bad"),
        ("memory.peak", 1.0, 2.0, "2.0x MORE", "bad"), ("flops.prefill", 2.0, 1.0, "0.50x", "good"),
        ("perplexity.text", 20.0, 21.0, "1.05x WORSE", "bad"), ("accuracy.x", 0.9, 0.88, "\u22122.0 pt LOWER", "bad"),
        ("accuracy.x", 0.88, 0.9, "+2.0 pt", "good"), ("parameters", 10.0, 8.0, "0.80x", "quiet"),
        ("accuracy.x.missing", 0.6, 0.5, "\u221210.0 pt", "quiet"),
        ("accuracy.x.noise3", 0.6, 0.5, "\u221210.0 pt LOWER", "bad"),
        ("bytes.weights16", 1.0, 2.0, "2.0x", "quiet"),
        ("latency.x", 1.0, 1.0, "same", "quiet"), ("latency.x", 1.0, None, "", "quiet"),
        ("latency.x", 1.0, math.nan, "NOT FINITE", "bad"), ("latency.x", 0.0, 1.0, "from zero", "warn"),
    ],
)  # fmt: skip
def test_change(name: str, before: float, after: float | None, text: str, tone: str) -> None:
    assert change(name, before, after) == (text, tone, "")


def test_overlapping_intervals_claim_nothing() -> None:
    far = change("latency.x", 1.0, 1.4, ((0.9, 1.1), (1.3, 1.5)))
    near = change("latency.x", 1.0, 1.4, ((0.9, 1.35), (1.3, 1.5)))
    assert far == ("1.4x SLOWER", "bad", "")
    assert near == ("1.4x", "quiet", "intervals overlap")


@pytest.mark.parametrize(
    ("name", "words"),
    [("latency.prefill.b8", "Prefill time, batch 8"), ("latency.decode.b1", "Decode time per token, batch 1"),
     ("flops.vision", "Vision arithmetic"), ("memory.peak", "Peak memory"), ("bytes.weights", "Weights"),
     ("accuracy.easyvqa", "Accuracy, easyvqa"), ("perplexity.text", "Perplexity, text"), ("parameters", "Parameters"),
     ("accuracy.easyvqa.blind_table", "Accuracy, easyvqa, from the question alone"), ("odd.thing", "odd.thing"),
     ("accuracy.easyvqa.noise3", "Accuracy, easyvqa, noise, severity 3"),
     ("accuracy.easyvqa.missing", "Accuracy, easyvqa, image missing"),
     ("accuracy.easyvqa.clean", "Accuracy, easyvqa, as it is, the same questions"),
     ("bytes.weights16", "Weights before trimming, in 16 bits"), ("accuracy", "Accuracy"), ("latency", "Time")],
)  # fmt: skip
def test_label(name: str, words: str) -> None:
    assert label(name) == words


def test_kind_does_not_match_half_a_word() -> None:
    assert kind("accuracyx").better == "neither"
    assert kind("bytes.weights16").better == "neither"
    assert kind("bytes.weights").better == "lower"
