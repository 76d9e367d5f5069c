// The pictures of the next question: given by file, drop or paste; shown small, each with a button that removes it.
import { make, say, the } from "./element.js";
import { read } from "./pictures.js";
import { plural } from "./words.js";

const size = ({ width, height, was }) => (was ? `scaled down from ${was.width} × ${was.height} to ${width} × ${height}`
  : `${width} × ${height}`);

export class Tray {
  pictures = [];
  reading = Promise.resolve();  // until all that was given is in

  /** `now()` gives `{sees, model, limits, earlier}`: what is chosen takes, and how many pictures came before. */
  constructor(now) {
    this.now = now;
    the("add").addEventListener("click", () => the("files").click());
    the("files").addEventListener("change", ({ target }) => {
      this.add([...target.files]);
      target.value = "";  // the same file can be given again
    });
    document.addEventListener("paste", (event) => {
      const { files } = event.clipboardData;
      if (!files.length || event.clipboardData.getData("text/plain") || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      this.add([...files]);
    });
    this.#listenForDrops();
  }

  #listenForDrops() {
    const carries = (event) => event.dataTransfer?.types.includes("Files");
    const over = (on) => the("dock").classList.toggle("dropping", on);
    document.addEventListener("dragover", (event) => {
      if (!carries(event)) return;
      event.preventDefault();  // else the browser would leave this page for the file
      const open = Boolean(document.querySelector("dialog[open]"));
      const { sees, model } = this.now();
      event.dataTransfer.dropEffect = sees && !open ? "copy" : "none";
      over(sees && !open);
      if (!sees && !open) this.tell(`${model} takes no pictures.`);
    });
    document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false); });
    document.addEventListener("drop", (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      over(false);
      if (!document.querySelector("dialog[open]")) this.add([...event.dataTransfer.files]);
    });
  }

  add(files) {
    this.reading = this.reading.then(() => this.#take(files));
    return this.reading;
  }

  async #take(files) {
    const { sees, model, limits, earlier } = this.now();
    const wrong = [];
    if (!sees) {
      this.tell(`${model} takes no pictures.`);
      return;
    }
    this.tell("");
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
    if (wrong.length) this.tell(wrong.join(" "));
    else say(`${plural(this.pictures.length, "picture")} to send`);
    the("question").focus();
  }

  tell(words) {
    the("notice").textContent = words;
  }

  /** The pictures, which now belong to a question; those kept aside for a model that sees stay. */
  take() {
    const taken = this.now().sees ? this.pictures : [];
    this.pictures = this.pictures.filter((picture) => !taken.includes(picture));
    this.draw();
    return taken;
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
    this.tell("");
    say(`${picture.name} removed`);
    (the("tray").querySelectorAll("button")[Math.min(at, this.pictures.length - 1)] ?? the("question")).focus();
  }
}
