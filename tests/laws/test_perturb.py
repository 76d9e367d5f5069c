"""Laws of corruptions, over every one that is registered, and for each what its paper's formula gives by hand."""

from __future__ import annotations

import io
import math
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from trimtab import methods, robust

KNOBS = {"noise": {}, "blur": {}, "jpeg": {}, "contrast": {}, "occlusion": {}}
RANDOM = {"noise", "occlusion"}
SEVERITIES = (1, 2, 3, 4, 5)
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)

every = pytest.mark.parametrize("name", KNOBS)
at_each = pytest.mark.parametrize("severity", SEVERITIES)


def made(name: str, severity: int):
    return methods.make(name, {"severity": severity, **KNOBS[name]})


def random_picture(seed: int, size: tuple[int, int] | None = None, mode: str = "RGB") -> Image.Image:
    """Coarse random patches with finer ones on them, as pictures have, from black to white."""
    draw = np.random.default_rng(seed)
    wide, high = size or draw.integers(64, 112, 2).tolist()
    shape = (3,) if mode == "RGB" else ()
    layers = []
    for cells in (4, 16, 64):
        few = draw.integers(0, 256, (cells, cells, *shape), dtype=np.uint8)
        layers.append(np.asarray(Image.fromarray(few).resize((wide, high), Image.Resampling.BICUBIC), dtype=float))
    return Image.fromarray(np.clip(sum(layers) - 255, 0, 255).astype(np.uint8))


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64)


def changed(one: Image.Image, other: Image.Image) -> float:
    return float(((array(one) - array(other)) ** 2).mean())


def test_the_laws_see_every_corruption() -> None:
    assert set(KNOBS) == set(robust.METHODS) == set(methods.of("robust"))
    assert set(KNOBS) > RANDOM


@every
@at_each
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_size_mode_and_range_stay_and_nothing_is_done_in_place(name: str, severity: int, mode: str) -> None:
    for seed in range(6):
        image = random_picture(seed, mode=mode)
        image.info["text"] = "where it was taken"
        before = image.tobytes()
        out = made(name, severity)(image, seed)
        assert out is not image
        assert image.tobytes() == before
        assert (out.size, out.mode) == (image.size, mode)
        assert out.getbands() == image.getbands()
        assert out.info == {}
        assert np.asarray(out).dtype == np.uint8  # 0 to 255: the ball of a picture


@every
@at_each
def test_the_same_seed_gives_the_same_picture_whatever_happened_before(name: str, severity: int) -> None:
    image = random_picture(3)
    first = made(name, severity)(image, 11)
    np.random.seed(5)
    state = np.random.get_state()
    made(name, severity)(random_picture(4), 12)
    assert made(name, severity)(image.copy(), 11).tobytes() == first.tobytes()
    now = np.random.get_state()
    assert (now[1].tolist(), now[2]) == (state[1].tolist(), state[2]), "it draws from a generator of its own"


@every
@at_each
def test_another_seed_gives_another_picture_where_it_is_random(name: str, severity: int) -> None:
    image = random_picture(3)
    found = {made(name, severity)(image, seed).tobytes() for seed in (0, 1, 2, 1 << 63)}
    assert len(found) == (4 if name in RANDOM else 1)


@every
def test_severity_is_monotone(name: str) -> None:
    """The mean squared change over 20 random pictures rises from one severity to the next, from above 0."""
    pictures = [random_picture(seed) for seed in range(20)]
    means = [
        float(np.mean([changed(image, made(name, severity)(image, seed)) for seed, image in enumerate(pictures)]))
        for severity in SEVERITIES
    ]
    assert means[0] > 0
    assert all(less < more for less, more in pairwise(means)), means


@every
@pytest.mark.parametrize("bad", [0, 6, -1, True])
def test_another_severity_is_an_error_that_says_what_is_accepted(name: str, bad: int) -> None:
    kind = methods.get(name)
    said = rf"severity: got {bad!r}; accepted: 1, 2, 3, 4, 5"
    with pytest.raises(ValueError, match=said):
        kind(severity=bad).check()
    with pytest.raises(ValueError, match=said):
        kind(severity=bad)(random_picture(0), 0)


@every
@pytest.mark.parametrize("mode", ["RGBA", "P", "I", "F", "1", "CMYK"])
def test_another_mode_is_an_error_that_says_what_is_accepted(name: str, mode: str) -> None:
    with pytest.raises(ValueError, match=f"image: got mode '{mode}'; accepted: L, RGB"):
        made(name, 3)(Image.new(mode, (9, 7)), 0)


@every
@at_each
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (2, 300)])
def test_the_smallest_pictures_come_through(name: str, severity: int, size: tuple[int, int]) -> None:
    assert made(name, severity)(random_picture(0, size), 0).size == size


def clipped_moments(mean: float, s: float) -> tuple[float, float]:
    """Mean and variance of N(mean, s^2) cut to 0 to 255, from its closed form."""

    def phi(z: float) -> float:
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    def below(z: float) -> float:
        return 0.5 * (1 + math.erf(z / math.sqrt(2)))

    a, b = -mean / s, (255 - mean) / s
    inside = below(b) - below(a)
    first = mean * inside - s * (phi(b) - phi(a)) + 255 * (1 - below(b))
    square = (mean**2 + s**2) * inside - 2 * mean * s * (phi(b) - phi(a)) - s**2 * (b * phi(b) - a * phi(a))
    square += 255**2 * (1 - below(b))
    return first, square - first**2


@at_each
@pytest.mark.parametrize("grey", [128, 20, 230])
def test_noise_has_the_variance_of_its_table(severity: int, grey: int) -> None:
    """On 786,432 values of one grey: mean and variance within 5 standard errors, and no value knows its neighbour."""
    out = array(made("noise", severity)(Image.new("RGB", (512, 512), (grey, grey, grey)), 7))
    mean, variance = clipped_moments(grey, 255 * (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1])
    n = out.size
    assert out.mean() == pytest.approx(mean, abs=5 * math.sqrt(variance / n))
    kurtosis = float(((out - out.mean()) ** 4).mean()) / out.var() ** 2
    assert out.var() == pytest.approx(variance, rel=5 * math.sqrt((kurtosis - 1) / n) + 1 / 12 / variance)
    rest = out - out.mean()
    for one, other in ((rest[1:], rest[:-1]), (rest[:, 1:], rest[:, :-1]), (rest[..., 1:], rest[..., :-1])):
        assert abs(float((one * other).mean())) < 5 * variance / math.sqrt(other.size)


def slow_blur(x: np.ndarray, radius: float) -> np.ndarray:
    """sum over (i, j) of g(i, j) x[clamped(row + i), clamped(column + j)], g ~ exp(-(i^2 + j^2) / (2 radius^2))."""
    reach = math.ceil(4 * radius)
    rows, columns = x.shape[:2]
    total, weight = np.zeros_like(x), 0.0
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            g = math.exp(-(i * i + j * j) / (2 * radius * radius))
            at = np.clip(np.arange(rows) + i, 0, rows - 1), np.clip(np.arange(columns) + j, 0, columns - 1)
            total += g * x[at[0]][:, at[1]]
            weight += g
    return total / weight


@at_each
def test_blur_is_the_slow_convolution(severity: int) -> None:
    for seed, size in enumerate([(224, 260), (70, 64), (40, 90)]):
        image = random_picture(seed, size)
        radius = (1, 2, 3, 4, 6)[severity - 1] * min(size) / 224
        found = array(made("blur", severity)(image, 0))
        assert np.abs(found - slow_blur(array(image), radius)).max() <= 0.5 + 1e-3  # rounded, and nothing else


def test_blur_of_a_point_and_of_a_step_by_hand() -> None:
    """224 pixels, severity 1: radius 1. exp(-1/2) and exp(-2), exp(-9/2), exp(-8) against 1."""
    line = [math.exp(-0.5 * i * i) for i in range(-4, 5)]
    point = Image.new("L", (224, 224))
    point.putpixel((100, 50), 255)
    out = array(made("blur", 1)(point, 0))
    assert out[50, 100] == round(255 / sum(line) ** 2) == 41
    assert out[50, 101] == out[49, 100] == round(255 * math.exp(-0.5) / sum(line) ** 2) == 25
    assert out[51, 102] == round(255 * math.exp(-2.5) / sum(line) ** 2) == 3
    assert (array(made("blur", 5)(Image.new("L", (224, 224), 77), 0)) == 77).all(), "edges repeat; they do not darken"


@at_each
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_is_what_pillow_writes_at_that_quality(severity: int, mode: str) -> None:
    image = random_picture(severity, mode=mode)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=(25, 18, 15, 10, 7)[severity - 1])
    assert made("jpeg", severity)(image, 0).tobytes() == Image.open(file).tobytes()


def test_contrast_of_two_pixels_by_hand() -> None:
    """(0, 40, 250) and (200, 60, 250) have the mean (100, 50, 250); at severity 3 a fifth of the distance is left."""
    image = Image.new("RGB", (2, 1))
    image.putpixel((0, 0), (0, 40, 250))
    image.putpixel((1, 0), (200, 60, 250))
    out = made("contrast", 3)(image, 0)
    assert [out.getpixel((0, 0)), out.getpixel((1, 0))] == [(80, 48, 250), (120, 52, 250)]


@at_each
def test_contrast_pixel_by_pixel(severity: int) -> None:
    left = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    image = random_picture(9, (31, 17))
    out = made("contrast", severity)(image, 0)
    for band, found in zip(image.split(), out.split(), strict=True):
        given = list(band.tobytes())
        mean = math.fsum(given) / len(given)
        for was, now in zip(given, found.tobytes(), strict=True):
            assert abs(now - (mean + left * (was - mean))) <= 0.5 + 1e-4


@at_each
def test_occlusion_hides_one_rectangle_of_its_share(severity: int) -> None:
    """On a picture of one value that chance hardly repeats in three channels: all of the rectangle, nothing beside."""
    share = SHARES[severity - 1]
    for seed in range(8):
        image = Image.new("RGB", (200, 120), (1, 2, 3))
        hidden = (array(made("occlusion", severity)(image, seed)) != (1, 2, 3)).any(-1)
        rows, columns = np.flatnonzero(hidden.any(1)), np.flatnonzero(hidden.any(0))
        high, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert hidden.sum() == high * wide, "one whole rectangle"
        assert abs(high - 120 * math.sqrt(share)) <= 0.5
        assert abs(wide - 200 * math.sqrt(share)) <= 0.5
        assert hidden.mean() == pytest.approx(share, rel=0.03)


def test_occlusion_lies_anywhere_and_is_filled_with_every_value() -> None:
    """Over 400 seeds each place that fits is taken about as often, the corners too; values are uniform."""
    image = Image.new("L", (10, 10), 0)
    tops, values = [], []
    for seed in range(400):
        out = np.asarray(made("occlusion", 5)(image, seed))
        rows, columns = np.flatnonzero(out.any(1)), np.flatnonzero(out.any(0))
        tops.append((int(rows[0]), int(columns[0])))
        values.append(out[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].ravel())
    counts = np.bincount([4 * top + left for top, left in tops], minlength=16)
    assert len(counts) == 16
    assert counts.min() >= 8, counts  # 25 expected of each of 4 x 4 places for 7 x 7 in 10 x 10
    every_value = np.concatenate(values)
    assert every_value.mean() == pytest.approx(127.5, abs=5 * 73.9 / math.sqrt(len(every_value)))
    assert (every_value.min(), every_value.max()) == (0, 255)
