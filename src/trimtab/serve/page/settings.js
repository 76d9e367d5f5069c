// What is kept, in this tab only: the token, and what the next questions are asked with.

const KEY = "trimtab.settings";
const TOKEN = "trimtab.token";
const TEMPERATURE = "0";  // greedily: the answers that were evaluated, and that can be compared
const NONE = { temperature: TEMPERATURE, tokens: "", seed: "", system: "", model: "", compare: false, theme: "" };

/** Session storage, or nothing where the browser has none for this page; then all is forgotten on a reload. */
const stored = (key) => {
  try { return sessionStorage.getItem(key); } catch { return null; }
};
const store = (key, value) => {
  try {
    if (value) sessionStorage.setItem(key, value); else sessionStorage.removeItem(key);
  } catch { /* nothing is kept, and nothing depends on it */ }
};

const parsed = (text) => {
  try { return JSON.parse(text) ?? {}; } catch { return {}; }
};

export class Settings {
  #values = { ...NONE, ...parsed(stored(KEY)) };
  #token = stored(TOKEN) ?? "";

  get token() { return this.#token; }
  set token(value) {
    this.#token = value;
    store(TOKEN, value);
  }

  get system() { return this.#values.system.trim(); }

  get(name) { return this.#values[name]; }

  set(values) {
    Object.assign(this.#values, values);
    store(KEY, JSON.stringify(this.#values));
  }

  /** The members of a request that were set; what was left empty is the server's to choose. */
  sampling() {
    const { temperature, tokens, seed } = this.#values;
    const set = Object.entries({ temperature, max_tokens: tokens, seed }).filter(([, value]) => value !== "");
    return Object.fromEntries(set.map(([name, value]) => [name, Number(value)]));
  }

  /** The same in words, for the line beside the question: what is not as this page has it by itself. */
  said() {
    const { temperature, tokens, seed } = this.#values;
    const warm = temperature === "" ? "the server's temperature" : `temperature ${temperature}`;
    return [temperature !== TEMPERATURE ? warm : "", tokens !== "" ? `at most ${tokens} tokens` : "",
      seed !== "" ? `seed ${seed}` : "", this.system ? "a system prompt" : ""].filter(Boolean).join(", ");
  }
}
