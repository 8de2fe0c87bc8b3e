// Elements from data. Strings become text nodes, never markup: names and cards are written by strangers.

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "open", "indeterminate"]);

export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else if (PROPERTIES.has(name)) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...present(children));
  return node;
}

export function fill(node, ...children) {
  node.replaceChildren(...present(children));
  return node;
}

const present = (children) => children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false);

// Says something to everybody: shown for some seconds, and read aloud by screen readers.
let hush;
export function say(text) {
  const place = document.getElementById("said");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(hush);
  hush = setTimeout(() => place.classList.remove("shown"), 4000);
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied: ${text}`);
  } catch {
    // Browsers give the clipboard to https and localhost only.
    say(`This browser does not let the page copy. The text: ${text}`);
  }
}

export const copyButton = (text, label = text) =>
  el("button", { type: "button", class: "chip copy", title: "Copy", "aria-label": `Copy ${text}`, click: () => copy(text) }, label);

export function debounce(wait, action) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...args), wait);
  };
}

// A problem in words, with what can be done about it.
export const problemBox = (error, ...more) =>
  el("div", { class: "problem", role: "alert" }, el("p", {}, error.message), ...more);
