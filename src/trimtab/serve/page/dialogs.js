// The three boxes: settings, the token, the run's report. Each is a <dialog>: it holds the focus and gives it back.
import { ask, Failure } from "./api.js";
import { the } from "./element.js";

const closes = (box) => {
  for (const button of box.querySelectorAll(".close")) button.addEventListener("click", () => box.close());
};

const FIELDS = ["temperature", "tokens", "seed", "system"];

/** `changed()` is called when something was saved or forgotten. */
export const settingsBox = (settings, limits, changed) => {
  const box = the("settings-box");
  closes(box);
  the("settings").addEventListener("click", () => {
    for (const name of FIELDS) the(name).value = settings.get(name);
    const most = limits()?.tokens;
    if (most) the("tokens").max = most;
    the("tokens-most").textContent = most ? `the server gives up to ${most}` : "";
    the("forget").hidden = !settings.token;
    box.showModal();
  });
  the("settings-form").addEventListener("submit", (event) => {
    event.preventDefault();
    settings.set(Object.fromEntries(FIELDS.map((name) => [name, the(name).value])));
    box.close();
    changed();
  });
  the("forget").addEventListener("click", () => {
    settings.token = "";
    box.close();
    changed();
  });
};

/** A function that asks for the token, with the words that say why, and promises whether one was given. */
export const tokenBox = (settings) => {
  const box = the("token-box");
  let asked = null;
  let given = false;
  closes(box);
  the("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    settings.token = the("token").value.trim();
    given = true;
    box.close();
  });
  return (words) => {
    asked ??= new Promise((resolve) => {
      given = false;
      the("token").value = "";
      the("token-wrong").hidden = !settings.token;
      the("token-wrong").textContent = settings.token ? words : "";
      box.addEventListener("close", () => { asked = null; resolve(given); }, { once: true });
      box.showModal();
    });
    return asked;
  };
};

/**
 * The report of a model. Without a token the server shows it in the frame as it is. A frame cannot bring a token along,
 * so with one the report is fetched and shown without its scripts, which is what it is made for: every plot is also a
 * still drawing. Its styles are handed over as sheets, since this page's policy lets no style stand in markup.
 */
export const reportBox = (settings) => {
  const box = the("report-box");
  const [frame, link, words] = [the("report-frame"), the("report-link"), the("report-words")];
  let saved = "";
  closes(box);
  box.addEventListener("close", () => {
    frame.removeAttribute("src");
    frame.removeAttribute("srcdoc");
    URL.revokeObjectURL(saved);
  });
  const fetched = async (path, model) => {
    const text = await (await ask(path, { token: settings.token })).text();
    saved = URL.createObjectURL(new Blob([text], { type: "text/html" }));
    const name = `${model.id.replace(/[^\w.-]+/g, "-")}-report.html`;
    Object.assign(link, { href: saved, download: name, textContent: "Save it" });
    frame.setAttribute("sandbox", "allow-same-origin");
    await still(frame, text);
  };
  return async (model) => {
    const path = model.report.replace(/^\//, "");  // also where a proxy serves all this under a folder
    the("report-title").textContent = frame.title = `Report of ${model.id}`;
    words.hidden = true;
    frame.removeAttribute("sandbox");
    link.removeAttribute("download");
    Object.assign(link, { href: path, textContent: "Open it by itself" });
    box.showModal();
    if (!settings.token) { frame.src = path; return; }
    try {
      await fetched(path, model);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      words.textContent = error.message;
      words.hidden = false;
    }
  };
};

const still = async (frame, text) => {
  const css = [];
  const bare = text.replace(/<script\b[^>]*>[^]*?<\/script>/gi, "")
    .replace(/<style\b[^>]*>([^]*?)<\/style>/gi, (_, rules) => { css.push(rules); return ""; });
  const loaded = new Promise((resolve) => { frame.addEventListener("load", resolve, { once: true }); });
  frame.srcdoc = bare;
  await loaded;
  const { contentDocument: inside, contentWindow } = frame;
  inside.adoptedStyleSheets = css.map((rules) => {
    const sheet = new contentWindow.CSSStyleSheet();
    sheet.replaceSync(rules);
    return sheet;
  });
};
