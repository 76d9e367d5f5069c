// The server as it is now: its limits, its models, its queue and memory; and the token where it asks for one.
import { Failure, get } from "./api.js";
import { make, tell, the, untell } from "./element.js";
import { statusWords } from "./facts.js";

const SLACK = 10;  // seconds by which a server's own time may lag behind this page's before it is taken for another
const NONE = "No model of this server chats.";

export class Server {
  limits = null;
  #known = false;  // the models are those of the server as it runs now
  #locked = false;  // it asks for a token that was not given
  #ran = { seconds: 0, at: 0 };  // for how long it ran when it was last looked at, and when that was
  #open = make("button", { type: "button", onclick: () => this.#unlock("") }, "Enter the token");

  /** `askToken(words)`: a promise of whether one was given; `listed(models, first)`: those that chat are known now. */
  constructor({ settings, askToken, listed }) {
    Object.assign(this, { settings, askToken, listed });
  }

  /** One look at it: its state, and its models where they are not known. */
  async look() {
    const { token } = this.settings;
    if (this.#locked && !token) return;
    try {
      const status = await get("trimtab/status", { token });
      this.limits = status.limits;
      if (this.#isAnother(status.seconds)) this.#known = false;
      if (!this.#known) await this.#load(token);
      this.#line(statusWords(status), false);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#known = false;
      this.#line(error.message, true);
      if (error.kind === "token") await this.#unlock(error.message);
    }
  }

  /** Whether it was started since the last look. */
  #isAnother(seconds) {
    const now = performance.now();
    const { seconds: before, at } = this.#ran;
    this.#ran = { seconds, at: now };
    return seconds < before || seconds < before + (now - at) / 1000 - SLACK;
  }

  async #load(token) {
    const listed = await get("trimtab/models", { token });
    const models = listed.models.filter(({ chat }) => chat);
    this.#known = true;
    this.#locked = false;
    this.listed(models, listed.default);
    if (models.length) untell(NONE);
    else tell(NONE);
  }

  async #unlock(words) {
    this.#locked = true;
    if (await this.askToken(words)) {
      await this.look();
      return;
    }
    this.settings.token = "";
    if (!this.#open.isConnected) the("status").replaceChildren("This server asks for a token. ", this.#open);
  }

  /** The line at the bottom; who stood on its button goes on at the question. */
  #line(words, bad) {
    const held = the("status").contains(document.activeElement);
    the("status").textContent = words;
    the("status").classList.toggle("is-bad", bad);
    if (held) the("question").focus();
  }
}
