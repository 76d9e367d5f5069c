// Words to the clipboard, and what was pasted.

/** Whether `text` is in the clipboard now. Browsers keep it from pages that come neither over https nor locally. */
export const copied = async (text) => {
  if (!navigator.clipboard) return copiedByHand(text);
  return navigator.clipboard.writeText(text).then(() => true, () => false);
};

const copiedByHand = (text) => {
  const before = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before.focus();
  return done;
};

/** The files that were pasted; none where words were, which are more than the files' own names or places. */
export const pastedFiles = ({ clipboardData }) => {
  const files = [...clipboardData.files];
  const lines = clipboardData.getData("text/plain").trim().split(/[\r\n]+/);
  const names = (line) => files.some(({ name }) => line === name || line.endsWith(`/${name}`) || line.endsWith(`\\${name}`));
  return lines.every((line) => !line || names(line)) ? files : [];
};
