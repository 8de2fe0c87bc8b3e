// A model's own settings, edited where they stand: each field is saved when it is left, and an empty one takes the setting back.

import * as api from "./api.js";
import { el, fill, say } from "./dom.js";
import { number } from "./format.js";

const numeric = { read: (text) => (text.trim() === "" ? null : Number(text.replace(",", "."))), write: (value) => (value === undefined ? "" : number(value)) };
const words = {
  read: (text) => {
    const list = text.split(",").map((word) => word.trim()).filter(Boolean);
    return list.length ? list : null;
  },
  write: (value) => (value ?? []).join(", "),
};
const plain = { read: (text) => text.trim() || null, write: (value) => value ?? "" };

// `kinds`: of which models; `hint`: what holds while nothing is set; `held`: the value, where it is no setting of the user's.
const FIELDS = [
  { name: "name", label: "Name", ...plain, held: (m) => m.name },
  { name: "triggers", label: "Triggers", ...words, kinds: ["lora", "lcm_lora"], hint: (m) => m.triggers.join(", ") },
  { name: "tags", label: "Tags", ...words, hint: () => "comma, separated" },
  { name: "weight", label: "Weight", ...numeric, kinds: ["lora", "lcm_lora"], inputmode: "decimal", hint: (m) => number(m.weight.value) },
  { name: ["weight_min", "weight_max"], label: "Weight range", kinds: ["lora", "lcm_lora"], ...pair(), hint: (m) => range(m.recipe.weight) },
  { name: "scheduler", label: "Scheduler", ...plain, hint: (m) => m.recipe.scheduler?.value },
  { name: "steps", label: "Steps", ...numeric, inputmode: "numeric", hint: (m) => m.recipe.steps?.value },
  { name: "cfg", label: "CFG", ...numeric, inputmode: "decimal", hint: (m) => m.recipe.cfg?.value },
  { name: "notes", label: "Notes", ...plain, tag: "textarea" },
];

const range = (stated) => (stated?.min != null ? `${number(stated.min)} to ${number(stated.max)}` : undefined);

function pair() {
  return {
    read: (text) => {
      const found = text.match(/-?\d+(?:[.,]\d+)?/g)?.map((n) => Number(n.replace(",", "."))) ?? [];
      return text.trim() === "" ? [null, null] : found;
    },
    write: ([low, high]) => (low === undefined ? "" : `${number(low)} to ${number(high)}`),
  };
}

// {node, update(model)}: the fields stay while what is around them is drawn anew, so that nobody loses what he is typing.
export function editor(model, changed) {
  const rows = FIELDS.filter((f) => !f.kinds || f.kinds.includes(model.kind)).map((f) => row(f, model.id, changed));
  const node = el("section", { class: "panel" }, el("h2", {}, "Your settings"),
    el("p", { class: "muted small" }, "They beat the provider's recommendation. An emptied field takes yours back."), rows.map((r) => r.node));
  return { node, update: (now) => rows.forEach((r) => r.update(now)) };
}

function row(field, modelId, changed) {
  const names = [field.name].flat();
  const id = `edit-${names[0]}`;
  let [before, saved] = ["", null]; // what the server has, and what was last sent to it
  const wrong = el("p", { class: "field-error", role: "alert" });
  const save = async () => {
    if (input.value.trim() === before) return;
    const taken = field.read(input.value);
    const read = Array.isArray(field.name) ? taken : [taken];
    if (read.length !== names.length || read.some(Number.isNaN)) {
      fill(wrong, `“${input.value}” is not what belongs here.`);
      return;
    }
    saved = input.value;
    try {
      const answer = await api.edit(modelId, Object.fromEntries(names.map((name, i) => [name, read[i]])));
      fill(wrong);
      say(`${field.label} saved.`);
      changed(answer);
    } catch (error) {
      fill(wrong, error.message);
    }
  };
  const input = el(field.tag ?? "input", {
    id, inputmode: field.inputmode, autocomplete: "off",
    change: save, keydown: (event) => event.key === "Escape" && (input.value = before),
  });
  const update = (model) => {
    const held = names.map((name) => field.held?.(model) ?? model.overrides[name]);
    const isTyping = document.activeElement === input && ![before, saved].includes(input.value);
    before = field.write(Array.isArray(field.name) ? held : held[0]);
    if (!isTyping) input.value = before;
    input.placeholder = field.hint?.(model) ?? "not set";
  };
  return { update, node: el("div", { class: "field inline" }, el("label", { for: id }, field.label), el("div", {}, input, wrong)) };
}
