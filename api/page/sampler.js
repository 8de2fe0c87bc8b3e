// Scheduler, steps, CFG and size: as planned, each marked with who recommends it, until the user states one.

import { debounce, el, fill } from "./dom.js";
import { briefly, number, provenance } from "./format.js";
import { flash } from "./loras.js";

const FIELDS = [
  { name: "scheduler", label: "Scheduler" },
  { name: "steps", label: "Steps", min: 1, max: 150, step: 1 },
  { name: "cfg", label: "CFG", min: 0, max: 30, step: 0.5 },
  { name: "width", label: "Width", min: 8, max: 4096, step: 8 },
  { name: "height", label: "Height", min: 8, max: 4096, step: 8 },
];

export class Sampler {
  // `values`: name -> what the user states, null where it is left to the recipes; `changed()` after every change.
  constructor(root, { values, changed }) {
    this.values = values;
    this.fields = FIELDS.map((field) => this.make(field, changed));
    root.append(...this.fields.map((f) => f.node));
  }

  make({ name, label, ...limits }, changed) {
    const id = `sampler-${name}`;
    const moved = debounce(name === "scheduler" ? 0 : 250, changed);
    const take = () => {
      this.values[name] = input.value === "" ? null : limits.max ? Number(input.value) : input.value;
      moved();
    };
    const input = limits.max ? el("input", { id, type: "number", ...limits, step: "any", input: take }) : el("select", { id, change: take });
    const origin = el("span", { class: "provenance", id: `${id}-origin` });
    input.setAttribute("aria-describedby", origin.id);
    const back = el("button", {
      type: "button", class: "quiet small", hidden: true, "aria-label": `Take the recommended ${label.toLowerCase()}`,
      click: () => { this.values[name] = null; changed(); input.focus(); },
    }, "reset");
    const node = el("div", { class: `field ${name}` }, el("label", { for: id }, label), input, el("p", {}, origin, back));
    return { name, label, input, origin, back, node };
  }

  schedulers(known) {
    this.labels = Object.fromEntries(known.map((s) => [s.name, s.label]));
    fill(this.fields[0].input, known.map((s) => el("option", { value: s.name }, s.label)));
  }

  // Returns the values that have changed by themselves, as text.
  show({ plan, recommended }) {
    const changes = [];
    for (const field of this.fields) {
      const planned = plan[field.name];
      const own = planned.origin === "requested";
      if (own !== (this.values[field.name] !== null)) continue; // asked for before the user stated it, or took it back: a newer plan comes
      const text = field.name === "scheduler" ? (this.labels[planned.value] ?? planned.value) : number(planned.value);
      if (document.activeElement !== field.input || !own) field.input.value = planned.value;
      const otherwise = recommended[field.name];
      fill(field.origin, own ? `your choice instead of ${this.labels[otherwise.value] ?? number(otherwise.value)}` : briefly(planned));
      field.origin.title = own ? "" : provenance(planned); // with the passage that it was read from
      field.origin.classList.toggle("recommended", planned.origin === "recommended");
      field.back.hidden = !own;
      if (!own && field.before !== undefined && field.before !== planned.value) {
        flash(field.node);
        changes.push(`${field.label} ${text}`);
      }
      field.before = planned.value;
    }
    return changes;
  }
}
