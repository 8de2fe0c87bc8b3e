// One model: what it is and why, where it came from, what fits it, and what its owner says of it.

import * as api from "./api.js";
import { copyButton, el, fill, problemBox, say } from "./dom.js";
import { editor } from "./edit.js";
import { bytes, date, kindName, number, orOthers, provenance, sayings, whose } from "./format.js";
import { kindBadge, modelHref, picture, troubles } from "./shelf.js";

export const title = "Model";

const MOST_SHOWN = 100; // verdicts in the document at once
let root;
let parts = null; // of the page that is shown

export function build(section) {
  root = section;
}

export async function enter({ id }) {
  scrollTo(0, 0);
  replace(heading("Model"), el("p", { class: "muted" }, "Loading …"));
  await load(id);
}

async function load(id) {
  try {
    show(await api.model(id));
  } catch (error) {
    replace(heading("Model"), problemBox(error, el("a", { href: "#/shelf" }, "Back to the shelf")));
  }
}

function replace(...content) {
  parts = null;
  fill(root, ...content);
}

const heading = (text) => el("h1", { tabindex: "-1" }, text);

function show(model) {
  document.title = `${model.name} · modelshelf`;
  const wasHeard = root.contains(document.activeElement); // the heading that said "Loading"
  const isNew = parts?.id !== model.id;
  if (isNew) furnish(model);
  redraw(parts.head, head(model));
  if (isNew && wasHeard) root.querySelector("h1").focus({ preventScroll: true });
  redraw(parts.left, evidence(model), compatible(model));
  parts.settings.update(model);
  redraw(parts.right, origins(model), digests(model), files(model), removal(model));
}

// The places of a page, which are filled again after every change; the settings themselves stay.
function furnish(model) {
  const [above, left, right] = [el("div", { class: "model-head" }), el("div"), el("div", { class: "stack" })];
  const settings = editor(model, again);
  replace(
    el("p", { class: "back" }, el("a", { href: "#/shelf" }, "← Shelf")), above,
    el("div", { class: "columns" }, left, el("div", {}, settings.node, right)));
  parts = { id: model.id, head: above, left, right, settings };
}

const again = (changed) => load(changed.id);

// The focus stays where it was: on the control of the same name.
function redraw(place, ...content) {
  const held = place.contains(document.activeElement) ? document.activeElement.id : null;
  fill(place, ...content);
  if (held !== null) (document.getElementById(held) ?? root.querySelector("h1")).focus({ preventScroll: true });
}

function head(model) {
  return [
    preview(model, again),
    el("div", {},
      heading(model.name),
      el("p", { class: "model-kind" }, kindBadge(model.kind), el("span", { class: "family" }, model.family), orOthers(model.report) ? el("span", { class: "muted" }, orOthers(model.report)) : null,
        model.variant && model.variant !== "normal" ? el("span", {}, model.variant) : null,
        model.prediction_type ? el("span", { class: "muted" }, `${model.prediction_type} prediction`) : null,
        el("span", { class: "muted" }, model.format), el("span", { class: "muted" }, bytes(model.size)), ...troubles(model)),
      model.weight ? el("p", {}, el("strong", {}, `Weight ${number(model.weight.value)} `),
        el("span", { class: "provenance" }, provenance(model.weight))) : null,
      model.overrides.notes ? el("p", { class: "own-notes" }, model.overrides.notes) : null,
      model.triggers.length ? el("p", { class: "triggers" }, el("span", { class: "muted" }, "Triggers "),
        model.triggers.map((word) => copyButton(word))) : null,
      el("p", {}, el("a", { class: "button primary", href: `#/generate?use=${encodeURIComponent(model.id)}` },
        model.kind === "checkpoint" ? "Generate with it" : "Use it in a picture"))),
  ];
}

// Asked twice, since a file that is gone is gone.
function removal(model) {
  const wrong = el("div");
  const go = async (files) => {
    try {
      await api.remove(model.id, files);
      dialog.close();
      say(`${model.name} was removed.`);
      location.hash = "#/shelf";
    } catch (error) {
      fill(wrong, problemBox(error));
    }
  };
  const ask = el("h2", { id: "removal-title" }, `Remove ${model.name}?`);
  const dialog = el("dialog", { class: "viewer small-dialog", "aria-labelledby": ask.id }, ask,
    el("p", {}, model.managed
      ? `Its ${model.files.length > 1 ? "files are" : "file is"} ${bytes(model.size)} on the server's disk.`
      : "It was registered where it lies: modelshelf never deletes there, and its file stays."),
    wrong,
    el("p", { class: "actions" },
      model.managed ? el("button", { type: "button", class: "danger", click: () => go(true) }, "Remove it and its file") : null,
      el("button", { type: "button", class: model.managed ? null : "danger", click: () => go(false) }, model.managed ? "Forget it, keep the file" : "Forget it"),
      el("button", { type: "button", class: "quiet", click: () => dialog.close() }, "Cancel")));
  return el("p", { class: "removal" }, el("button", { type: "button", class: "quiet", click: () => dialog.showModal() }, "Remove from the shelf …"), dialog);
}

function preview(model, again) {
  const chosen = el("input", {
    type: "file", accept: "image/png,image/jpeg,image/webp", class: "visually-hidden", id: "preview-file",
    change: async () => {
      if (!chosen.files.length) return;
      try {
        again(await api.setPreview(model.id, chosen.files[0]));
        say("The preview was changed.");
      } catch (error) {
        say(error.message);
      }
    },
  });
  const remove = el("button", {
    type: "button", class: "quiet", click: async () => again(await api.removePreview(model.id)),
  }, "Remove");
  return el("figure", { class: "model-preview" }, picture(model),
    el("figcaption", {}, chosen, el("label", { for: "preview-file", class: "button quiet" }, "Choose a preview …"),
      model.overrides.preview ? remove : null));
}

const panel = (name, ...content) => el("section", { class: "panel" }, el("h2", {}, name), ...content);

const OWN_WORDS = { family: ({ overrides: { family }, kind }) => whose({ family, kind }), kind: ({ overrides }) => `of the kind ${kindName(overrides.kind)}` };

// What its layers leave open, the user may say, and take back.
function correction(model) {
  const wrong = el("div");
  const told = async (said, text) => {
    try {
      const changed = await api.edit(model.id, said);
      say(text(changed));
      again(changed);
    } catch (error) {
      fill(wrong, problemBox(error));
    }
  };
  const words = Object.keys(OWN_WORDS).filter((word) => model.overrides[word] != null);
  const unsaid = Object.fromEntries(words.map((word) => [word, null]));
  const others = sayings(model.report.choices ?? []).filter(({ said }) => said.family !== model.family);
  if (!words.length && !others.length) return null;
  return el("div", { class: "correction" },
    words.length ? el("p", {}, `You said that it is ${words.map((word) => OWN_WORDS[word](model)).join(" and ")}. `,
      el("button", { type: "button", class: "quiet", id: "unsay", click: () => told(unsaid, ({ family }) => `Taken back: it counts as ${family}.`) }, "Take it back"))
      : el("p", { class: "actions", role: "group", "aria-label": "What it is for" },
        others.map(({ said, text }) =>
          el("button", { type: "button", id: `say-${said.family}`, click: () => told(said, ({ family }) => `It counts as ${family} now.`) }, text))),
    wrong);
}

function evidence(model) {
  const { family, kind, report } = model;
  const isLcm = kind === "lcm_lora";
  const apart = new Set(report.traits.flatMap((t) => t.evidence).map((e) => JSON.stringify(e)));
  return panel(`Why ${family}? Why ${kindName(kind)}?`,
    el("p", {}, report.reason),
    correction(model),
    evidenceTable("Evidence", report.evidence.filter((e) => !apart.has(JSON.stringify(e)))),
    report.traits.map((t) => el("details", { open: isLcm && t.name === "lcm" },
      el("summary", {}, `Is it made for few steps (${t.name})? ${Math.round(t.confidence * 100)} % sure${t.confidence < 0.5 ? ", which is too little" : ""}`),
      evidenceTable(`Evidence for ${t.name}`, t.evidence))));
}

const evidenceTable = (label, rows) => el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
  el("table", { class: "evidence" },
    el("thead", {}, el("tr", {}, ["", "What was looked for", "Expected", "Found"].map((t) =>
      t ? el("th", { scope: "col" }, t) : el("td")))),
    el("tbody", {}, rows.map((e) => el("tr", { class: e.ok ? "ok" : "not-ok" },
      el("td", {}, el("span", { class: "mark" }, e.ok ? "✓" : "✗"), el("span", { class: "visually-hidden" }, e.ok ? "holds" : "does not hold")),
      el("td", {}, e.rule.replaceAll("_", " "), e.key ? el("code", {}, e.key) : null),
      el("td", {}, e.expected ?? ""),
      el("td", {}, e.seen ?? ""))))));

function compatible(model) {
  const isCheckpoint = model.kind === "checkpoint";
  const place = el("div", {}, el("p", { class: "muted" }, "Comparing …"));
  const load = async () => {
    try {
      const ask = isCheckpoint ? api.compatibleLoras : api.compatibleCheckpoints;
      const { verdicts: all, next } = await ask(model.id, true);
      verdicts(place, all, isCheckpoint, next !== null);
    } catch (error) {
      fill(place, problemBox(error));
    }
  };
  load();
  return panel(isCheckpoint ? "LoRAs that fit" : "Checkpoints that it fits", place);
}

function verdicts(place, all, isCheckpoint, more) {
  const row = ({ model, reason }) => el("li", {}, el("a", { href: modelHref(model.id) }, model.name), " ", isCheckpoint ? kindBadge(model.kind) : null,
    el("span", { class: "reason" }, reason));
  const list = (some) => [
    el("ul", { class: "verdicts" }, some.slice(0, MOST_SHOWN).map(row)),
    some.length > MOST_SHOWN ? el("p", { class: "muted" }, `and ${(some.length - MOST_SHOWN).toLocaleString()} more`) : null,
  ];
  const fitting = all.filter((v) => v.fits);
  const others = all.filter((v) => !v.fits);
  fill(place,
    fitting.length ? list(fitting) : el("p", { class: "muted" }, isCheckpoint ? "No installed LoRA fits." : "It fits no installed checkpoint."),
    others.length ? el("details", {}, el("summary", {}, `${others.length.toLocaleString()} that ${others.length === 1 ? "does" : "do"} not fit, and why`), list(others)) : null,
    more ? el("p", { class: "muted" }, `The first ${all.length.toLocaleString()} of all were compared here.`) : null);
}

const facts = (pairs) => el("dl", { class: "facts" }, pairs.filter(([, value]) => value).map(([name, value]) =>
  el("div", {}, el("dt", {}, name), el("dd", {}, value))));

const repositoryLink = (id) =>
  el("a", { href: `https://huggingface.co/${id.split("/").map(encodeURIComponent).join("/")}`, rel: "noreferrer" }, id);

function origins(model) {
  const said = Object.entries(model.facts).filter(([, fact]) => ["string", "number"].includes(typeof fact.value));
  const source = ({ url, repo_id: id, revision }) => el("li", {},
    id ? [repositoryLink(id), " ", revision ? copyButton(revision, `commit ${revision.slice(0, 10)}`) : null] : null,
    el("div", {}, el("code", {}, url)));
  return panel("Where it comes from", facts([
    ["Sources", model.sources.length ? el("ul", { class: "sources" }, model.sources.map(source)) : null],
    ...said.map(([name, fact]) => [name.replaceAll("_", " "), [String(fact.value), el("span", { class: "provenance" }, ` ${fact.by}`)]]),
    ["tags", model.tags.join(", ")],
    ["on the shelf", `since ${date(model.created_at)}`],
    ["on disk", [el("code", {}, model.path), model.managed ? null : el("span", { class: "provenance" }, " where it lay")]],
    ["id", copyButton(model.id)],
  ]));
}

const DIGESTS = { blake3: "BLAKE3", sha256: "SHA-256", autov3: "AutoV3" };

function digests(model) {
  const row = ({ algorithm, value, by, contradicted }) => [DIGESTS[algorithm] ?? algorithm, [copyButton(value),
    by ? el("span", { class: "provenance" }, ` claimed by ${by}`, contradicted ? "; the bytes have another" : "") : null]];
  return panel("Digests", model.digests.length ? facts(model.digests.map(row)) : el("p", { class: "muted" }, "Not hashed yet."));
}

function files(model) {
  if (model.files.length < 2) return null;
  return panel("Files", el("details", {}, el("summary", {}, `${model.files.length} files, ${bytes(model.size)}`),
    el("ul", { class: "files" }, model.files.map((f) => el("li", {}, el("code", {}, f.path), " ", el("span", { class: "muted" }, bytes(f.size)))))));
}
