"""Headless Chromium for tests of pages, and what is asked of every page: that it can be read and that it fits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Every visible text with the contrast of its colour to what is painted behind it, by the formula of WCAG 2.
CONTRAST = """() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    const layers = [];
    for (let n = node; n; n = n.parentElement) {
      const c = parse(getComputedStyle(n).backgroundColor);
      layers.push(c);
      if (c[3] === 1) break;
    }
    return layers.reverse().reduce((under, c) => over(c, under), [255, 255, 255, 1]);
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    const skipped = ["SCRIPT", "STYLE", "title", "desc"].includes(node.tagName) || node.closest(".hoverlayer, option");
    if (!walk.currentNode.data.trim() || skipped || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const back = behind(node);
    const ink = over(parse(node.ownerSVGElement ? style.fill : style.color), back);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), walk.currentNode.data.trim().slice(0, 40)]);
  }
  return found;
}"""

# What reaches past the right or left edge of the window and is not inside a container that scrolls on its own.
OUTSIDE = """() => [...document.body.querySelectorAll("*")].filter((node) => {
  if (node.closest(".scroll, pre, .hidden, .skip, script, style, title, desc, .live, #js-plotly-tester")) {
    if (!node.matches(".scroll, pre, .live")) return false;
  }
  const box = node.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map((node) => node.tagName + "." + (node.getAttribute("class") || "") + ": " + node.textContent.slice(0, 40))"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium; where there is none the test fails, for these pages are not tested otherwise."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.fail(
            f"no Chromium on PATH (looked for {', '.join(NAMES)}); Debian: apt-get install chromium", pytrace=False
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def until(page: Page, expression: str) -> None:
    """Wait until an expression holds."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(25)
    pytest.fail(f"never: {expression}")
