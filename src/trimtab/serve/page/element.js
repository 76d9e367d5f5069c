// The only ways in which this page makes, finds and fills nodes: text is always text, never markup.

/** `make("p", { class: "a", onclick: f }, "text", node)`; an attribute that is false or null is left out. */
export const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
};

export const the = (id) => document.getElementById(id);

/**
 * What a screen reader is told, politely; the same words twice are said twice. An open box makes all behind it inert,
 * so each box has a place for words of its own.
 */
export const say = (words) => {
  const said = document.querySelector("dialog[open] .said") ?? the("said");
  said.textContent = "";
  setTimeout(() => { said.textContent = words; }, 50);
};

/** What stands above the question, and is read out once: the same words again are not written again. */
export const tell = (words) => {
  if (the("notice").textContent !== words) the("notice").textContent = words;
};

/** Takes these words away, where they stand there still. */
export const untell = (words) => {
  if (the("notice").textContent === words) tell("");
};
