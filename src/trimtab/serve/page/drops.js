// Files that are dragged over the page, or pasted anywhere in it.
import { pastedFiles } from "./clipboard.js";
import { the } from "./element.js";

const boxed = () => Boolean(document.querySelector("dialog[open]"));
const carries = (event) => event.dataTransfer?.types.includes("Files");
const over = (on) => the("dock").classList.toggle("dropping", on);

/** `takes()`: whether pictures are taken now; `given(files)`: they were given; `vain()`: they hover, and are not taken. */
export const listen = ({ takes, given, vain }) => {
  document.addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();  // else the browser would leave this page for the file
    const taken = takes() && !boxed();
    event.dataTransfer.dropEffect = taken ? "copy" : "none";
    over(taken);
    if (!taken && !boxed()) vain();
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false); });
  document.addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    over(false);
    if (!boxed()) given([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => {
    const files = pastedFiles(event);
    if (!files.length || boxed()) return;
    event.preventDefault();
    given(files);
  });
};
