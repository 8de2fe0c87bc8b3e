// Which view is shown: the address after # says, so that links, reload and the back button work.

import { el } from "./dom.js";
import * as generate from "./generate.js";
import * as install from "./install.js";
import * as model from "./model.js";
import * as shelf from "./shelf.js";

const VIEWS = { shelf, model, install, generate };
const main = document.getElementById("main");
const sections = {};
let shown = null;

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id] = path.split("/").map(decodeURIComponent);
  return { name: Object.hasOwn(VIEWS, name) ? name : "shelf", id, query: new URLSearchParams(query) };
}

function show() {
  if (location.hash === "#main") {
    main.focus();
    return;
  }
  const { name, id, query } = route();
  const view = VIEWS[name];
  if (!sections[name]) {
    sections[name] = el("section", { class: `view ${name}-view` });
    main.append(sections[name]);
    view.build(sections[name]);
  }
  for (const [other, section] of Object.entries(sections)) section.hidden = other !== name;
  if (shown && shown !== name) VIEWS[shown].leave?.();
  const moved = shown !== null;
  shown = name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === (name === "model" ? "shelf" : name)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view.title} · modelshelf`;
  view.enter({ id, query });
  // Whoever reads with a screen reader hears where the link has led.
  if (moved) sections[name].querySelector("h1")?.focus({ preventScroll: true });
}

addEventListener("hashchange", show);
show();
