// The server's doors. Whatever goes wrong comes out as a Failure, in words for the person who asked.
import { events } from "./sse.js";

const PATIENCE = 15_000;  // milliseconds for what should come at once

/**
 * `kind`: token (401), busy (429, and 503 where it says for how long: `wait`, in seconds), refused (other 4xx), failed
 * (5xx, in a stream too), lost.
 */
export class Failure extends Error {
  constructor(kind, message, wait = 0) {
    super(message);
    this.kind = kind;
    this.wait = wait;
  }
}

/** The words of `{"error": {"message"}}`; some servers in between send `{"error": "words"}`, or nothing of the kind. */
const words = (error) => [error?.message, error].find((one) => typeof one === "string" && one) ?? "";

const told = async (response) => {
  const text = await response.text().catch(() => "");
  let said = "";
  try { said = words(JSON.parse(text)?.error); } catch { /* no JSON: a proxy's page, whose status says it */ }
  return said || `status ${response.status} ${response.statusText}`.trim();
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
  const wait = pause(response.headers.get("Retry-After"));
  if (response.status === 429) return new Failure("busy", `The server has no room now: ${message}`, wait);
  if (response.status === 503 && wait) return new Failure("busy", `The server cannot answer now: ${message}`, wait);
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
    if (error.name === "TimeoutError") throw new Failure("lost", "The server does not answer.");
    if (signal?.aborted) throw error;
    throw new Failure("lost", "The server cannot be reached.");
  }
  if (!response.ok) throw await failure(response, token);
  return response;
}

/** What `path` holds, read as "json" or "text"; without a signal it must come soon. Throws as `ask` does. */
export async function get(path, { token, signal = AbortSignal.timeout(PATIENCE), as = "json" }) {
  const response = await ask(path, { token, signal });
  try {
    return await response[as]();
  } catch (error) {
    if (error.name === "AbortError") throw error;
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
  if (chunk?.error) {
    throw new Failure("failed", `The answer broke off: ${words(chunk.error) || "the server does not say why."}`);
  }
  return chunk;
};

/** The pieces of one streamed answer: `{text, reason, facts, usage}`, each null or "" where a piece has none. */
export async function* chat(body, { token, signal }) {
  const response = await ask("v1/chat/completions", { token, body, signal });
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const chunk = parsed(data);
      const [choice] = chunk?.choices ?? [];
      yield {
        text: choice?.delta?.content ?? "", reason: choice?.finish_reason ?? null,
        facts: chunk?.trimtab ?? null, usage: chunk?.usage ?? null,
      };
    }
  } catch (error) {
    if (signal.aborted || error instanceof Failure) throw error;
    throw new Failure("lost", "The connection to the server was lost before the answer was whole.");
  }
  throw new Failure("lost", "The connection to the server ended before the answer was whole.");
}
