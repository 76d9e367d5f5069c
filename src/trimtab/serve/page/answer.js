// One answer on the page: who answers, the words as they come, what went wrong, and its numbers and policies.
import { make, say } from "./element.js";
import { show } from "./prose.js";
import { plural, policies, seconds, short, speed } from "./words.js";

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

  /** `does`: `{retry, copy}`, what the buttons do. */
  constructor(answer, id, does) {
    const { model } = answer;
    this.answer = answer;
    this.text = make("div", { class: "text" });
    this.wait = make("p", { class: "wait" });
    this.wrong = make("p", { class: "wrong", hidden: true });
    this.numbers = list("numbers", "Numbers");
    this.policies = list("policies", "What is on");
    this.copy = button("Copy", `Copy the answer of ${model.id}`, does.copy);
    this.retry = button("Retry", `Retry ${model.id}`, does.retry);
    this.node = make("article", { class: "answer", "aria-labelledby": id },
      make("div", { class: "who" }, make("h3", { id }, model.id),
        make("span", { class: `kind is-${model.kind}` }, model.kind)),
      this.text, this.wait, this.wrong, this.numbers, this.policies,
      make("div", { class: "buttons" }, this.copy, this.retry));
    this.begin("");
  }

  /** Empty again; `words` say what it waits for. */
  begin(words) {
    clearInterval(this.#timer);
    show(this.text, "");
    this.node.setAttribute("aria-busy", "true");
    this.wrong.hidden = this.copy.hidden = this.retry.hidden = true;
    this.wait.textContent = words;
    this.wait.hidden = false;
    this.node.classList.remove("is-streaming");
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
      if (this.answer.text) {
        clearInterval(this.#timer);
        this.wait.hidden = true;
        this.node.classList.add("is-streaming");
      }
      show(this.text, this.answer.text);
      fill(this.numbers, numbers(this.answer));
      drawn();
    });
  }

  /** It is over: whole, stopped, or failed with a Failure. Said once, politely. */
  end(failure) {
    const { answer } = this;
    clearInterval(this.#timer);
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    show(this.text, answer.text);
    this.node.removeAttribute("aria-busy");
    this.node.classList.remove("is-streaming");
    this.wait.hidden = Boolean(answer.text || failure);
    this.wait.textContent = answer.ended === "stopped" ? "Stopped before the first word." : "The model answered nothing.";
    fill(this.numbers, failure ? [] : numbers(answer));
    fill(this.policies, this.#on());
    this.copy.hidden = !answer.text;
    if (failure) this.#fail(failure);
    else this.#tell();
  }

  /** Only the last question can be asked again. */
  mayRetry(may) {
    this.retry.hidden = !may;
    if (!may) this.#free();
  }

  /** For good. */
  leave() {
    clearInterval(this.#timer);
  }

  #on() {
    const { model, facts } = this.answer;
    const on = policies(facts?.policies ?? model.policies);
    const engine = facts?.engine ?? model.engine;
    return [...(on.length ? on : ["nothing trimmed"]), ...(engine ? [`engine: ${engine}`] : [])];
  }

  #tell() {
    const { model, ended, text } = this.answer;
    say(`${model.id} ${ended === "stopped" ? "was stopped" : "answered"}: ${short(text || this.wait.textContent)}`);
  }

  #free() {
    clearInterval(this.#timer);
    this.retry.disabled = false;
  }

  #fail(failure) {
    const later = make("span", { class: "later" });
    this.wrong.replaceChildren(failure.message, later);
    this.wrong.hidden = false;
    const wait = failure.wait ? ` It asks to wait ${plural(failure.wait, "second")}.` : "";
    say(`${this.answer.model.id}: ${failure.message}${wait}`);
    if (!failure.wait) return;
    const until = performance.now() + failure.wait * 1000;
    const count = () => {
      const left = Math.ceil((until - performance.now()) / 1000);
      later.textContent = left > 0 ? ` Retry in ${left} s.` : " You can retry now.";
      if (left > 0) return;
      this.#free();
      say("You can retry now.");
    };
    this.retry.disabled = true;
    this.#timer = setInterval(count, 250);
    count();
  }
}
