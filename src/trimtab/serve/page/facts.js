// What the server says of its models and of itself, in words: the line under the picker, and the line at the bottom.
import { make } from "./element.js";
import { bytes, done, plural } from "./words.js";

/** A line for each model that would be asked. */
export const modelLines = (models) => models.map((model) => {
  const rest = [model.engine && `engine: ${model.engine}`, model.bytes && bytes(model.bytes),
    model.context && `context: ${plural(model.context, "token")}`, model.license && `licence: ${model.license}`];
  return make("ul", { "aria-label": model.id },
    make("li", { class: "name" }, model.id),
    make("li", { class: `kind is-${model.kind}` }, model.kind),
    ...done(model.kind, model.policies).map((words) => make("li", { class: "on" }, words)),
    ...rest.filter(Boolean).map((words) => make("li", { class: "more" }, words)));
});

export const statusWords = ({ queue, memory, requests }) => [
  `Queue: ${queue.waiting} waiting, ${queue.running} running, room for ${queue.room}`,
  `Memory: ${bytes(memory.resident)} used, ${bytes(memory.available)} free`,
  `${requests.answered} answered`,
].join(" · ");
