/**
 * What was asked and answered. A turn is one question with its pictures and an answer from each model that was asked;
 * a model is told its own earlier answers where it gave some, else a whole one of another model.
 */
export class Conversation {
  turns = [];

  add(text, pictures, models) {
    const turn = turnOf(text, pictures, models);
    this.turns.push(turn);
    return turn;
  }

  /** The messages that ask `model` the question of `turn`, in OpenAI's form. */
  messages(turn, model, system) {
    const said = system ? [{ role: "system", content: system }] : [];
    for (const { turn: one, answer } of this.#before(turn, model)) {
      said.push({ role: "user", content: content(one, model) }, { role: "assistant", content: answer.text });
    }
    return [...said, { role: "user", content: content(turn, model) }];
  }

  /** How many pictures a next question would bring along from earlier ones; those of what is under way count. */
  pictures(model) {
    const runs = this.turns.filter(({ answers }) => answers.some(({ ended }) => !ended));
    const earlier = new Set([...this.#before(null, model).map(({ turn }) => turn), ...runs]);
    return [...earlier].reduce((sum, { pictures }) => sum + pictures.length, 0);
  }

  /**
   * Turns before this one (all, for one that is not here) that have an answer; chat templates want question and answer
   * in turns, so others are left out. What another model began and broke off is no answer of this one's.
   */
  #before(turn, model) {
    const at = this.turns.indexOf(turn);
    return this.turns.slice(0, at < 0 ? this.turns.length : at).flatMap((one) => {
      const answered = one.answers.filter((answer) => answer.text);
      const answer = answered.find((other) => other.model.id === model.id)
        ?? answered.find(({ ended }) => ended === "whole");
      return answer ? [{ turn: one, answer }] : [];
    });
  }
}

/** A question that was not asked yet. An answer's `ended` is "" until it is whole, stopped, failed or refused. */
export const turnOf = (text, pictures, models) => ({
  text, pictures, answers: models.map((model) => ({ model, ...UNASKED })),
});

/** An answer before it is asked for. */
export const UNASKED = { text: "", reason: null, facts: null, usage: null, seen: null, temperature: null, ended: "" };

const content = ({ text, pictures }, model) => {
  if (!pictures.length || !model.sees) return text;
  return [...pictures.map(({ url }) => ({ type: "image_url", image_url: { url } })), { type: "text", text }];
};
