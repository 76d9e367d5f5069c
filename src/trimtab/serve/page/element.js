// The only ways in which this page makes and finds nodes: text is always text, never markup.

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

/** What a screen reader is told, politely; the same words twice are said twice. */
export const say = (words) => {
  const said = the("said");
  said.textContent = "";
  setTimeout(() => { said.textContent = words; }, 50);
};
