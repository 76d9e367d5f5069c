// What went wrong with an answer; and where the server asks to wait, the seconds until it may be asked again.
import { make, say } from "./element.js";
import { plural } from "./words.js";

export class Wrong {
  #timer = 0;
  #later = make("span", { class: "later" });

  /** `retry`: the button that has to wait. */
  constructor(retry) {
    this.retry = retry;
    this.node = make("p", { class: "wrong", hidden: true });
  }

  /** `name`: the model that failed; `more`: what is said besides. */
  show(failure, name, more) {
    this.node.replaceChildren(failure.message, more, this.#later);
    this.node.hidden = false;
    const wait = failure.wait ? ` It asks to wait ${plural(failure.wait, "second")}.` : "";
    say(`${name}: ${failure.message}${more}${wait}`);
    if (failure.wait) this.#count(performance.now() + failure.wait * 1000);
  }

  hide() {
    this.free();
    this.node.hidden = true;
  }

  /** No one waits any more: the button is free, and no seconds stand there. */
  free() {
    clearInterval(this.#timer);
    this.retry.disabled = false;
    this.#later.textContent = "";
  }

  #count(until) {
    const count = () => {
      const left = Math.ceil((until - performance.now()) / 1000);
      if (left > 0) {
        this.#later.textContent = ` Retry in ${left} s.`;
        return;
      }
      this.free();
      this.#later.textContent = " You can retry now.";
      say("You can retry now.");
    };
    this.retry.disabled = true;
    this.#timer = setInterval(count, 250);
    count();
  }
}
