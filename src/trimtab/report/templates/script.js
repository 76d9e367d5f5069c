"use strict";
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const theme = document.getElementById("theme");
  const said = document.getElementById("said");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const named = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };

  // Plots. A figure is data and layout for plotly; a colour in it is a name of the style sheet, "@after".
  const figures = JSON.parse(document.getElementById("plots").textContent);
  const lives = [...document.querySelectorAll(".live")];
  const coarse = window.matchMedia("(pointer: coarse)").matches;
  const hidden = new Map();  // plot -> names of the series that are not shown
  const places = new WeakMap();  // live -> where the keyboard is
  const shown = (live) => !live.closest(".panel").hidden;

  const painted = (value, style, key = "") => {
    if (Array.isArray(value)) return value.map((one) => painted(one, style, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, painted(one, style, name)]));
    }
    const colour = typeof value === "string" && value[0] === "@" && key.endsWith("color");
    return colour ? style.getPropertyValue("--" + value.slice(1)).trim() : value;
  };

  const draw = (live) => {
    const { data, layout } = painted(figures[live.dataset.chart], getComputedStyle(root));
    const off = hidden.get(live.closest(".plot")) || new Set();
    for (const trace of data) trace.visible = !off.has(trace.meta);
    layout.font.family = getComputedStyle(document.body).fontFamily;
    layout.dragmode = coarse ? false : "zoom";
    layout.uirevision = "kept";  // a zoom outlives a change of theme
    live.style.height = `${layout.height}px`;  // else it has none while it is drawn anew
    live.closest(".panel").classList.add("drawn");
    Plotly.react(live, data, layout, { displayModeBar: false, responsive: true, doubleClick: "reset", showTips: false });
  };
  const redraw = () => lives.filter((live) => live.data).forEach(draw);
  const drawAll = (left) => {
    const next = left.find(shown);
    if (!next) { root.dataset.drawn = "all"; return; }
    draw(next);
    setTimeout(() => drawAll(left.filter((live) => live !== next)), 0);  // the page answers in between
  };

  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; named(); redraw(); });
  dark.addEventListener("change", () => { named(); redraw(); });
  named();

  // The key: a button for each series shows and hides it in all drawings of its plot.
  for (const item of document.querySelectorAll(".legend li")) {
    const plot = item.closest(".plot");
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.append(...item.childNodes);
    item.append(button);
    button.addEventListener("click", () => {
      const off = hidden.get(plot) || new Set();
      hidden.set(plot, off);
      const gone = off.delete(item.dataset.series) ? false : Boolean(off.add(item.dataset.series));
      button.setAttribute("aria-pressed", String(!gone));
      said.textContent = `${item.dataset.series}: ${gone ? "hidden" : "shown"}`;
      lives.filter((live) => plot.contains(live) && live.data).forEach(draw);
    });
  }

  // Drawings that have a choice are shown one choice at a time.
  for (const choose of document.querySelectorAll(".choose")) {
    const select = choose.querySelector("select");
    const panels = [...choose.closest(".plot").querySelectorAll(".panel")];
    const choice = () => {
      for (const panel of panels) panel.hidden = panel.dataset.choice !== select.value;
      const now = lives.filter((live) => panels.some((panel) => !panel.hidden && panel.contains(live)));
      now.forEach((live) => (live.data ? Plotly.Plots.resize(live) : root.dataset.drawn && draw(live)));
    };
    choose.hidden = false;
    select.addEventListener("change", choice);
    choice();
  }

  // The keyboard: arrows go from mark to mark, and what a mark says is read aloud.
  const marks = (live) => live.data
    .map((trace, curve) => ({ curve, trace, points: (trace.customdata || []).map((tip, i) => [tip, i]).filter(([tip]) => tip) }))
    .filter(({ trace, points }) => trace.visible !== false && points.length);
  const go = (live, across, up) => {
    const series = marks(live);
    if (!series.length) return;
    const was = places.get(live) || { series: 0, point: -1 };
    const row = (was.series + up + series.length) % series.length;
    const { curve, trace, points } = series[Math.min(row, series.length - 1)];
    const point = across === Infinity ? points.length - 1 : across === -Infinity ? 0
      : Math.max(0, Math.min(points.length - 1, was.point + across));
    places.set(live, { series: row, point, curve, index: points[point][1] });
    Plotly.Fx.hover(live, [{ curveNumber: curve, pointNumber: points[point][1] }]);
    const head = trace.meta && !points[point][0].includes(trace.meta) ? `${trace.meta}: ` : "";
    said.textContent = `${head}${points[point][0].replaceAll("\n", ", ")} (${point + 1} of ${points.length})`;
  };
  const zoom = (live, factor) => {
    const place = places.get(live);
    const change = {};
    for (const [name, values] of [["xaxis", "x"], ["yaxis", "y"]]) {
      const axis = live.layout[name];
      const log = (value) => (axis.type === "log" ? Math.log10(value) : value);
      if (axis.fixedrange) continue;
      const middle = place ? log(live.data[place.curve][values][place.index]) : (axis.range[0] + axis.range[1]) / 2;
      change[`${name}.range`] = axis.range.map((end) => middle + (end - middle) * factor);
    }
    Plotly.relayout(live, change);
  };
  const whole = (live) => {
    const { layout } = figures[live.dataset.chart];
    Plotly.relayout(live, { "xaxis.range": [...layout.xaxis.range], "yaxis.range": [...layout.yaxis.range] });
  };
  const keys = {
    ArrowRight: (live) => go(live, 1, 0), ArrowLeft: (live) => go(live, -1, 0),
    ArrowDown: (live) => go(live, 0, 1), ArrowUp: (live) => go(live, 0, -1),
    Home: (live) => go(live, -Infinity, 0), End: (live) => go(live, Infinity, 0),
    "+": (live) => zoom(live, 0.5), "=": (live) => zoom(live, 0.5), "-": (live) => zoom(live, 2), 0: whole,
    Escape: (live) => live.blur(),
  };
  for (const live of lives) {
    live.addEventListener("keydown", (event) => {
      const act = keys[event.key];
      if (!act || !live.data || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      act(live);
    });
    live.addEventListener("blur", () => { if (live.data) Plotly.Fx.unhover(live); });
  }

  const select = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  for (const button of document.querySelectorAll("button.copy")) {
    const word = button.firstChild;
    const say = (text) => {
      word.textContent = text;
      said.textContent = text;
      setTimeout(() => { word.textContent = "Copy"; }, 2000);
    };
    button.hidden = false;
    button.addEventListener("click", async () => {
      const node = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(node.textContent);
        say("Copied");
      } catch {
        select(node);
        say("Selected, press Ctrl+C");
      }
    });
  }

  const opened = [];
  window.addEventListener("beforeprint", () => {
    for (const node of document.querySelectorAll("details:not([open])")) { node.open = true; opened.push(node); }
  });
  window.addEventListener("afterprint", () => { while (opened.length) opened.pop().open = false; });

  drawAll(lives);
})();
