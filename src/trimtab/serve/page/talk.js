// Asking and answering: what runs now, how it is stopped and asked again, and where it is shown.
import { chat, Failure } from "./api.js";
import { Conversation } from "./conversation.js";
import { say, the } from "./element.js";
import { TurnView } from "./turn.js";
import { bytes } from "./words.js";

const NEAR = 120;  // so close to the end, in pixels, one is taken to be reading along

const atEnd = () => {
  const { scrollHeight, scrollTop, clientHeight } = document.scrollingElement;
  return scrollHeight - scrollTop - clientHeight < NEAR;
};
const toEnd = () => window.scrollTo(0, document.scrollingElement.scrollHeight);

export class Talk {
  #stopping = null;  // the AbortController of what runs, or null
  #follow = true;
  #views = [];
  #last = null;  // the conversation before this one

  /** `tools`: `settings`, `limits()`, `changed()`, and `askToken(words)`, a promise of whether one was given. */
  constructor(tools) {
    this.tools = tools;
    this.conversation = new Conversation();
    window.addEventListener("scroll", () => { this.#follow = atEnd(); }, { passive: true });
    new ResizeObserver(() => { if (this.#follow) toEnd(); }).observe(the("dock"));  // it covers the end as it grows
  }

  get running() { return this.#stopping !== null; }
  get empty() { return !this.#views.length; }
  get mayGoBack() { return this.empty && this.#last !== null; }

  async send(text, pictures, models) {
    const view = new TurnView(this.conversation.add(text, pictures, models), this.#views.length + 1,
      { retry: (one) => this.#run(view, [one]), copy });
    this.#views.push(view);
    the("turns").append(view.node);
    await this.#run(view, view.answers);
  }

  stop() {
    this.#stopping?.abort();
  }

  /** Begin anew; the conversation that was can be brought back until the next question. */
  clear() {
    this.stop();
    if (!this.empty) this.#last = { conversation: this.conversation, views: this.#views };
    this.conversation = new Conversation();
    this.#views = [];
    the("turns").replaceChildren();
  }

  back() {
    ({ conversation: this.conversation, views: this.#views } = this.#last);
    the("turns").replaceChildren(...this.#views.map(({ node }) => node));
    this.#views.at(-1).mayRetry(true);
    toEnd();
  }

  /** The answers one after another, so that no model slows the other and their times are their own. */
  async #run(view, answers) {
    if (this.running) return;
    this.#stopping = new AbortController();
    for (const one of this.#views) one.mayRetry(false);
    const several = answers.length > 1;
    for (const one of answers) {
      one.answer.ended = "";
      one.begin(several ? "Waits, so that neither slows the other" : "");
    }
    view.compare();
    this.tools.changed();
    the("question").focus();
    toEnd();
    this.#follow = true;
    try {
      for (const one of answers) await this.#answer(view, one, this.#stopping.signal);
    } finally {
      this.#stopping = null;
      view.compare();
      if (this.#views.includes(view)) this.#views.at(-1).mayRetry(true);
      if (this.#follow) toEnd();
      this.tools.changed();
    }
  }

  async #answer(view, shown, signal) {
    const { answer } = shown;
    Object.assign(answer, { text: "", reason: null, facts: null, usage: null, seen: null, ended: "" });
    try {
      if (!signal.aborted) await this.#stream(view, shown, signal);
      answer.ended = signal.aborted ? "stopped" : "whole";
      shown.end(null);
    } catch (error) {
      if (error instanceof Failure && error.kind === "token" && await this.tools.askToken(error.message)) {
        await this.#answer(view, shown, signal);
        return;
      }
      answer.ended = signal.aborted ? "stopped" : "failed";
      shown.end(signal.aborted ? null : error);
      if (!signal.aborted && !(error instanceof Failure)) throw error;  // a fault of this page is not hidden
    }
  }

  async #stream(view, shown, signal) {
    const { answer } = shown;
    const { settings, limits } = this.tools;
    const body = JSON.stringify({
      model: answer.model.id, messages: this.conversation.messages(view.turn, answer.model, settings.system),
      stream: true, stream_options: { include_usage: true }, ...settings.sampling(),
    });
    const size = new Blob([body]).size;
    if (size > limits().body) {
      throw new Failure("refused", `The conversation with its pictures has ${bytes(size)}; the server takes `
        + `${bytes(limits().body)} at once. Begin a new conversation, or send fewer pictures.`);
    }
    shown.asked(`Waits for ${answer.model.id}`);
    const since = performance.now();
    for await (const piece of chat(body, { token: settings.token, signal })) {
      if (piece.text) answer.seen ??= (performance.now() - since) / 1000;
      answer.text += piece.text;
      answer.reason = piece.reason ?? answer.reason;
      answer.facts = piece.facts ?? answer.facts;
      answer.usage = piece.usage ?? answer.usage;
      shown.streamed(() => { if (this.#follow) toEnd(); });
    }
  }
}

const copy = async ({ answer }) => {
  const done = navigator.clipboard ? await navigator.clipboard.writeText(answer.text).then(() => true, () => false)
    : copiedByHand(answer.text);  // browsers keep the clipboard from pages that are not served over https or locally
  say(done ? "Copied" : "The browser did not let it be copied");
};

const copiedByHand = (text) => {
  const before = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before.focus();
  return done;
};
