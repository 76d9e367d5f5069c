// The page: what the controls do. Each idea has a file of its own; here they meet.
import { Failure, get } from "./api.js";
import { reportBox, settingsBox, tokenBox } from "./dialogs.js";
import { make, say, the } from "./element.js";
import { modelLines, statusWords } from "./facts.js";
import { Settings } from "./settings.js";
import { Talk } from "./talk.js";
import { Tray } from "./tray.js";
import { watch } from "./watch.js";
import { plural } from "./words.js";

const EVERY = 4000;  // milliseconds between two looks at queue and memory
const SYSTEM = matchMedia("(prefers-color-scheme: dark)");

const settings = new Settings();
let models = [];
let limits = null;
let known = false;  // the models are those of the server as it runs now
let locked = false;  // it asks for a token that was not given

const chosen = () => models.find(({ id }) => id === the("model").value) ?? null;

/** The untouched model that a trimmed one is compared with; for an original, the first that was made from it. */
const other = (model) => models.find(({ id }) => id === model?.original)
  ?? models.find(({ original }) => model && original === model.id) ?? null;

const asked = () => {
  const model = chosen();
  const beside = the("compare").checked ? other(model) : null;
  return [model, beside].filter(Boolean).sort((one, two) => (one.kind === "original") - (two.kind === "original"));
};

const askToken = tokenBox(settings);
const talk = new Talk({ settings, limits: () => limits, askToken, changed: () => draw() });
const tray = new Tray(() => {
  const asks = asked();
  const blind = asks.find(({ sees }) => !sees);
  return { sees: Boolean(asks.length && !blind), model: (blind ?? asks[0])?.id ?? "", limits,
    earlier: asks.length ? Math.max(...asks.map((model) => talk.conversation.pictures(model))) : 0 };
});
const showReport = reportBox(settings);
settingsBox(settings, () => limits, () => draw());

/** Everything that follows from the choice of models and from what runs. */
function draw() {
  const asks = asked();
  const model = chosen();
  const beside = other(model);
  const { sees } = tray.now();
  the("choice").hidden = !models.length;
  the("compared").hidden = !beside;
  const named = model?.kind === "original" ? beside?.id : "the original";
  the("compare-words").textContent = `Compare with ${named}`;
  the("facts").replaceChildren(...modelLines(asks));
  the("report").hidden = !asks.some(({ report }) => report);
  for (const node of document.querySelectorAll(".sees")) node.hidden = !sees;
  the("send").disabled = !asks.length;
  the("send").hidden = talk.running;
  the("stop").hidden = !talk.running;
  the("empty").hidden = !talk.empty;
  the("turns").hidden = talk.empty;
  the("back").hidden = !talk.mayGoBack;
  the("fresh").disabled = talk.empty;
  the("greeting").textContent = asks.length ? `Ask ${asks.map(({ id }) => id).join(" and ")}` : "No model yet";
  the("invitation").textContent = sees ? "Drop, paste or add a picture, then ask about it."
    : asks.length ? "It takes text only." : "";
  const set = settings.said();
  the("set").textContent = `Asked with ${set}`;
  the("set").hidden = !set;
  the("keys").textContent = talk.running ? "Escape stops" : "Enter sends, Shift+Enter begins a line";
  tray.draw();
}

function drawModels(first) {
  const before = the("model").value || settings.get("model");
  the("model").replaceChildren(...models.map(({ id, kind }) => make("option", { value: id }, `${id} (${kind})`)));
  the("model").value = models.some(({ id }) => id === before) ? before : first;
  if (!chosen() && models.length) the("model").value = models[0].id;
  the("compare").checked = settings.get("compare");
  draw();
}

async function load() {
  const listed = await get("trimtab/models", { token: settings.token });
  models = listed.models.filter(({ chat }) => chat);
  known = true;
  locked = false;
  drawModels(listed.default);
  if (!models.length) tray.tell("No model of this server chats.");
}

/** One look at the server: its state, and its models where they are not known. */
async function look() {
  if (locked && !settings.token) return;
  try {
    const status = await get("trimtab/status", { token: settings.token });
    limits = status.limits;
    if (!known) await load();
    the("status").textContent = statusWords(status);
    the("status").classList.remove("is-bad");
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    known = false;
    the("status").classList.add("is-bad");
    the("status").textContent = error.message;
    if (error.kind === "token") await unlock(error.message);
  }
}

async function unlock(words) {
  locked = true;
  if (await askToken(words)) { await look(); return; }
  settings.token = "";
  the("status").replaceChildren("This server asks for a token. ",
    make("button", { type: "button", onclick: () => unlock("") }, "Enter the token"));
}

async function send() {
  const text = the("question").value.trim();
  if (!asked().length) return;
  if (talk.running) { say("Wait for the answer, or stop it with Escape."); return; }
  await tray.reading;
  if (!text) {
    tray.tell(tray.pictures.length ? "Write a question about the picture." : "Write a question first.");
    the("question").focus();
    return;
  }
  const models = asked();
  const left = tray.now().sees ? 0 : tray.pictures.length;
  the("question").value = "";
  const pictures = tray.take();
  tray.tell(left ? `${plural(left, "picture")} kept aside: not every model that is asked takes pictures.` : "");
  await talk.send(text, pictures, models);
}

the("ask").addEventListener("submit", (event) => { event.preventDefault(); send(); });
the("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && !document.querySelector("dialog[open]")) stop();
});
function stop() {
  if (!talk.running) return;
  talk.stop();
  the("question").focus();
}
the("stop").addEventListener("click", stop);

the("model").addEventListener("change", async () => {
  settings.set({ model: the("model").value });
  draw();
  await tray.reading;
  tray.tell(tray.pictures.length && !tray.now().sees
    ? `${tray.now().model} takes no pictures: ${plural(tray.pictures.length, "picture")} kept aside.` : "");
});
the("compare").addEventListener("change", ({ target }) => { settings.set({ compare: target.checked }); draw(); });
the("report").addEventListener("click", () => showReport(asked().find(({ report }) => report)));
the("fresh").addEventListener("click", () => { talk.clear(); tray.tell(""); draw(); the("question").focus(); });
the("back").addEventListener("click", () => { talk.back(); draw(); the("question").focus(); });

const dark = () => (settings.get("theme") ? settings.get("theme") === "dark" : SYSTEM.matches);
const nameTheme = () => { the("theme").textContent = dark() ? "Light theme" : "Dark theme"; };
the("theme").addEventListener("click", () => {
  settings.set({ theme: dark() ? "light" : "dark" });
  document.documentElement.dataset.theme = settings.get("theme");
  nameTheme();
});
SYSTEM.addEventListener("change", nameTheme);

nameTheme();
the("app").hidden = false;
draw();
the("question").focus();
watch(look, EVERY);
