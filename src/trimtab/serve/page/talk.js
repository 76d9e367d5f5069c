// Asking and answering: what runs now, how it is stopped and asked again, and where it is shown.
import { chat, Failure } from "./api.js";
import { copied } from "./clipboard.js";
import { Conversation, turnOf, UNASKED } from "./conversation.js";
import { the } from "./element.js";
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

  /** Promises the turn, once it is over. Throws Error while another runs. */
  async send(text, pictures, models) {
    if (this.running) throw new Error("a question is under way");
    this.#last = null;
    const view = new TurnView(this.conversation.add(text, pictures, models), this.#views.length + 1,
      { retry: (one) => this.#run(view, [one]), copy: ({ answer }) => copied(answer.text) });
    this.#views.push(view);
    the("turns").append(view.node);
    await this.#run(view, view.answers);
    return view.turn;
  }

  /** Why this question is more than the server takes at once; "" where it is not. */
  tooLarge(text, pictures, models) {
    const turn = turnOf(text, pictures, models);
    return models.map((model) => this.#large(this.#body(turn, model))).find(Boolean) ?? "";
  }

  stop() {
    this.#stopping?.abort();
  }

  /** Begin anew; the conversation that was can be brought back until the next question. */
  clear() {
    the("turns").replaceChildren();  // first, so that what is left is not told of any more
    for (const view of this.#views) view.leave();
    this.stop();
    if (!this.empty) this.#last = { conversation: this.conversation, views: this.#views };
    this.conversation = new Conversation();
    this.#views = [];
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
    const before = new Map(answers.map(({ answer }) => [answer, { ...answer }]));
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
      for (const one of answers) await this.#answer(view, one, this.#stopping.signal, before.get(one.answer));
    } finally {
      this.#stopping = null;
      view.compare();
      if (this.#views.includes(view)) this.#views.at(-1).mayRetry(true);
      if (this.#follow) toEnd();
      this.tools.changed();
    }
  }

  /** `before`: the answer that was there, which stands until a word of the new one comes. */
  async #answer(view, shown, signal, before) {
    const { answer } = shown;
    Object.assign(answer, UNASKED);
    let failure = null;
    try {
      if (!signal.aborted) await this.#stream(view, shown, signal);
      answer.ended = signal.aborted ? "stopped" : "whole";
    } catch (error) {
      if (error instanceof Failure && error.kind === "token" && await this.tools.askToken(error.message)) {
        await this.#answer(view, shown, signal, before);
        return;
      }
      failure = signal.aborted ? null : error;
      answer.ended = signal.aborted ? "stopped" : error.kind === "refused" ? "refused" : "failed";
    }
    const kept = Boolean(before.text) && !answer.text && answer.ended !== "whole";
    if (kept) Object.assign(answer, before);
    shown.end(failure, kept);
    if (failure && !(failure instanceof Failure)) throw failure;  // a fault of this page is not hidden
  }

  #body(turn, model) {
    const { settings } = this.tools;
    return JSON.stringify({
      model: model.id, messages: this.conversation.messages(turn, model, settings.system),
      stream: true, stream_options: { include_usage: true }, ...settings.sampling(),
    });
  }

  #large(body) {
    const size = new Blob([body]).size;
    const most = this.tools.limits().body;
    return size <= most ? "" : `The conversation with its pictures has ${bytes(size)}; the server takes `
      + `${bytes(most)} at once. Begin a new chat, or send fewer pictures.`;
  }

  async #stream(view, shown, signal) {
    const { answer } = shown;
    const { settings } = this.tools;
    const body = this.#body(view.turn, answer.model);
    const large = this.#large(body);
    if (large) throw new Failure("refused", large);
    answer.temperature = settings.sampling().temperature ?? null;
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
