// A model's text as nodes: paragraphs as they are, and fenced code (CommonMark 4.5, backticks only) in a block.

const paragraphs = (text) => text.split(/\n\s*\n/).map((one) => one.replace(/^\n+/, "").trimEnd()).filter(Boolean);

/** `[{code, text}]`; a fence that is still open, as in a stream, holds the rest. */
export const parts = (text) => {
  const found = [];
  let lines = [];
  let fence = "";
  const close = (code) => {
    const text = lines.join("\n");
    if (code) found.push({ code, text });
    else found.push(...paragraphs(text).map((one) => ({ code, text: one })));
    lines = [];
  };
  for (const line of text.split("\n")) {
    const [mark] = line.match(/^ {0,3}`{3,}/) ?? [""];
    const ticks = mark.trim();
    if (!fence && ticks && !line.slice(mark.length).includes("`")) { close(false); fence = ticks; }
    else if (fence && ticks.length >= fence.length && !line.slice(mark.length).trim()) { close(true); fence = ""; }
    else lines.push(line);
  }
  close(Boolean(fence));
  return found;
};

/** Show `text` in `node`; what stands there already and is the same is left alone, so that a selection outlives it. */
export const show = (node, text) => {
  const wanted = parts(text);
  wanted.forEach(({ code, text: words }, at) => {
    const tag = code ? "PRE" : "P";
    let block = node.children[at];
    if (!block || block.tagName !== tag) {
      const made = document.createElement(tag);
      if (!code) made.dir = "auto";  // each paragraph runs as its own letters do
      if (block) block.replaceWith(made); else node.append(made);
      block = made;
    }
    if (block.textContent !== words) block.textContent = words;
  });
  while (node.children.length > wanted.length) node.lastElementChild.remove();
};
