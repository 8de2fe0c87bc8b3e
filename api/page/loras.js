// The LoRAs of a picture: those that fit the checkpoint are offered; each chosen one has its weight, where that comes from, and its triggers.

import { debounce, el, fill } from "./dom.js";
import { number, provenance } from "./format.js";
import { kindBadge, modelHref } from "./shelf.js";

const STEP = 0.05;
const USUAL = [0, 1.5]; // of the slider; a value outside widens it
const LIMIT = 4; // the most that the service takes, either way
const MOST_OFFERED = 50;

export class LoraList {
  // `chosen`: [{id, name, kind, triggers, weight}], weight null as long as the user has not moved it; `changed(why)` after every change;
  // `prompt`: {has(word), add(word)}.
  constructor(root, { chosen, changed, prompt }) {
    Object.assign(this, { chosen, changed, prompt, fitting: [], rows: new Map() });
    this.search = el("input", { type: "search", placeholder: "Search the LoRAs that fit", "aria-label": "Search the LoRAs that fit", autocomplete: "off", input: debounce(80, () => this.offer()) });
    this.offers = el("ul", { class: "offers" });
    this.summary = el("summary", { class: "button" });
    this.picker = el("details", { class: "picker", hidden: true }, this.summary, this.search, this.offers);
    this.picker.addEventListener("toggle", () => this.picker.open && this.search.focus());
    this.picker.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        this.picker.open = false;
        this.summary.focus();
      }
    });
    this.list = el("ul", { class: "loras" });
    root.append(this.picker, this.list); // on top, where no row that grows can push it away from under the pointer
  }

  // The LoRAs that fit the checkpoint; where there are more, `more(text)` finds them. Returns the names of chosen ones that do not fit.
  allow(fitting, more) {
    this.fitting = fitting;
    this.more = more;
    this.picker.hidden = false; // before, nobody knows what there is to add
    const ids = new Set(fitting.map((m) => m.id));
    const dropped = more ? [] : this.chosen.filter((l) => !ids.has(l.id)); // among more, the plan will tell
    for (const lora of dropped) this.chosen.splice(this.chosen.indexOf(lora), 1);
    this.draw();
    return dropped.map((l) => l.name);
  }

  // Returns what has changed, in words; null where it is in already.
  put(model) {
    if (this.chosen.some((l) => l.id === model.id)) return null;
    this.chosen.push({ id: model.id, name: model.name, kind: model.kind, triggers: model.triggers, weight: null });
    this.draw();
    return `${model.name} added`;
  }

  // From the offers, which close.
  take(model) {
    this.picker.open = false;
    this.search.value = "";
    this.changed(this.put(model));
    this.summary.focus(); // the button that had the focus is gone
  }

  remove(lora) {
    this.chosen.splice(this.chosen.indexOf(lora), 1);
    this.draw();
    this.summary.focus();
    this.changed(`${lora.name} removed`);
  }

  draw() {
    // A row that stays keeps what it shows, so that a change of its weight is seen to be one.
    const kept = (lora) => (this.rows.get(lora.id)?.lora === lora ? this.rows.get(lora.id) : new LoraRow(lora, this));
    this.rows = new Map(this.chosen.map((lora) => [lora.id, kept(lora)]));
    fill(this.list, [...this.rows.values()].map((row) => row.node));
    this.offer();
  }

  async offer() {
    const isLeft = (m) => !this.chosen.some((l) => l.id === m.id);
    const left = this.fitting.filter(isLeft);
    const number = `${left.length.toLocaleString()}${this.more ? " and more" : ""}`;
    fill(this.summary, left.length ? `Add a LoRA (${number} fit${left.length === 1 ? "s" : ""})` : this.fitting.length ? "All that fit are in" : "No LoRA fits this checkpoint");
    const sought = this.search.value.trim().toLowerCase();
    const holds = (m) => [m.name, m.repo_id ?? "", ...m.triggers].some((t) => t.toLowerCase().includes(sought));
    const found = sought && this.more ? (await this.more(sought)).filter(isLeft) : left.filter(holds);
    if (sought !== this.search.value.trim().toLowerCase()) return; // typed on meanwhile
    fill(this.offers,
      found.slice(0, MOST_OFFERED).map((m) => el("li", {}, el("button", { type: "button", class: "offer", click: () => this.take(m) },
        el("span", {}, m.name), kindBadge(m.kind)))),
      found.length > MOST_OFFERED ? el("li", { class: "muted" }, `and ${(found.length - MOST_OFFERED).toLocaleString()} more: search to narrow them`) : null,
      found.length ? null : el("li", { class: "muted" }, "None by that name."));
  }

  // Weights as the server has planned them. Returns the rows whose weight has changed by itself.
  show({ plan, recommended, ranges }) {
    return plan.loras.filter((planned, i) => this.rows.get(planned.id)?.show(planned, recommended.loras[i].weight, ranges[planned.id]));
  }

  showTriggers() {
    for (const row of this.rows.values()) row.showTriggers();
  }
}

class LoraRow {
  constructor(lora, list) {
    this.lora = lora;
    this.list = list;
    const id = `weight-${lora.id}`;
    const moved = debounce(120, () => list.changed(null));
    const take = (text) => {
      const value = Number(text);
      if (text === "" || Number.isNaN(value) || Math.abs(value) > LIMIT) return;
      this.lora.weight = value;
      this.place(value);
      moved();
    };
    this.slider = el("input", { type: "range", id, step: STEP, min: USUAL[0], max: USUAL[1], input: () => take(this.slider.value) });
    this.exact = el("input", { type: "number", class: "exact", step: STEP, min: -LIMIT, max: LIMIT, "aria-label": `Weight of ${lora.name}, exactly`, change: () => take(this.exact.value) });
    this.scale = el("div", { class: "scale" }, el("div", { class: "range-band" }), el("div", { class: "range-mark" }), this.slider);
    this.origin = el("p", { class: "provenance" });
    this.back = el("button", { type: "button", class: "quiet small", hidden: true, click: () => { this.lora.weight = null; list.changed(null); } }, "Take the recommended one");
    this.triggers = el("p", { class: "triggers" });
    this.node = el("li", { class: "chosen" },
      el("div", { class: "lora-head" },
        el("label", { for: id }, el("span", { class: "visually-hidden" }, "Weight of "), lora.name),
        kindBadge(lora.kind),
        el("a", { class: "small", href: modelHref(lora.id), "aria-label": `About ${lora.name}` }, "about"),
        el("button", { type: "button", class: "quiet small", "aria-label": `Remove ${lora.name}`, click: () => list.remove(lora) }, "Remove")),
      el("div", { class: "lora-weight" }, this.scale, this.exact),
      this.origin, this.back, this.triggers);
    this.showTriggers();
  }

  // Returns whether the weight has changed without the user's hand on it.
  show(planned, recommended, range) {
    const before = this.value;
    const values = [planned.weight.value, recommended.value, range?.min, range?.max].filter((v) => v !== undefined);
    this.slider.min = Math.min(USUAL[0], ...values);
    this.slider.max = Math.max(USUAL[1], ...values);
    this.place(planned.weight.value);
    const at = (value) => (value - this.slider.min) / (this.slider.max - this.slider.min);
    this.scale.style.setProperty("--mark", at(recommended.value));
    this.scale.classList.toggle("has-range", Boolean(range));
    if (range) {
      this.scale.style.setProperty("--from", at(range.min));
      this.scale.style.setProperty("--to", at(range.max));
    }
    const own = planned.weight.origin === "requested";
    const said = own ? `your choice; ${number(recommended.value)} is ${provenance(recommended)}` : provenance(planned.weight);
    fill(this.origin, said, range ? `; works from ${number(range.min)} to ${number(range.max)}` : null);
    this.slider.setAttribute("aria-description", this.origin.textContent);
    this.back.hidden = !own || planned.weight.value === recommended.value;
    const changed = !own && before !== undefined && before !== planned.weight.value;
    if (changed) flash(this.node);
    return changed;
  }

  place(value) {
    this.value = value;
    this.slider.value = value;
    if (document.activeElement !== this.exact || Number(this.exact.value) !== value) this.exact.value = number(value);
  }

  showTriggers() {
    fill(this.triggers, this.lora.triggers.map((word) => {
      const there = this.list.prompt.has(word);
      return el("button", { type: "button", class: "chip", disabled: there, "aria-label": there ? `${word} is in the prompt` : `Add ${word} to the prompt`,
        click: () => this.list.prompt.add(word) }, there ? `✓ ${word}` : `+ ${word}`);
    }));
  }
}

// Draws the eye to what has changed by itself.
export function flash(node) {
  node.classList.remove("flash");
  requestAnimationFrame(() => requestAnimationFrame(() => node.classList.add("flash")));
}
