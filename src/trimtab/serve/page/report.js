// The report of a run, in a box over the page.
import { Failure, get } from "./api.js";
import { make, the } from "./element.js";

/**
 * A report is a file that anyone may have written, so its frame is sandboxed: without a token the server shows it by its
 * address, with scripts and no origin. A frame cannot bring a token along, so with one the report is fetched and shown
 * here without scripts, which is what it is made for: every plot is also a still drawing. Then it has this page's origin,
 * for its styles are handed over as sheets (this page's policy, under which it stands, lets none be in markup), and
 * nothing in it can run, leave the frame, or load from elsewhere. Each opening has a frame of its own: the browser's
 * way back stays as it was, and what arrives late has nowhere to go.
 */
export const reportBox = (settings) => {
  const box = the("report-box");
  let close = () => {};
  box.querySelector(".close").addEventListener("click", () => box.close());
  box.addEventListener("close", () => close());
  return async (model) => {
    const { token } = settings;
    const path = model.report.replace(/^\//, "");  // also where a proxy serves all this under a folder
    const opening = new AbortController();
    const frame = make("iframe", { id: "report-frame", title: `Report of ${model.id}`,
      sandbox: token ? "allow-same-origin" : "allow-scripts", src: token ? null : path });
    the("report-title").textContent = frame.title;
    the("report-words").textContent = token ? "Fetching the report…" : "";
    the("report-link").replaceWith(link({ href: path, target: "_blank", rel: "noopener", hidden: Boolean(token) },
      "Open it by itself"));
    close = () => {
      opening.abort();
      frame.remove();
      URL.revokeObjectURL(the("report-link").href);
    };
    box.append(frame);
    box.showModal();
    if (token) await fetched(path, model, frame, { token, signal: opening.signal });
  };
};

const link = (attributes, words) => make("a", { id: "report-link", ...attributes }, words);

const fetched = async (path, model, frame, { token, signal }) => {
  try {
    const text = await get(path, { token, signal, as: "text" });
    const saved = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));  // no browser shows it
    const download = `${model.id.replace(/[^\w.-]+/g, "-")}-report.html`;
    the("report-link").replaceWith(link({ href: saved, download }, "Save it"));
    the("report-words").textContent = "";
    await still(frame, text);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Failure)) throw error;
    the("report-words").textContent = error.message;
  }
};

/** Shows it as it stands. That scripts are taken out spares complaints; that none runs is the sandbox's doing. */
const still = async (frame, text) => {
  const css = [];
  const bare = text.replace(/<script\b[^>]*>[^]*?<\/script>/gi, "")
    .replace(/<style\b[^>]*>([^]*?)<\/style>/gi, (_, rules) => { css.push(rules); return ""; });
  const loaded = new Promise((resolve) => { frame.addEventListener("load", resolve, { once: true }); });
  frame.srcdoc = bare;
  await loaded;
  const { contentDocument: inside, contentWindow } = frame;
  for (const anchor of inside.querySelectorAll("a[href^='#']")) {  // which would else lead to places of this page
    anchor.setAttribute("href", `about:srcdoc${anchor.getAttribute("href")}`);
  }
  inside.adoptedStyleSheets = css.map((rules) => {
    const sheet = new contentWindow.CSSStyleSheet();
    sheet.replaceSync(rules);
    return sheet;
  });
};
