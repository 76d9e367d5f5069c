// The server's doors. Whatever goes wrong comes out as a Failure, in words for the person who asked.
import { events } from "./sse.js";

/** `kind`: token (401), busy (429, with `wait` in seconds), refused (other 4xx), failed (5xx, in a stream too), lost. */
export class Failure extends Error {
  constructor(kind, message, wait = 0) {
    super(message);
    this.kind = kind;
    this.wait = wait;
  }
}

const told = async (response) => {
  const text = await response.text().catch(() => "");
  try {
    return JSON.parse(text).error.message;
  } catch {
    return `status ${response.status} ${response.statusText}`.trim();
  }
};

/** Seconds of a Retry-After, which is a number or a date (RFC 9110, 10.2.3). */
const pause = (header) => {
  const number = Number(header ?? 0);
  const later = Number.isFinite(number) ? number : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(later) ? Math.max(0, Math.ceil(later)) : 0;
};

const failure = async (response, token) => {
  const message = await told(response);
  if (response.status === 401) {
    return new Failure("token", token ? "The server did not accept this token." : "This server asks for a token.");
  }
  if (response.status === 429) {
    return new Failure("busy", `The server has no room now: ${message}`, pause(response.headers.get("Retry-After")));
  }
  if (response.status < 500) return new Failure("refused", `The server refused it: ${message}`);
  return new Failure("failed", `The server failed: ${message}`);
};

/** GET `path`, or POST `body` there (a text of JSON). Throws Failure, or what `signal` aborts with. */
export async function ask(path, { token = "", body = null, signal = null } = {}) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body, signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure("lost", "The server cannot be reached.");
  }
  if (!response.ok) throw await failure(response, token);
  return response;
}

/** What `path` holds, read as JSON. */
export async function get(path, options) {
  const response = await ask(path, options);
  try {
    return await response.json();
  } catch {
    throw new Failure("lost", `The server's answer at ${path} could not be read.`);
  }
}

const parsed = (data) => {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new Failure("failed", "The answer broke off: the server sent something that cannot be read.");
  }
  if (chunk.error) throw new Failure("failed", `The answer broke off: ${chunk.error.message}`);
  return chunk;
};

/** The pieces of one streamed answer: `{text, reason, facts, usage}`, each null or "" where a piece has none. */
export async function* chat(body, { token, signal }) {
  const response = await ask("v1/chat/completions", { token, body, signal });
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const chunk = parsed(data);
      const [choice] = chunk.choices ?? [];
      yield {
        text: choice?.delta?.content ?? "", reason: choice?.finish_reason ?? null,
        facts: chunk.trimtab ?? null, usage: chunk.usage ?? null,
      };
    }
  } catch (error) {
    if (signal.aborted || error instanceof Failure) throw error;
    throw new Failure("lost", "The connection to the server was lost before the answer was whole.");
  }
  throw new Failure("lost", "The connection to the server ended before the answer was whole.");
}
