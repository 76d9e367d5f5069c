// The page: what the controls do. Each idea has a file of its own; here they meet.
import { Composer } from "./composer.js";
import { settingsBox, tokenBox } from "./dialogs.js";
import { tell, the } from "./element.js";
import { modelLines } from "./facts.js";
import { Picker } from "./picker.js";
import { reportBox } from "./report.js";
import { Server } from "./server.js";
import { Settings } from "./settings.js";
import { Talk } from "./talk.js";
import { Tray } from "./tray.js";
import { watch } from "./watch.js";
import { plural } from "./words.js";

const EVERY = 4000;  // milliseconds between two looks at queue and memory
const SYSTEM = matchMedia("(prefers-color-scheme: dark)");
const TOUCH = matchMedia("(pointer: coarse)");

const settings = new Settings();
const picker = new Picker(settings);
const askToken = tokenBox(settings);
const server = new Server({ settings, askToken,
  listed: (models, first) => { picker.fill(models, first); draw(); } });
const talk = new Talk({ settings, limits: () => server.limits, askToken, changed: () => draw() });
const tray = new Tray(() => {
  const { asked } = picker;
  const blind = asked.find(({ sees }) => !sees);
  return { sees: Boolean(asked.length && !blind), model: (blind ?? asked[0])?.id ?? "", limits: server.limits,
    earlier: asked.length ? Math.max(...asked.map((model) => talk.conversation.pictures(model))) : 0 };
});
const composer = new Composer({ talk, tray, asked: () => picker.asked });
const showReport = reportBox(settings);

/** A model's context holds the prompt too, and that is one token at least. */
const mostTokens = () => server.limits
  && Math.min(server.limits.tokens, ...picker.asked.map(({ context }) => (context ?? Infinity) - 1));
settingsBox(settings, mostTokens, () => draw());

/** Everything that follows from the choice of models and from what runs. */
function draw() {
  const { asked, chosen, other } = picker;
  const { sees } = tray.now();
  the("choice").hidden = !picker.models.length;
  the("compared").hidden = !other;
  the("compare-words").textContent = `Compare with ${chosen?.kind === "original" ? other?.id : "the original"}`;
  the("facts").replaceChildren(...modelLines(asked));
  the("report").hidden = !asked.some(({ report }) => report);
  for (const node of document.querySelectorAll(".sees")) node.hidden = !sees;
  the("send").disabled = !asked.length;
  the("send").hidden = talk.running;
  the("stop").hidden = !talk.running;
  the("empty").hidden = !talk.empty;
  the("turns").hidden = talk.empty;
  the("back").hidden = !talk.mayGoBack;
  the("fresh").disabled = talk.empty;
  the("greeting").textContent = asked.length ? `Ask ${asked.map(({ id }) => id).join(" and ")}` : "No model yet";
  the("invitation").textContent = sees ? "Drop, paste or add a picture, then ask about it."
    : asked.length ? "It takes text only." : "";
  const set = settings.said();
  the("set").textContent = `Asked with ${set}`;
  the("set").hidden = !set;
  the("keys").textContent = TOUCH.matches ? ""
    : talk.running ? "Escape stops" : "Enter sends, Shift+Enter begins a line";
  if (!talk.running) composer.ended();
  tray.draw();
}

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
  const { sees, model } = tray.now();
  const aside = tray.pictures.length && !sees;
  tell(aside ? `${model} takes no pictures: ${plural(tray.pictures.length, "picture")} kept aside.` : tray.over);
});
the("compare").addEventListener("change", ({ target }) => { settings.set({ compare: target.checked }); draw(); });
the("report").addEventListener("click", () => showReport(picker.asked.find(({ report }) => report)));
the("fresh").addEventListener("click", () => { talk.clear(); tell(""); draw(); the("question").focus(); });
the("back").addEventListener("click", () => { talk.back(); draw(); tell(tray.over); the("question").focus(); });

const dark = () => (settings.get("theme") ? settings.get("theme") === "dark" : SYSTEM.matches);
const nameTheme = () => { the("theme").textContent = dark() ? "Light theme" : "Dark theme"; };
the("theme").addEventListener("click", () => {
  settings.set({ theme: dark() ? "light" : "dark" });
  document.documentElement.dataset.theme = settings.get("theme");
  nameTheme();
});
SYSTEM.addEventListener("change", nameTheme);
TOUCH.addEventListener("change", draw);

nameTheme();
the("app").hidden = false;
draw();
the("question").focus();
watch(() => server.look(), EVERY);
