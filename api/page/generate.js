// Generate: a checkpoint, the LoRAs that fit it, a prompt. Every value comes from a plan of the server's; this page knows no recipe.

import * as api from "./api.js";
import { debounce, el, fill, problemBox, say } from "./dom.js";
import { Gallery, image } from "./gallery.js";
import { LoraList } from "./loras.js";
import { Sampler } from "./sampler.js";
import { beginning } from "./shelf.js";

export const title = "Generate";

const SAVED = "modelshelf.form";
const EMPTY = { checkpoint: null, prompt: "", negative_prompt: "", loras: [], seed: "", n: 1, values: { scheduler: null, steps: null, cfg: null, width: null, height: null } };
const LOADING = "Loading the weights …";
const RUNNING = "modelshelf.running"; // id of the generation that this tab follows; it outlives a reload
const MOST_CHECKPOINTS = 1000; // in the menu

const form = { ...structuredClone(EMPTY), ...saved() };
let ui; // the elements, once they are built
let planning = null; // AbortController of the plan under way
const untold = []; // what the user has done that no plan has answered yet
let running = null; // AbortController of the generation under way

function saved() {
  try {
    return JSON.parse(localStorage.getItem(SAVED)) ?? {};
  } catch {
    return {}; // somebody else's text
  }
}

export function build(root) {
  const checkpoint = el("select", { id: "checkpoint", change: () => choose(checkpoint.value) });
  const prompt = el("textarea", { id: "prompt", rows: 3, input: edited });
  const negative = el("textarea", { id: "negative", rows: 1, input: edited });
  const seed = el("input", { id: "seed", inputmode: "numeric", pattern: "[0-9]*", placeholder: "random", autocomplete: "off", input: edited });
  const count = el("input", { id: "count", type: "number", min: 1, max: 16, value: 1, input: edited });
  const lorasAt = el("div");
  const samplerAt = el("div", { class: "sampler" });
  const go = el("button", { type: "submit", class: "primary go" }, "Generate");
  const notes = el("ul", { class: "notes", "aria-live": "polite" });
  const told = el("p", { class: "told", role: "status" });
  const problem = el("div");
  const stage = el("div", { class: "stage" });
  const galleryAt = el("div");
  ui = { checkpoint, prompt, negative, seed, count, go, notes, told, problem, stage };
  root.append(
    el("h1", { tabindex: "-1", class: "visually-hidden" }, "Generate"),
    el("div", { class: "studio" },
      el("form", { class: "form", novalidate: true, submit: (event) => { event.preventDefault(); generate(); } },
        el("div", { class: "field" }, el("label", { for: "checkpoint" }, "Checkpoint"), checkpoint),
        el("div", { class: "field" }, el("label", { for: "prompt" }, "Prompt"), prompt, notes),
        el("details", { class: "field", open: Boolean(form.negative_prompt) }, el("summary", {}, "Negative prompt"), el("label", { for: "negative", class: "visually-hidden" }, "Negative prompt"), negative),
        el("fieldset", {}, el("legend", {}, "LoRAs"), lorasAt),
        told,
        el("fieldset", {}, el("legend", {}, "Sampler"), samplerAt),
        el("div", { class: "pair" },
          el("div", { class: "field" }, el("label", { for: "seed" }, "Seed"), seed),
          el("div", { class: "field" }, el("label", { for: "count" }, "Pictures"), count)),
        problem, el("div", { class: "go-bar" }, go)),
      el("div", { class: "results" }, stage, galleryAt)));
  const has = (word) => prompt.value.toLowerCase().includes(word.toLowerCase());
  const add = (word) => {
    const text = prompt.value.replace(/[\s,]+$/, "");
    prompt.value = text ? `${text}, ${word}` : word;
    edited();
    prompt.focus();
  };
  ui.loras = new LoraList(lorasAt, { chosen: form.loras, changed: replan, prompt: { has, add } });
  ui.sampler = new Sampler(samplerAt, { values: form.values, changed: replan });
  ui.gallery = new Gallery(galleryAt, { reuse });
  root.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ui.go.form.requestSubmit();
  });
  write();
  const left = sessionStorage.getItem(RUNNING);
  if (left) run(async () => ({ id: left }));
}

export async function enter({ query }) {
  try {
    const [checkpoints, schedulers] = await Promise.all([everyCheckpoint(), api.schedulers()]);
    ui.sampler.schedulers(schedulers);
    fill(ui.checkpoint, checkpoints.map((m) => el("option", { value: m.id }, `${m.name} (${m.family})`)));
    ui.go.disabled = !checkpoints.length;
    if (!checkpoints.length) {
      fill(ui.problem, el("div", { class: "empty" }, el("p", {}, "There is no checkpoint yet."), beginning()));
      return;
    }
    fill(ui.problem);
    const wanted = query.get("use") ? await api.model(query.get("use")) : null;
    if (wanted) history.replaceState(null, "", "#/generate"); // once: a reload is not to add it again
    const base = !wanted ? form.checkpoint : wanted.kind === "checkpoint" ? wanted.id : await baseFor(wanted);
    const lora = wanted && wanted.kind !== "checkpoint" && base ? wanted : null;
    await choose(checkpoints.some((m) => m.id === base) ? base : checkpoints[0].id, lora);
  } catch (error) {
    fill(ui.problem, problemBox(error));
  }
}

async function everyCheckpoint() {
  const found = [];
  for (let cursor; cursor !== null && found.length < MOST_CHECKPOINTS;) {
    const page = await api.models({ kind: "checkpoint", missing: false, cursor });
    found.push(...page.models);
    cursor = page.next;
  }
  return found;
}

// The checkpoint in use if this LoRA fits it, else one that it fits.
async function baseFor(lora) {
  const fitting = (await api.compatibleCheckpoints(lora.id)).verdicts.map((v) => v.model.id);
  if (!fitting.length) say(`${lora.name} fits no installed checkpoint.`);
  return fitting.includes(form.checkpoint) ? form.checkpoint : fitting[0];
}

// `lora`: one to put in, too.
async function choose(id, lora = null) {
  ui.checkpoint.value = form.checkpoint = id;
  const { verdicts, next } = await api.compatibleLoras(id);
  const search = next === null ? null : async (q) => (await api.models({ compatible_with: id, q })).models;
  const dropped = ui.loras.allow(verdicts.map((v) => v.model), search);
  if (dropped.length) untold.push(`${dropped.join(", ")} taken off: it does not fit this checkpoint`);
  await replan(lora && ui.loras.put(lora));
}

function edited() {
  Object.assign(form, { prompt: ui.prompt.value, negative_prompt: ui.negative.value, seed: ui.seed.value, n: Number(ui.count.value) || 1 });
  ui.loras.showTriggers();
  replanSoon();
}
const replanSoon = debounce(300, () => replan());

function write() {
  ui.prompt.value = form.prompt;
  ui.negative.value = form.negative_prompt;
  ui.seed.value = form.seed;
  ui.count.value = form.n;
}

function requested() {
  const stated = Object.fromEntries(Object.entries(form.values).filter(([, value]) => value !== null));
  return {
    checkpoint: form.checkpoint, prompt: form.prompt, negative_prompt: form.negative_prompt, n: form.n,
    loras: form.loras.map(({ id, weight }) => (weight === null ? { model: id } : { model: id, weight })),
    ...(form.seed === "" ? {} : { seed: /^\d+$/.test(form.seed) ? Number(form.seed) : form.seed }),
    ...stated,
  };
}

// Ask the server what these settings would do, and show it. `why`: what the user has done, if it may change other values; a plan that
// another one overtakes leaves it to that one to tell.
async function replan(why = null) {
  if (why) untold.push(why);
  localStorage.setItem(SAVED, JSON.stringify(form));
  if (!form.checkpoint) return;
  planning?.abort();
  const mine = (planning = new AbortController());
  try {
    const preview = await api.plan(requested(), mine.signal);
    if (mine !== planning) return;
    fill(ui.problem);
    const weights = ui.loras.show(preview).map((l) => `weight of ${l.name} ${l.weight.value}`);
    const changes = [...ui.sampler.show(preview), ...weights];
    const done = untold.splice(0).join(", ");
    if (done) fill(ui.told, changes.length ? `${done}. It sets: ${changes.join(", ")}.` : `${done}.`);
    fill(ui.notes, [...preview.plan.notes, ...preview.plan.warnings].map((note) => el("li", {}, note)));
  } catch (error) {
    if (error.name !== "AbortError") fill(ui.problem, problemBox(error));
  }
}

const generate = () => run(() => api.submit(requested()));

// `begin()` gives the generation, one that is new or one that goes on since before a reload.
async function run(begin) {
  if (running) return;
  running = new AbortController();
  let kept = false;
  const bar = el("progress", { "aria-label": "Progress" });
  const doing = el("p", { class: "muted" }, "Starting …");
  const seen = el("div", { class: "preview" });
  ui.go.disabled = true;
  fill(ui.problem);
  fill(ui.stage, el("div", { class: "running" }, seen, bar, el("div", { class: "job-foot" }, doing,
    el("button", { type: "button", click: () => running?.abort() }, "Cancel"))));
  ui.stage.scrollIntoView({ block: "nearest" });
  try {
    const { id } = await begin();
    sessionStorage.setItem(RUNNING, id);
    const made = await api.follow(id, { signal: running.signal, progress: (p) => progress(p, bar, doing, seen) });
    const pictures = made.pictures.map((p) => ({ ...p, plan: made.plan, timings: made.timings, created: new Date().toISOString() }));
    await ui.gallery.add([...pictures].reverse());
    fill(ui.stage, el("ul", { class: "fresh" }, pictures.map((p) => el("li", {}, image(p)))),
      made.warnings.length ? el("ul", { class: "notes" }, made.warnings.map((w) => el("li", {}, w))) : null);
    say(pictures.length === 1 ? "The picture is ready." : `${pictures.length} pictures are ready.`);
  } catch (error) {
    fill(ui.stage);
    if (error.name === "AbortError") say("Cancelled.");
    else fill(ui.problem, problemBox(error));
    if (error.code === "unreachable") kept = true; // it may go on, and is followed again after a reload
  }
  if (!kept) sessionStorage.removeItem(RUNNING);
  running = null;
  ui.go.disabled = false;
}

function progress({ ahead, done, total, waiting, previews }, bar, doing, seen) {
  if (waiting !== undefined) fill(doing, waiting ? `Waiting for ${waiting}` : LOADING);
  if (ahead) fill(doing, `${ahead} before it in the queue`);
  if (total) {
    bar.max = total;
    bar.value = done;
    fill(doing, done ? `Step ${done} of ${total}` : LOADING);
  }
  if (!previews) return;
  for (const old of seen.children) URL.revokeObjectURL(old.src);
  fill(seen, previews.map((png) => el("img", { class: "picture", src: URL.createObjectURL(png), alt: "The picture in the making" })));
}

// The settings of a picture, every value as stated, so that the same picture comes again.
async function reuse({ plan, seed }) {
  Object.assign(form, { prompt: plan.prompt, negative_prompt: plan.negative_prompt, seed: String(seed), n: 1 });
  for (const name of Object.keys(form.values)) form.values[name] = plan[name].value;
  form.loras.splice(0, Infinity, ...plan.loras.map(({ id, name, kind, triggers, weight }) => ({ id, name, kind, triggers, weight: weight.value })));
  write();
  try {
    await choose(plan.checkpoint);
    ui.prompt.focus();
    scrollTo({ top: 0 });
  } catch (error) {
    fill(ui.problem, problemBox(error));
  }
}
