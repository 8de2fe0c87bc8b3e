// The REST interface: the only module that knows its addresses.

const ROOT = new URL("v1/", document.baseURI);

// By code: what the service says to somebody at a command line, said to somebody at this page.
const WORDS = { model_not_found: ({ model }) => `There is no model “${model}” on the shelf.` };

// An answer of application/problem+json, or no answer at all.
export class Problem extends Error {
  constructor(body) {
    super(WORDS[body.code]?.(body.facts) ?? body.detail);
    this.code = body.code;
    this.facts = body.facts ?? {};
    this.fields = (body.errors ?? []).map((e) => e.field);
  }
}

const UNREACHABLE = { code: "unreachable", detail: "The server does not answer. Is modelshelf still running?" };

// Problems come with status 200 (api/preferences.py): else the browser logs each as an error, also of an address that is still being typed.
const PREFERENCE = { Prefer: "problem-status=200" };

async function request(method, path, { body, query = {}, signal, headers = {}, type = "application/json" } = {}) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  const init = { method, signal, headers: { ...headers, ...PREFERENCE } };
  if (body !== undefined) {
    init.headers["Content-Type"] = type;
    init.body = type === "application/json" ? JSON.stringify(body) : body;
  }
  let answer;
  try {
    answer = await fetch(url, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(UNREACHABLE);
  }
  const isProblem = answer.headers.get("Content-Type")?.startsWith("application/problem+json");
  if (isProblem || !answer.ok) throw new Problem(await problemOf(answer));
  return answer;
}

async function problemOf(answer) {
  try {
    const body = await answer.json();
    if (body.detail) return body;
  } catch {
    // not JSON: something between this page and the service answered
  }
  return { code: "error", detail: `The server answered ${answer.status} ${answer.statusText}.` };
}

const json = async (...args) => (await request(...args)).json();
const at = (...parts) => parts.map(encodeURIComponent).join("/");

// -- models
const PAGE = 200;
const LONGEST = 1000; // the longest page that the service gives
// One page: {models, next}; `next` is the `cursor` of the following one, null after the last.
export const models = ({ signal, ...query }) => json("GET", "models", { query: { limit: PAGE, ...query }, signal });
export const families = async () => (await json("GET", "families")).families;
export const model = (id) => json("GET", at("models", id));
export const edit = (id, body) => json("PATCH", at("models", id), { body });
// The first thousand: {verdicts: [{model, fits, reason}], next}, next null if these are all.
export async function compatibleLoras(id, all) {
  const { loras, next } = await json("GET", at("models", id, "compatible-loras"), { query: { all, limit: LONGEST } });
  return { verdicts: loras, next };
}
export async function compatibleCheckpoints(id, all) {
  const { checkpoints, next } = await json("GET", at("models", id, "compatible-checkpoints"), { query: { all, limit: LONGEST } });
  return { verdicts: checkpoints, next };
}

// `files`: also off the disk, which is refused for what was scanned in place.
export const remove = (id, files) => request("DELETE", at("models", id), { query: { files: files ? "remove" : "keep" } });

export const previewUrl = (found) =>
  found.preview ? new URL(`${at("models", found.id, "preview")}?v=${encodeURIComponent(found.preview)}`, ROOT).href : null;
export const setPreview = (id, picture) => json("PUT", at("models", id, "preview"), { body: picture, type: picture.type });
export const removePreview = (id) => json("DELETE", at("models", id, "preview"));

// -- installs
export const probe = (source, signal) => json("POST", "probe", { body: { source }, signal });
// `options`: place, of a file or folder on the server; variant, of a pipeline in several precisions; family and kind, of an open header.
export const install = (source, options = {}) => json("POST", "installs", { body: { source, ...options } });
export const installStarter = async () => (await json("POST", "starter")).installs;
export const installs = async () => (await json("GET", "installs")).installs;
export const orderInstall = (id, order) => json("POST", at("installs", id, order));
export const forgetInstall = (id) => request("DELETE", at("installs", id));
export const installEvents = (id, signal) => events(at("installs", id, "events"), signal);

// -- generations
export const schedulers = async () => (await json("GET", "schedulers")).schedulers;
export const plan = (body, signal) => json("POST", "plans", { body, signal });

export const submit = (body) => json("POST", "generations", { query: { wait: false }, body: { ...body, previews: true } });

// A generation that was submitted, now or before this page was loaded: followed to its end, and cancelled when `signal` says so.
// `progress` is told {ahead}, {done, total}, {waiting} for something, and {previews}, PNG files in the making.
export async function follow(id, { signal, progress }) {
  const path = at("generations", id);
  const cancel = () => request("DELETE", path).catch(() => {}); // it has ended meanwhile: then its events say how
  signal.addEventListener("abort", cancel, { once: true });
  if (signal.aborted) cancel();
  const job = await json("GET", path);
  progress({ ahead: job.ahead });
  for await (const { name, data } of whole(`${path}/events`, GENERATION_ENDS)) {
    if (name === "step") progress(data);
    else if (name === "preview") progress({ previews: data.images.map(pngOf) });
    else if (name === "waiting") progress({ waiting: data.for });
    else if (name === "running") progress({ done: 0, total: job.steps });
  }
  const made = await json("GET", path);
  if (made.state === "cancelled") throw new DOMException("Cancelled.", "AbortError");
  if (made.error) throw new Problem(made.error);
  const pictures = made.images.map((image) => ({ seed: image.seed, blob: pngOf(image.png) }));
  return { plan: made.plan, warnings: made.warnings, timings: made.timings, pictures };
}

const pngOf = (base64) => new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], { type: "image/png" });

const GENERATION_ENDS = new Set(["succeeded", "failed", "cancelled"]);
const PATIENCE = [500, 1000, 2000, 4000, 8000]; // milliseconds before each attempt to take up a stream that broke

// All events up to one that is named in `ends`. A stream that breaks off before is taken up where it was.
async function* whole(path, ends) {
  let last;
  for (let attempt = 0; ; attempt += 1) {
    try {
      for await (const event of events(path, undefined, last)) {
        yield event;
        if (ends.has(event.name)) return;
        last = event.id ?? last;
        attempt = 0;
      }
    } catch (error) {
      const isBroken = !(error instanceof Problem) || error.code === "unreachable";
      if (!isBroken || attempt >= PATIENCE.length) throw error;
    }
    if (attempt >= PATIENCE.length) throw new Problem(UNREACHABLE);
    await new Promise((later) => setTimeout(later, PATIENCE[attempt]));
  }
}

// Server-sent events as {name, data, id}. Read with fetch, since EventSource begins anew when the server has said its last word, and does not
// tell what problem it met.
async function* events(path, signal, last) {
  const answer = await request("GET", path, { signal, headers: last ? { "Last-Event-ID": last } : {} });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const messages = held.split(/\r?\n\r?\n/);
    held = messages.pop();
    for (const message of messages) {
      const data = [];
      let [name, id] = ["message"];
      for (const line of message.split(/\r?\n/)) {
        if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
        else if (line.startsWith("event:")) name = line.slice(6).trim();
        else if (line.startsWith("id:")) id = line.slice(3).trim();
      }
      if (data.length) yield { name, id, data: JSON.parse(data.join("\n")) };
    }
  }
}
