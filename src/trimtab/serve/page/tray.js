// The pictures of the next question: given by file, drop or paste; shown small, each with a button that removes it.
import { listen } from "./drops.js";
import { make, say, tell, the } from "./element.js";
import { again, read } from "./pictures.js";
import { plural } from "./words.js";

const size = ({ width, height, was }) => (was ? `scaled down from ${was.width} × ${was.height} to ${width} × ${height}`
  : `${width} × ${height}`);

export class Tray {
  pictures = [];
  reading = Promise.resolve(true);  // until all that was given is read: whether all of it is in
  #waiting = 0;

  /** `now()` gives `{sees, model, limits, earlier}`: what is chosen takes, and how many pictures came before. */
  constructor(now) {
    this.now = now;
    the("add").addEventListener("click", () => the("files").click());
    the("files").addEventListener("change", ({ target }) => {
      this.add([...target.files]);
      target.value = "";  // the same file can be given again
    });
    listen({ takes: () => this.now().sees, given: (files) => this.add(files), vain: () => tell(this.#vain()) });
  }

  /** How many pictures are one too many for a conversation with what is here, in words; "" where none is. */
  get over() {
    const { sees, limits, earlier } = this.now();
    const most = limits?.images ?? Infinity;
    const more = earlier + this.pictures.length - most;
    return sees && this.pictures.length && more > 0
      ? `The server takes ${plural(most, "picture")} in a conversation: remove ${more}, or begin a new chat.` : "";
  }

  add(files) {
    const others = this.#waiting ? this.reading : Promise.resolve(true);
    this.#waiting += 1;
    this.reading = others.then(async (whole) => {
      const all = await this.#take(files);
      this.#waiting -= 1;
      if (!this.#waiting) this.reading = Promise.resolve(true);
      return whole && all;
    });
    return this.reading;
  }

  #vain() {
    const { model } = this.now();
    return model ? `${model} takes no pictures.` : "No model is known yet: give the picture again when one is there.";
  }

  async #take(files) {
    const { sees, limits, earlier } = this.now();
    if (!sees) {
      tell(this.#vain());
      return false;
    }
    tell(files.length > 1 ? "Reading the pictures…" : "Reading the picture…");
    const wrong = [];
    let room = limits.images - earlier - this.pictures.length;
    for (const file of files) {
      if (room <= 0) {
        const most = plural(limits.images, "picture");
        wrong.push(`The server takes ${most} in a conversation: ${file.name} was left out.`);
        continue;
      }
      try {
        this.pictures.push(await read(file, limits));
        room -= 1;
      } catch (error) {
        wrong.push(error.message);
      }
    }
    this.draw();
    tell(wrong.join(" "));
    if (!wrong.length) say(`${plural(this.pictures.length, "picture")} to send`);
    if ([document.body, the("add")].includes(document.activeElement)) the("question").focus();  // else one is elsewhere
    return !wrong.length;
  }

  /** The pictures, which now belong to a question; those kept aside for a model that sees stay. */
  take() {
    const taken = this.now().sees ? this.pictures : [];
    this.pictures = this.pictures.filter((picture) => !taken.includes(picture));
    this.draw();
    return taken;
  }

  /** Pictures of a question that was refused, before what was given since. */
  putBack(pictures) {
    this.pictures = [...pictures.map(again), ...this.pictures];
    this.draw();
  }

  draw() {
    const { sees } = this.now();
    const items = this.pictures.map((picture) => make("li", {},
      picture.thumb,
      make("small", {}, picture.name, make("br"), size(picture)),
      make("button", { type: "button", class: "remove", "aria-label": `Remove ${picture.name}`, title: "Remove",
        onclick: () => this.#remove(picture) }, "×")));
    the("tray").replaceChildren(...items);
    the("tray").hidden = !sees || !items.length;
  }

  #remove(picture) {
    const at = this.pictures.indexOf(picture);
    this.pictures.splice(at, 1);
    this.draw();
    tell("");
    say(`${picture.name} removed`);
    (the("tray").querySelectorAll("button")[Math.min(at, this.pictures.length - 1)] ?? the("question")).focus();
  }
}
