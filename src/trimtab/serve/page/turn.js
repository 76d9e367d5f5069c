// One question on the page with the answers under it, side by side where two models were asked.
import { AnswerView } from "./answer.js";
import { make } from "./element.js";
import { plural } from "./words.js";

export class TurnView {
  /** `does`: `{retry(view), copy(view)}`. */
  constructor(turn, number, does) {
    this.turn = turn;
    this.answers = turn.answers.map((answer, at) => {
      const acts = { retry: () => does.retry(view), copy: () => does.copy(view) };
      const view = new AnswerView(answer, `answer-${number}-${at}`, acts);
      return view;
    });
    this.verdict = make("p", { class: "verdict", hidden: true });
    const items = turn.pictures.map(({ thumb }) => make("li", {}, thumb));
    const label = plural(items.length, "picture");
    const pictures = items.length ? [make("ul", { class: "shown", "aria-label": label }, ...items)] : [];
    this.node = make("li", { class: this.answers.length > 1 ? "turn two" : "turn" },
      make("div", { class: "asked" },
        make("h2", { class: "hidden" }, `Question ${number}`),
        ...pictures,
        make("p", { dir: "auto" }, turn.text)),
      make("div", { class: "answers" }, ...this.answers.map(({ node }) => node)),
      this.verdict);
  }

  /** Whether two models said the same, once both are done; of words that were drawn by chance nothing follows. */
  compare() {
    const [one, other] = this.turn.answers;
    const whole = Boolean(other) && this.turn.answers.every(({ ended }) => ended === "whole");
    this.verdict.hidden = !whole;
    if (!whole) return;
    const greedy = this.turn.answers.every(({ temperature }) => temperature === 0);
    const same = one.text.trim() === other.text.trim();
    this.verdict.textContent = !greedy ? "Words were drawn by chance; at temperature 0 the answers can be compared."
      : same ? "Both said the same." : "The answers differ.";
  }

  leave() {
    for (const view of this.answers) view.leave();
  }

  mayRetry(may) {
    for (const view of this.answers) if (view.answer.ended || !may) view.mayRetry(may);
  }
}
