// The REST interface as openapi.json describes it. Read only: curl and the page at / are where things are tried.

import { el, fill } from "./dom.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const nameOf = (ref) => ref.split("/").pop();

// Paragraphs, with `code` in backticks: all that the descriptions use.
const prose = (text = "") => text.split(/\n{2,}/).filter((p) => p.trim()).map((p) => el("p", {}, words(p)));
const words = (text) => text.split("`").map((part, i) => (i % 2 ? el("code", {}, part) : part));

function typeOf(schema = {}) {
  if (schema.$ref) return el("a", { href: `#schema-${nameOf(schema.$ref)}` }, nameOf(schema.$ref));
  const either = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (either) return either.flatMap((one, i) => (i ? [" or ", typeOf(one)] : [typeOf(one)]));
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.type === "array") return ["list of ", typeOf(schema.items)];
  return [schema.type ?? "anything", schema.format ? ` (${schema.format})` : ""];
}

function table(caption, head, rows) {
  if (!rows.length) return null;
  return el("table", {}, el("caption", { class: "visually-hidden" }, caption),
    el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell))))));
}

const limits = (s) => [["default", s.default], ["at least", s.minimum], ["at most", s.maximum], ["longest", s.maxLength]]
  .filter(([, value]) => value !== undefined && value !== null).map(([name, value]) => `${name} ${JSON.stringify(value)}`).join(", ");

const contentOf = (body) => Object.entries(body?.content ?? {}).map(([media, { schema }]) => el("p", {}, el("code", {}, media), " ", typeOf(schema)));

function operation(document_, path, method, facts) {
  const resolved = (it) => (it.$ref ? it.$ref.slice(2).split("/").reduce((at, key) => at[key], document_) : it);
  const parameters = (facts.parameters ?? []).map(resolved).map((p) =>
    [el("code", {}, p.name), `${p.in}${p.required ? ", needed" : ""}`, typeOf(p.schema), [words(p.description ?? ""), " ", limits(p.schema ?? {})]]);
  const answers = Object.entries(facts.responses).map(([status, it]) => [status, resolved(it)]).map(([status, it]) =>
    [status, [words(it.description ?? ""), contentOf(it)]]);
  return el("details", { id: facts.operationId, "data-text": `${method} ${path} ${facts.summary} ${facts.description}`.toLowerCase() },
    el("summary", {}, el("span", { class: "method" }, method.toUpperCase()), el("code", {}, path), " ", facts.summary),
    prose(facts.description),
    table("Parameters", ["Parameter", "In", "Type", "Meaning"], parameters),
    facts.requestBody ? [el("h3", {}, "Body"), contentOf(resolved(facts.requestBody))] : null,
    el("h3", {}, "Answers"), table("Answers", ["Status", "Meaning"], answers));
}

function schema(name, facts) {
  const needed = new Set(facts.required);
  const fields = Object.entries(facts.properties ?? {}).map(([field, it]) =>
    [el("code", {}, field), needed.has(field) ? "yes" : "no", typeOf(it), [words(it.description ?? ""), " ", limits(it)]]);
  return el("details", { id: `schema-${name}`, "data-text": name.toLowerCase() }, el("summary", {}, el("code", {}, name)),
    prose(facts.description), fields.length ? table("Fields", ["Field", "Needed", "Type", "Meaning"], fields) : el("p", {}, typeOf(facts)));
}

// What a link leads to is shown, though it is folded.
function unfold() {
  const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (place instanceof HTMLDetailsElement) {
    place.open = true;
    place.scrollIntoView();
  }
}

function search({ target }) {
  const wanted = target.value.trim().toLowerCase();
  for (const entry of document.querySelectorAll("details[data-text]")) entry.hidden = !entry.dataset.text.includes(wanted);
}

async function show(main) {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`openapi.json: ${answer.status} ${answer.statusText}`);
  const described = await answer.json();
  const operations = Object.entries(described.paths).flatMap(([path, methods]) =>
    METHODS.filter((m) => m in methods).map((m) => ({ tag: methods[m].tags?.[0], node: operation(described, path, m, methods[m]) })));
  const sections = [...(described.tags ?? []), { description: "" }].map(({ name, description }) => {
    const own = operations.filter(({ tag }) => tag === name).map(({ node }) => node);
    return own.length ? el("section", {}, el("h2", {}, name ?? "other"), prose(description), own) : null;
  });
  fill(main, el("h1", {}, `${described.info.title} ${described.info.version}`), prose(described.info.description),
    el("p", {}, "For programs: ", el("a", { href: "openapi.json" }, "openapi.json"), "."),
    el("input", { type: "search", "aria-label": "Find an operation", placeholder: "Find an operation", input: search }),
    sections,
    el("section", {}, el("h2", {}, "Schemas"), Object.entries(described.components.schemas).map(([name, facts]) => schema(name, facts))));
  addEventListener("hashchange", unfold);
  unfold();
}

const main = document.getElementById("main");
show(main).catch((error) => fill(main, el("p", { class: "problem", role: "alert" }, `The description could not be had: ${error.message}`)));
