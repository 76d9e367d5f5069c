// The question on its way out: what is sent and when, what is not, and what comes back to be changed.
import { tell, the, untell } from "./element.js";
import { plural } from "./words.js";

const WAIT = "Wait for the answer, or stop it with Escape.";

export class Composer {
  #reads = false;  // sent already, but for a picture that is still read

  /** `asked()`: the models that would be asked. */
  constructor({ talk, tray, asked }) {
    Object.assign(this, { talk, tray, asked });
    the("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    the("question").addEventListener("keydown", (event) => {
      const composes = event.isComposing || event.keyCode === 229;  // of an input method: Safari says it only so
      if (event.key !== "Enter" || event.shiftKey || composes) return;
      event.preventDefault();
      if (!event.repeat) this.send();
    });
  }

  async send() {
    if (this.#reads || !this.#may()) return;
    this.#reads = true;
    let whole;
    try {
      whole = await this.tray.reading;
    } finally {
      this.#reads = false;
    }
    if (!whole || !this.#may()) return;  // one that could not be read is said to be so: the words wait for another
    const text = the("question").value.trim();
    const models = this.asked();
    const wrong = this.#wrong(text, models);
    tell(wrong);
    if (wrong) {
      the("question").focus();
      return;
    }
    const { sees } = this.tray.now();
    const left = sees ? 0 : this.tray.pictures.length;
    the("question").value = "";  // from here to the turn nothing is awaited: no word that is typed can be lost
    if (left) tell(`${plural(left, "picture")} kept aside: not every model that is asked takes pictures.`);
    const turn = await this.talk.send(text, this.tray.take(), models);
    if (turn.answers.every(({ ended }) => ended === "refused")) this.#putBack(turn);
  }

  /** What was said of an answer under way is not so any more. */
  ended() {
    untell(WAIT);
  }

  #may() {
    if (!this.asked().length) return false;
    if (this.talk.running) tell(WAIT);
    return !this.talk.running;
  }

  /** Why it is not sent, in words, else "". */
  #wrong(text, models) {
    const { tray } = this;
    if (!text) return tray.pictures.length ? "Write a question about the picture." : "Write a question first.";
    return tray.over || this.talk.tooLarge(text, tray.now().sees ? tray.pictures : [], models);
  }

  /** The server refused it: it can be changed, unless another was begun. */
  #putBack({ text, pictures }) {
    if (the("question").value) return;
    the("question").value = text;
    this.tray.putBack(pictures);
    tell("The question is back here, to be changed.");
  }
}
