// One answer on the page: who answers, the words as they come, what went wrong, and its numbers and policies.
import { make, say } from "./element.js";
import { show } from "./prose.js";
import { done, plural, seconds, short, speed } from "./words.js";
import { Wrong } from "./wrong.js";

const COPIED = 4000;  // milliseconds for which it stands there that the answer was copied

const button = (words, label, does) => make("button", { type: "button", "aria-label": label, onclick: does }, words);
const list = (name, label) => make("ul", { class: name, "aria-label": label, hidden: true });
const fill = (node, items) => {
  node.replaceChildren(...items.map((item) => make("li", {}, item)));
  node.hidden = !items.length;
};

/** What is known of an answer's cost: the server's own figures, and until they are there what this page has seen. */
const numbers = ({ facts, usage, seen, reason, ended }) => {
  const first = facts?.seconds_to_first_token ?? null;
  const image = facts?.image_tokens;
  return [
    facts?.tokens_per_second ? speed(facts.tokens_per_second) : "",
    first !== null ? `${seconds(first)} to the first token` : "",
    first === null && seen ? `${seconds(seen)} to the first token, seen from here` : "",
    usage ? plural(usage.completion_tokens, "token") : "",
    image ? `${image.kept} of ${image.seen} picture tokens kept` : "",
    ended === "stopped" ? "stopped" : "",
    reason === "length" ? "ended at the most tokens" : "",
  ].filter(Boolean);
};

export class AnswerView {
  #timer = 0;
  #frame = 0;
  #copied = 0;

  /** `does`: `{retry, copy}`, what the buttons do; `copy` promises whether it was done. */
  constructor(answer, id, does) {
    const { model } = answer;
    this.answer = answer;
    this.text = make("div", { class: "text" });
    this.wait = make("p", { class: "wait" });
    this.numbers = list("numbers", "Numbers");
    this.policies = list("policies", "What is on");
    this.copy = button("Copy", `Copy the answer of ${model.id}`, async () => this.#tellCopied(await does.copy()));
    this.done = make("small", { class: "done", "aria-hidden": "true" });
    this.retry = button("Retry", `Retry ${model.id}`, does.retry);
    this.wrong = new Wrong(this.retry);
    this.node = make("article", { class: "answer", "aria-labelledby": id },
      make("div", { class: "who" }, make("h3", { id }, model.id),
        make("span", { class: `kind is-${model.kind}` }, model.kind)),
      this.text, this.wait, this.wrong.node, this.numbers, this.policies,
      make("div", { class: "buttons" }, this.copy, this.retry, this.done));
    this.begin("");
  }

  /** To be answered; `words` say what it waits for. An answer that is there already stays until another comes. */
  begin(words) {
    clearInterval(this.#timer);
    this.node.setAttribute("aria-busy", "true");
    this.wrong.hide();
    this.copy.hidden = this.retry.hidden = true;
    this.wait.textContent = words;
    this.wait.hidden = false;
    this.node.classList.remove("is-streaming");
    this.node.classList.toggle("is-old", this.text.hasChildNodes());
    fill(this.numbers, []);
    fill(this.policies, []);
  }

  /** Asked: the seconds are counted until something comes. */
  asked(words) {
    this.begin(words);
    const since = performance.now();
    this.#timer = setInterval(() => {
      this.wait.textContent = `${words}, ${Math.floor((performance.now() - since) / 1000)} s`;
    }, 1000);
  }

  /** More of it has come: drawn once a frame, however many pieces come. */
  streamed(drawn) {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      fill(this.numbers, numbers(this.answer));
      if (!this.answer.text) return;
      clearInterval(this.#timer);
      this.wait.hidden = true;
      this.node.classList.add("is-streaming");
      this.node.classList.remove("is-old");
      show(this.text, this.answer.text);
      drawn();
    });
  }

  /** It is over: whole, stopped, or failed with a Failure; `kept`: what is there is the answer of before. */
  end(failure, kept) {
    const { answer } = this;
    clearInterval(this.#timer);
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    show(this.text, answer.text);
    this.node.removeAttribute("aria-busy");
    this.node.classList.remove("is-streaming", "is-old");
    this.wait.hidden = Boolean(failure || (answer.text && !kept));
    this.wait.textContent = kept ? "Stopped: the answer of before stands."
      : answer.ended === "stopped" ? "Stopped before the first word." : "The model answered nothing.";
    fill(this.numbers, failure && !kept ? [] : numbers(answer));
    fill(this.policies, this.#on());
    this.copy.hidden = !answer.text;
    if (failure) this.wrong.show(failure, answer.model.id, kept ? " The answer of before stands." : "");
    else this.#tell(kept);
  }

  /** Only the last question can be asked again. */
  mayRetry(may) {
    this.retry.hidden = !may;
    if (!may) this.leave();
  }

  /** No one waits for it any more. */
  leave() {
    clearInterval(this.#timer);
    this.wrong.free();
  }

  #on() {
    const { model, facts } = this.answer;
    const engine = facts?.engine ?? model.engine;
    return [...done(model.kind, facts?.policies ?? model.policies), ...(engine ? [`engine: ${engine}`] : [])];
  }

  /** Said once, politely; of a conversation that was left nothing is. */
  #tell(kept) {
    if (!this.node.isConnected) return;
    const { model, ended, text } = this.answer;
    const words = kept ? this.wait.textContent : short(text || this.wait.textContent);
    say(`${model.id} ${kept || ended === "stopped" ? "was stopped" : "answered"}: ${words}`);
  }

  #tellCopied(copied) {
    clearTimeout(this.#copied);
    this.done.textContent = copied ? "Copied" : "The browser did not let it be copied";
    say(this.done.textContent);
    this.#copied = setTimeout(() => { this.done.textContent = ""; }, COPIED);
  }
}
