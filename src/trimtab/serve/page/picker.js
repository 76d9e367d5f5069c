// Which models there are, which one is chosen, and which would be asked.
import { make, the } from "./element.js";

export class Picker {
  models = [];

  constructor(settings) {
    this.settings = settings;
  }

  get chosen() {
    return this.models.find(({ id }) => id === the("model").value) ?? null;
  }

  /** The untouched model that a trimmed one is compared with; for an original, the first that was made from it. */
  get other() {
    const { chosen, models } = this;
    return models.find(({ id }) => id === chosen?.original)
      ?? models.find(({ original }) => chosen && original === chosen.id) ?? null;
  }

  get asked() {
    const asked = [this.chosen, the("compare").checked ? this.other : null].filter(Boolean);
    return asked.sort((one, two) => (one.kind === "original") - (two.kind === "original"));
  }

  /** The models of a server; what was chosen stays chosen, and `first` is where it is gone. */
  fill(models, first) {
    const before = the("model").value || this.settings.get("model");
    this.models = models;
    the("model").replaceChildren(...models.map(({ id, kind }) => make("option", { value: id }, `${id} (${kind})`)));
    the("model").value = models.some(({ id }) => id === before) ? before : first;
    if (!this.chosen && models.length) the("model").value = models[0].id;
    the("compare").checked = this.settings.get("compare");
  }
}
