// The boxes for settings and for the token. Each is a <dialog>: it holds the focus and gives it back.
import { the } from "./element.js";

const closes = (box) => {
  for (const button of box.querySelectorAll(".close")) button.addEventListener("click", () => box.close());
};

const FIELDS = ["temperature", "tokens", "seed", "system"];

/**
 * `most()`: tokens of an answer that the server gives at most, null where it is not known; `changed()` is called when
 * something was saved or forgotten.
 */
export const settingsBox = (settings, most, changed) => {
  const box = the("settings-box");
  closes(box);
  the("settings").addEventListener("click", () => {
    for (const name of FIELDS) the(name).value = settings.get(name);
    const tokens = most();
    if (tokens) the("tokens").max = tokens;
    else the("tokens").removeAttribute("max");
    the("tokens-most").textContent = tokens ? `up to ${tokens} here, and fewer where the prompt is long` : "";
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

const PRINTABLE = /^[\x20-\x7e]+$/;  // what a header can carry, and an eye can see

/** A function that asks for the token, with the words that say why, and promises whether one was given. */
export const tokenBox = (settings) => {
  const box = the("token-box");
  const field = the("token");
  let asked = null;
  let given = false;
  const wrong = (words) => {
    the("token-wrong").textContent = words;
    the("token-wrong").hidden = !words;
    field.setAttribute("aria-invalid", String(Boolean(words)));
  };
  closes(box);
  the("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const token = field.value.trim();
    if (!PRINTABLE.test(token)) {
      wrong("A token has only letters from A to Z, digits and plain signs; this one has another, perhaps unseen. "
        + "Type it by hand.");
      field.select();
      return;
    }
    settings.token = token;
    given = true;
    box.close();
  });
  return async (words) => {
    if (!box.open) await asked;  // of a box that was closed just now, and has not said so yet
    asked ??= new Promise((resolve) => {
      given = false;
      wrong(settings.token ? words : "");
      box.addEventListener("close", () => {
        field.value = "";  // it is nowhere on the page but here
        asked = null;
        resolve(given);
      }, { once: true });
      box.showModal();
    });
    return asked;
  };
};
