// Numbers in words, as the run's report says them: three digits and a unit.

const three = (value) => String(Number(value.toPrecision(3)));

const scaled = (value, units) => {
  const [size, unit] = units.find(([least]) => value >= least) || units.at(-1);
  return `${three(value / size)} ${unit}`;
};

export const bytes = (value) => scaled(value, [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]]);
export const seconds = (value) => scaled(value, [[1, "s"], [1e-3, "ms"]]);
export const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
export const speed = (value) => `${three(value)} tokens per second`;

/** `{weights: "4 bits", cache: ""}` as `["weights: 4 bits"]`: what is off is not said. */
const policies = (on) => Object.entries(on || {}).filter(([, what]) => what)
  .map(([axis, what]) => `${axis}: ${what}`);

/** What was done to a model of this kind; of an untouched one that nothing was, and in what its weights are. */
export const done = (kind, on) => {
  const words = policies(on);
  return kind === "original" || !words.length ? ["nothing trimmed", ...words] : words;
};

/** A text for a screen reader, not endless. */
export const short = (text, most = 1000) => (text.length > most ? `${text.slice(0, most)} … and more` : text);
