// Install: what is behind an address, told before anything is downloaded; then the downloads, live.

import * as api from "./api.js";
import { debounce, el, fill, problemBox, say } from "./dom.js";
import { bytes, kindName, orOthers, sayings, seconds } from "./format.js";
import { kindBadge, modelHref } from "./shelf.js";

export const title = "Install";

const ENDED = new Set(["installed", "failed", "cancelled"]);
// What may be ordered, by state; every other state that has not ended may be paused and cancelled.
const ORDERS = { installed: ["forget"], failed: ["retry", "forget"], cancelled: ["retry", "forget"], paused: ["resume", "cancel"] };
const ORDER_NAMES = { pause: "Pause", resume: "Resume", cancel: "Cancel", retry: "Try again", forget: "Forget" };
const STATES = {
  queued: "waiting", resolving: "looking at the source", downloading: "downloading", probing: "checking what arrived", registering: "registering",
  installed: "installed", paused: "paused", failed: "failed", cancelled: "cancelled",
};
const PLACES = { copy: "is copied", move: "is moved to the shelf", in_place: "stays where it is" };
const RETRY_AFTER = 2000; // milliseconds after a stream that broke
const MOST_CHOICES = 50; // of a repository with many models
const MOST_FOLLOWED = 3; // a browser opens six connections to a server in all, and a stream holds one

let input, answer, heading, list;
let asking = null; // AbortController of the probe under way
const jobs = new Map(); // id -> {job, row}, newest first
const forgotten = new Set(); // ids that a list which was asked for before may still have
const followed = new Map(); // id -> AbortController
let visible = false;

export function build(root) {
  const look = debounce(300, ask);
  input = el("input", {
    type: "text", id: "source", placeholder: "https://huggingface.co/OWNER/REPO", autocomplete: "off", spellcheck: "false", input: look,
  });
  answer = el("div", { class: "answer", "aria-live": "polite" });
  heading = el("h2", { tabindex: "-1" }, "Installs");
  list = el("ul", { class: "jobs" });
  root.append(
    el("h1", { tabindex: "-1" }, "Install"),
    el("form", { class: "source", submit: (event) => { event.preventDefault(); ask(); } },
      el("label", { for: "source" }, "Address of a model"),
      el("div", { class: "row" }, input, el("button", { type: "submit" }, "Look")),
      el("p", { class: "muted" }, "A model's page or file on Hugging Face, OWNER/REPO, hf://…, an https:// file, or a path on the server. Only headers are read until you install.")),
    answer,
    heading, list);
}

export function enter({ query }) {
  visible = true;
  if (query.get("source")) {
    input.value = query.get("source");
    ask();
  }
  refresh();
}

async function ask() {
  asking?.abort();
  const source = input.value.trim();
  if (!source) {
    fill(answer);
    return;
  }
  const mine = (asking = new AbortController());
  fill(answer, el("p", { class: "muted busy" }, "Looking …"));
  try {
    const found = await api.probe(source, mine.signal);
    if (mine === asking) fill(answer, described(source, found));
  } catch (error) {
    if (error.name !== "AbortError" && mine === asking) fill(answer, problemBox(error, choices(error)));
  }
}

// What an open header may be, each as a button that installs it as that. `said`: what has been said already.
function open(source, refusal, wanted = [], said = {}) {
  if (refusal.code !== "not_identified") return null;
  const one = (way) => {
    const button = el("button", { type: "button", class: "primary", click: () => start(source, button, wanted, { ...said, ...way.said }) }, way.text);
    return el("li", {}, button);
  };
  const candidates = sayings(refusal.facts?.candidates ?? []);
  if (!candidates.length) return null;
  return [wanted.map(({ field }) => field), el("ul", { class: "choices", "aria-label": "Install it as" }, candidates.map(one))];
}

// The server names the candidates when there are several.
function choices(error) {
  const candidates = (error.facts.candidates ?? []).filter(({ source }) => source);
  if (!candidates.length) return null;
  const pick = (source) => { input.value = source; ask(); };
  return el("ul", { class: "choices" }, candidates.slice(0, MOST_CHOICES).map(({ source, size, report }) =>
    el("li", {}, el("button", { type: "button", class: "chip", click: () => pick(source) }, source),
      report.kind ? [kindBadge(report.kind), report.family] : el("span", { class: "muted" }, report.reason), el("span", { class: "muted" }, bytes(size)))));
}

function described(source, found) {
  const fits = found.checkpoints.filter((v) => v.fits);
  const others = found.checkpoints.filter((v) => !v.fits);
  const isLora = found.kind === "lora" || found.kind === "lcm_lora";
  const wanted = options(found);
  const go = el("button", { type: "button", class: "primary", click: () => start(source, go, wanted) }, "Install");
  return el("article", { class: "panel found" },
    el("div", { class: "found-head" },
      el("div", {},
        el("h2", {}, found.name),
        el("p", { class: "model-kind" }, kindBadge(found.kind), found.family ? el("span", { class: "family" }, found.family) : null, orOthers(found.report) ? el("span", { class: "muted" }, orOthers(found.report)) : null,
          found.variant && found.variant !== "normal" ? el("span", {}, found.variant) : null, el("span", { class: "muted" }, bytes(found.size)))),
      found.refusal || found.installed ? null : el("div", { class: "how" }, wanted.map(({ field }) => field), go)),
    found.refusal ? problemBox({ message: found.refusal.detail }, open(source, found.refusal, wanted)) : null,
    found.installed ? el("p", { class: "good" }, "Installed already: ", el("a", { href: modelHref(found.installed.id) }, found.installed.name)) : null,
    isLora && !found.refusal ? el("div", {},
      fits.length
        ? el("p", { class: "good" }, "Fits ", fits.map((v, i) => [i ? ", " : "", el("a", { href: modelHref(v.model.id) }, v.model.name)]), ".")
        : el("p", { class: "warn" }, others.length
          ? (others.length === 1 ? `Does not fit your one ${found.family} checkpoint.` : `Fits none of your ${others.length} ${found.family} checkpoints.`)
          : `You have no ${found.family} checkpoint that it could go with.`),
      others.length ? el("details", {}, el("summary", {}, `Does not fit ${others.map((v) => v.model.name).join(", ")}: why?`),
        el("ul", {}, others.map((v) => el("li", {}, `${v.model.name}: ${v.reason}`)))) : null) : null,
    el("details", {}, el("summary", {}, found.family ? `Why ${found.family}? Why ${kindName(found.kind)}?` : "What was looked for"), el("p", {}, found.report.reason),
      el("ul", { class: "plain-evidence" }, found.report.evidence.map((e) =>
        el("li", {}, `${e.ok ? "✓" : "✗"} ${e.rule}${e.key ? ` (${e.key})` : ""}: ${e.seen ?? "nothing found"}`)))));
}

// What may be chosen of this install, each with its field; nothing where there is no choice.
function options(found) {
  const choices = [];
  if (found.source.startsWith("/")) choices.push(["place", "The file on the server", Object.entries(PLACES)]);
  const families = found.report.outcome === "identified" ? (found.report.choices ?? []).map(({ family }) => family) : [];
  if (families.length) choices.push(["family", found.kind === "checkpoint" ? "It is" : "It is for", families.map((family, i) => [i ? family : "", family])]);
  if (found.variants.length) choices.push(["variant", "Precision", [["", "as published"], ...found.variants.map((v) => [v, v])]]);
  return choices.map(([name, label, values]) => {
    const select = el("select", { id: `install-${name}` }, values.map(([value, text]) => el("option", { value }, text)));
    return { name, select, field: el("div", { class: "choice" }, el("label", { for: select.id }, label), select) };
  });
}

// `said`: what the user says of it, where its header leaves that open.
async function start(source, button, wanted, said = {}) {
  button.disabled = true;
  try {
    const options = Object.fromEntries(wanted.filter(({ select }) => select.value).map(({ name, select }) => [name, select.value]));
    const job = await api.install(source, { ...options, ...said });
    fill(answer);
    input.value = "";
    say(`Install of ${source} started.`);
    keep(job);
    follow();
  } catch (error) {
    fill(answer, problemBox(error, open(source, error, wanted, said) ?? choices(error)));
  }
  if (document.activeElement === document.body) input.focus(); // the button that had the focus is gone
}

// -- the jobs

export async function refresh() {
  try {
    for (const job of (await api.installs()).reverse()) keep(job);
    if (!jobs.size) nothing();
    follow();
  } catch (error) {
    fill(list, el("li", {}, problemBox(error)));
  }
}

const nothing = () => fill(list, el("li", { class: "muted" }, "No installs to show."));

function keep(job) {
  if (forgotten.has(job.id)) return;
  const held = jobs.get(job.id);
  if (held) {
    held.update(job);
    return;
  }
  if (!jobs.size) fill(list);
  const made = jobRow(job);
  jobs.set(job.id, made);
  list.prepend(made.row);
}

// Streams of the jobs that move, the oldest first; when one ends, the list is read anew and the next in line is followed.
function follow() {
  if (!visible) return;
  const moving = [...jobs.values()].map((j) => j.job).filter((j) => !ENDED.has(j.state) && j.state !== "paused");
  for (const job of moving.slice(0, MOST_FOLLOWED)) {
    if (!followed.has(job.id)) watch(job.id);
  }
}

async function watch(id) {
  const mine = new AbortController();
  followed.set(id, mine);
  try {
    for await (const { data } of api.installEvents(id, mine.signal)) {
      keep(data);
      if (data.state === "paused") mine.abort();
    }
  } catch (error) {
    if (error.name !== "AbortError") {
      say(error.message);
      await new Promise((later) => setTimeout(later, RETRY_AFTER));
    }
  }
  followed.delete(id);
  if (visible) refresh();
}

export function leave() {
  visible = false;
  for (const stream of followed.values()) stream.abort();
}

function jobRow(first) {
  const name = el("strong", {}, first.source);
  const state = el("span", { class: "state" });
  const bar = el("progress", { max: 1, "aria-label": `Download of ${first.source}` });
  const figures = el("span", { class: "muted figures" });
  const wrong = el("div");
  const actions = el("div", { class: "actions" });
  const row = el("li", { class: "job" }, el("div", { class: "job-head" }, name, figures, state, actions), bar, wrong);
  const held = { row, job: first, update };
  let offered = null;

  function update(job) {
    held.job = job;
    const ended = ENDED.has(job.state);
    row.dataset.state = job.state;
    fill(state, STATES[job.state] ?? job.state);
    bar.hidden = ended;
    if (job.bytes_total) bar.value = job.bytes_done / job.bytes_total;
    else bar.removeAttribute("value");
    fill(figures, figuresOf(job));
    fill(wrong, job.error ? el("p", { class: "problem" }, job.error.detail) : null, (job.notes ?? []).map((note) => el("p", { class: "muted" }, note)));
    if (offered !== job.state) {
      offered = job.state;
      const held = actions.contains(document.activeElement) ? document.activeElement.textContent : null;
      const orders = ORDERS[job.state] ?? ["pause", "cancel"];
      fill(actions, job.model_id ? el("a", { class: "button", href: modelHref(job.model_id) }, "Show") : null, toChoose(job),
        orders.map((order) => el("button", { type: "button", click: () => command(job.id, order), "aria-label": `${ORDER_NAMES[order]}: ${job.source}` }, ORDER_NAMES[order])));
      // The focus stays: on the same action, or what has taken its place.
      if (held !== null) ([...actions.children].find((action) => action.textContent === held) ?? actions.firstChild)?.focus();
    }
  }
  update(first);
  return held;
}

// What was open when it failed is looked at again, as if it were typed in: there it can be said.
function toChoose({ source, error }) {
  if (!error?.facts?.candidates?.length) return null;
  const look = () => { input.value = source; input.focus(); ask(); };
  return el("button", { type: "button", "aria-label": `Choose: ${source}`, click: look }, "Choose …");
}

const figuresOf = (job) => {
  if (!job.bytes_total) return "";
  if (job.state === "installed") return bytes(job.bytes_total);
  return [
    `${bytes(job.bytes_done)} of ${bytes(job.bytes_total)}`,
    job.bytes_per_second ? `${bytes(job.bytes_per_second)}/s` : null,
    job.seconds_left ? `${seconds(job.seconds_left)} left` : null,
  ].filter(Boolean).join(" · ");
};

async function command(id, order) {
  try {
    if (order === "forget") await forget(id);
    else keep(await api.orderInstall(id, order));
    follow();
  } catch (error) {
    say(error.message);
    refresh();
  }
}

// The row, and what has arrived; the model that it became stays.
async function forget(id) {
  try {
    await api.forgetInstall(id);
  } catch (error) {
    if (error.code !== "install_not_found") throw error; // forgotten elsewhere
  }
  forgotten.add(id);
  const known = jobs.get(id);
  if (!known) return; // a second click
  const { row, job } = known;
  const held = row.contains(document.activeElement);
  jobs.delete(id);
  row.remove();
  if (!jobs.size) nothing();
  if (held) heading.focus();
  say(`The install of ${job.source} is forgotten.`);
}
