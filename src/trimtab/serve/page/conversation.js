/**
 * What was asked and answered. A turn is one question with its pictures and an answer from each model that was asked;
 * a model is told its own earlier answers where it gave some, else those of the first that answered.
 */
export class Conversation {
  turns = [];

  add(text, pictures, models) {
    const answers = models.map((model) => ({ model, text: "", reason: null, facts: null, usage: null, ended: "" }));
    const turn = { text, pictures, answers };
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

  /** How many pictures a next question would bring along from earlier ones. */
  pictures(model) {
    return this.#before(null, model).reduce((sum, { turn }) => sum + turn.pictures.length, 0);
  }

  /** Earlier turns that have an answer; chat templates want question and answer in turns, so others are left out. */
  #before(turn, model) {
    const end = turn ? this.turns.indexOf(turn) : this.turns.length;
    return this.turns.slice(0, end).flatMap((one) => {
      const answered = one.answers.filter((answer) => answer.text);
      const answer = answered.find((other) => other.model.id === model.id) ?? answered[0];
      return answer ? [{ turn: one, answer }] : [];
    });
  }
}

const content = ({ text, pictures }, model) => {
  if (!pictures.length || !model.sees) return text;
  return [...pictures.map(({ url }) => ({ type: "image_url", image_url: { url } })), { type: "text", text }];
};
