// The pictures of this browser, each with all that made it: look closer, compare, use the settings again, download, discard.

import * as api from "./api.js";
import { el, fill, say } from "./dom.js";
import { date, number, provenance, seconds } from "./format.js";
import * as store from "./store.js";

const FIRST_SHOWN = 48;
const TINY = 128; // pixels: smaller pictures are enlarged without blur

export class Gallery {
  // `reuse(picture)` puts its settings into the form.
  constructor(root, { reuse }) {
    Object.assign(this, { reuse, pictures: [], marked: new Set(), limit: FIRST_SHOWN });
    this.compareButton = el("button", { type: "button", disabled: true, click: () => this.compare() });
    this.grid = el("ul", { class: "gallery" });
    this.more = el("button", { type: "button", hidden: true, click: () => { this.limit += FIRST_SHOWN; this.draw(); } }, "Show more");
    this.dialog = el("dialog", { class: "viewer" });
    root.append(el("div", { class: "gallery-head" }, el("h2", {}, "Gallery"), el("span", { class: "muted" }, "kept in this browser"), this.compareButton), this.grid, this.more, this.dialog);
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.load();
  }

  async load() {
    try {
      this.pictures = await store.all();
    } catch (error) {
      this.broken = error; // private windows may forbid the store: pictures then last as long as the page
      say("This browser does not let the page keep pictures; they are lost when it is closed.");
    }
    this.draw();
  }

  async add(pictures) {
    for (const picture of pictures) {
      const kept = this.broken ? { ...picture, id: `${Date.now()}-${picture.seed}` } : await store.add(picture);
      this.pictures.unshift(kept);
    }
    this.draw();
  }

  draw() {
    fill(this.compareButton, this.marked.size ? `Compare ${this.marked.size}` : "Compare");
    this.compareButton.disabled = this.marked.size < 2;
    fill(this.grid, this.pictures.length
      ? this.pictures.slice(0, this.limit).map((p) => this.figure(p))
      : el("li", { class: "empty" }, "Pictures will appear here."));
    this.more.hidden = this.pictures.length <= this.limit;
  }

  figure(picture) {
    const { plan, seed } = picture;
    const mark = el("input", { type: "checkbox", checked: this.marked.has(picture.id), "aria-label": `Mark picture with seed ${seed} for comparing`, change: () => {
      if (mark.checked) this.marked.add(picture.id);
      else this.marked.delete(picture.id);
      fill(this.compareButton, this.marked.size ? `Compare ${this.marked.size}` : "Compare");
      this.compareButton.disabled = this.marked.size < 2;
    } });
    return el("li", { class: "made" },
      el("button", { type: "button", class: "look", "aria-label": `Look closer: ${plan.prompt}, seed ${seed}`, click: () => this.look(picture) }, image(picture)),
      el("label", { class: "marking" }, mark),
      el("p", { class: "made-prompt" }, plan.prompt || "no prompt"),
      el("p", { class: "made-settings" }, summary(picture)));
  }

  actions(picture) {
    const name = `${plainName(picture.plan.checkpoint_name)}-${picture.seed}.png`;
    return el("div", { class: "actions" },
      el("button", { type: "button", class: "primary", click: () => { this.dialog.close(); this.reuse(picture); } }, "Use these settings"),
      el("a", { class: "button", href: urlOf(picture), download: name }, "Download"),
      this.asPreview(picture),
      el("button", { type: "button", class: "quiet", click: () => this.discard(picture) }, "Discard"));
  }

  asPreview(picture) {
    const { plan } = picture;
    const models = [{ id: plan.checkpoint, name: plan.checkpoint_name }, ...plan.loras];
    const choice = el("select", { "aria-label": "Make it the preview of", change: async () => {
      const model = models.find((m) => m.id === choice.value);
      choice.value = "";
      try {
        await api.setPreview(model.id, picture.blob);
        say(`It is the preview of ${model.name} now.`);
      } catch (error) {
        say(error.message);
      }
    } }, el("option", { value: "" }, "Make it the preview of …"), models.map((m) => el("option", { value: m.id }, m.name)));
    return choice;
  }

  async discard(picture) {
    this.dialog.close();
    this.marked.delete(picture.id);
    this.pictures = this.pictures.filter((p) => p !== picture);
    if (!this.broken) await store.remove(picture.id);
    release(picture);
    this.draw();
  }

  look(picture) {
    fill(this.dialog, this.head(`Seed ${picture.seed}`),
      el("div", { class: "viewer-body" }, image(picture), el("div", {}, this.actions(picture), settingsTable([picture]))));
    this.dialog.showModal();
  }

  compare() {
    const marked = this.pictures.filter((p) => this.marked.has(p.id)).reverse();
    fill(this.dialog, this.head(`${marked.length} pictures`), settingsTable(marked, true));
    this.dialog.showModal();
  }

  head(title) {
    const heading = el("h2", { id: "viewer-title" }, title);
    this.dialog.setAttribute("aria-labelledby", heading.id);
    return el("div", { class: "viewer-head" }, heading, el("button", { type: "button", class: "quiet", click: () => this.dialog.close() }, "Close"));
  }
}

// One row a setting, one column a picture; rows that differ stand out.
function settingsTable(pictures, withPictures = false) {
  const columns = pictures.map(settings);
  const names = [...new Set(columns.flatMap((c) => [...c.keys()]))];
  const rows = names.map((name) => {
    const cells = columns.map((c) => c.get(name) ?? { text: "–" });
    const differs = cells.some((c) => c.text !== cells[0].text);
    return el("tr", { class: differs ? "differs" : null }, el("th", { scope: "row" }, name),
      cells.map((c) => el("td", {}, c.text, c.by ? el("span", { class: "provenance" }, c.by) : null)));
  });
  const head = withPictures
    ? el("thead", {}, el("tr", {}, el("td"), pictures.map((p) => el("th", { scope: "col" }, image(p)))))
    : null;
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Settings" }, el("table", { class: "settings" }, head, el("tbody", {}, rows)));
}

function settings({ plan, seed, timings, created }) {
  const sourced = (value) => ({ text: number(value.value), by: provenance(value) });
  return new Map([
    ["Prompt", { text: plan.prompt }],
    ...(plan.negative_prompt ? [["Negative", { text: plan.negative_prompt }]] : []),
    ["Checkpoint", { text: plan.checkpoint_name }],
    ...plan.loras.map((l) => [l.name, sourced(l.weight)]),
    ["Scheduler", sourced(plan.scheduler)],
    ["Steps", sourced(plan.steps)],
    ["CFG", sourced(plan.cfg)],
    ["Seed", { text: String(seed) }],
    ["Size", { text: `${plan.width.value} × ${plan.height.value}` }],
    ["Time", { text: timings.total ? seconds(timings.total) : "" }],
    ["Made", { text: date(created) }],
  ]);
}

const summary = ({ plan, seed }) => [
  ...plan.loras.map((l) => `${l.name} ${number(l.weight.value)}`),
  plan.scheduler.value, `${plan.steps.value} steps`, `CFG ${number(plan.cfg.value)}`, `seed ${seed}`,
].join(" · ");

const plainName = (name) => name.replace(/[^\p{L}\p{N}.+-]+/gu, "-") || "picture";

export function image(picture) {
  const { plan } = picture;
  return el("img", { class: Math.max(plan.width.value, plan.height.value) <= TINY ? "picture tiny" : "picture", src: urlOf(picture), alt: plan.prompt || "picture without a prompt", decoding: "async" });
}

// One object URL a picture, as long as it is kept.
const urls = new WeakMap();
function urlOf(picture) {
  if (!urls.has(picture.blob)) urls.set(picture.blob, URL.createObjectURL(picture.blob));
  return urls.get(picture.blob);
}
function release(picture) {
  URL.revokeObjectURL(urls.get(picture.blob));
  urls.delete(picture.blob);
}
