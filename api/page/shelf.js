// The shelf: every installed model, filtered and searched by the server, in a grid that stays small whatever its length.

import * as api from "./api.js";
import { copyButton, debounce, el, fill, problemBox } from "./dom.js";
import { KINDS, bytes, kindName, number, provenance } from "./format.js";
import { VirtualGrid } from "./virtual.js";

export const title = "Shelf";

const SHOWN_TRIGGERS = 3; // of a card; the model's own page shows all
const LAYOUT = "modelshelf.layout";

const wanted = { kind: "", family: "", q: "", sort: "name" };
const SORTS = { name: "By name", "-created": "Newest first", "-size": "Largest first" };
let grid, message, familySelect, kindButtons;
let next = null; // cursor of the following page; null: there is none
let loading = null; // AbortController of the request under way

export function build(root) {
  const search = el("input", {
    type: "search", class: "search", placeholder: "Search names, repositories, triggers", "aria-label": "Search models",
    autocomplete: "off", spellcheck: "false",
    input: debounce(150, () => change({ q: search.value.trim() })),
  });
  familySelect = el("select", { "aria-label": "Family", change: () => change({ family: familySelect.value }) });
  kindButtons = ["", ...Object.keys(KINDS)].map((kind) =>
    el("button", { type: "button", "data-kind": kind, click: () => change({ kind }) }));
  const layouts = ["cards", "list"].map((name) =>
    el("button", { type: "button", "data-layout": name, click: () => lay(name) }, name === "cards" ? "Cards" : "List"));
  const sort = el("select", { "aria-label": "Order", change: () => change({ sort: sort.value }) },
    Object.entries(SORTS).map(([value, name]) => el("option", { value }, name)));
  message = el("div");
  const holder = el("div", { class: "grid" });
  root.append(
    el("h1", { tabindex: "-1", class: "visually-hidden" }, "Shelf"),
    el("div", { class: "filters" },
      search,
      el("div", { class: "segments", role: "group", "aria-label": "Kind" }, kindButtons),
      familySelect, sort,
      el("div", { class: "segments", role: "group", "aria-label": "Layout" }, layouts)),
    message, holder);
  grid = new VirtualGrid(holder, { render: card, near: more });

  function lay(name) {
    localStorage.setItem(LAYOUT, name);
    holder.classList.toggle("as-list", name === "list");
    for (const button of layouts) button.setAttribute("aria-pressed", button.dataset.layout === name);
    grid.set(grid.items, "Models");
  }
  lay(localStorage.getItem(LAYOUT) === "list" ? "list" : "cards");

  addEventListener("keydown", (event) => {
    if (event.key === "/" && !root.hidden && !event.target.matches("input, textarea, select")) {
      event.preventDefault();
      search.focus();
    }
  });
}

export function enter() {
  reload();
}

function change(filters) {
  Object.assign(wanted, filters);
  reload();
}

async function reload() {
  loading?.abort();
  const mine = (loading = new AbortController());
  try {
    const [page, known] = await Promise.all([api.models({ ...wanted, signal: mine.signal }), api.families()]);
    if (mine !== loading) return;
    loading = null;
    next = page.next;
    tally(known);
    fill(message, page.models.length ? null : empty(known));
    grid.set(page.models, "Models");
  } catch (error) {
    if (error.name === "AbortError") return;
    loading = null;
    fill(message, problemBox(error));
  }
}

async function more() {
  if (next === null || loading) return;
  const mine = (loading = new AbortController());
  try {
    const page = await api.models({ ...wanted, cursor: next, signal: mine.signal });
    loading = null;
    next = page.next;
    grid.append(page.models);
  } catch (error) {
    if (error.name === "AbortError") return;
    loading = null;
    next = null; // no attempt at every pixel that is scrolled
    fill(message, problemBox(error, el("button", { type: "button", click: reload }, "Try again")));
  }
}

function tally(known) {
  const of = (kind) => known.reduce((sum, f) => sum + (kind ? (f.kinds[kind] ?? 0) : f.models), 0);
  for (const button of kindButtons) {
    const kind = button.dataset.kind;
    button.setAttribute("aria-pressed", kind === wanted.kind);
    fill(button, kind ? `${KINDS[kind]}s` : "All", el("span", { class: "tally" }, of(kind).toLocaleString()));
  }
  fill(familySelect,
    el("option", { value: "" }, "Every family"),
    known.map((f) => el("option", { value: f.family }, `${f.family} (${f.models.toLocaleString()})`)));
  familySelect.value = wanted.family;
}

function empty(known) {
  const filtered = wanted.kind || wanted.family || wanted.q;
  return el("div", { class: "empty" }, filtered && known.length
    ? [el("p", {}, "No model matches these filters.")]
    : [el("h2", {}, "The shelf is empty"), beginning()]);
}

// What somebody does who has nothing yet.
export function beginning() {
  const wrong = el("div");
  const starter = el("button", {
    type: "button", class: "primary", click: async () => {
      starter.disabled = true;
      try {
        await api.installStarter();
        location.hash = "#/install";
      } catch (error) {
        starter.disabled = false;
        fill(wrong, problemBox(error));
      }
    },
  }, "Install the starter models");
  return el("div", { class: "beginning" },
    el("p", {}, "The starter models come with modelshelf: a checkpoint and three LoRAs, 22 MB in all, enough to try everything in a minute."),
    el("p", { class: "actions" }, starter, el("a", { href: "#/install", class: "button" }, "Install from an address")),
    el("p", { class: "small" }, "Have models on this machine already? ", el("code", {}, "modelshelf scan FOLDER"), " registers them where they lie."),
    wrong);
}

export const modelHref = (id) => `#/model/${encodeURIComponent(id)}`;

// The picture that stands for a model, or, where there is none, a quiet tile of a colour that is its own.
export function picture(model) {
  const url = api.previewUrl(model);
  if (url) return el("img", { class: "picture", src: url, alt: "", loading: "lazy", decoding: "async" });
  const tile = el("div", { class: "picture tile", "aria-hidden": "true" }, initials(model.name));
  tile.style.setProperty("--hue", parseInt((model.blake3 ?? "").slice(0, 4), 16) % 360 || 210);
  return tile;
}

const initials = (name) => (name.match(/[\p{L}\p{N}]+/gu) ?? ["?"]).slice(0, 2).map((word) => [...word][0]).join("");

// What is wrong with its file, if anything.
export const troubles = (model) => [
  model.missing_since ? el("span", { class: "badge trouble" }, "file is gone") : null,
  model.damaged_at ? el("span", { class: "badge trouble" }, "file has changed") : null,
];

export const kindBadge = (kind) => el("span", { class: `badge ${kind}` }, kindName(kind));

function card(model) {
  return el("article", { class: "card" },
    picture(model),
    el("div", { class: "card-text" },
      el("h2", { class: "card-name" }, el("a", { href: modelHref(model.id), title: model.name }, model.name)),
      el("p", { class: "card-kind" }, kindBadge(model.kind), el("span", { class: "family" }, model.family),
        model.variant && model.variant !== "normal" ? el("span", { class: "muted" }, model.variant) : null, ...troubles(model)),
      el("p", { class: "card-triggers" }, model.triggers.slice(0, SHOWN_TRIGGERS).map((word) => copyButton(word))),
      el("p", { class: "card-facts" },
        model.weight ? el("span", { title: provenance(model.weight) }, `weight ${number(model.weight.value)}`) : null,
        el("span", {}, bytes(model.size)))),
    el("a", { class: "card-use", href: `#/generate?use=${encodeURIComponent(model.id)}`, "aria-label": `Generate with ${model.name}` }, "Use"));
}
