// Light, dark, or as the system has it. Not a module: it runs before the first paint, so that nothing flashes.
"use strict";
(() => {
  const KEY = "modelshelf.theme";
  const NAMES = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };
  const next = { auto: "light", light: "dark", dark: "auto" };
  const root = document.documentElement;
  const current = () => (localStorage.getItem(KEY) in NAMES ? localStorage.getItem(KEY) : "auto");

  const wear = () => {
    root.dataset.theme = current();
    const button = document.getElementById("theme");
    if (button) button.textContent = NAMES[current()];
  };

  wear();
  document.addEventListener("DOMContentLoaded", () => {
    wear();
    document.getElementById("theme").addEventListener("click", () => {
      localStorage.setItem(KEY, next[current()]);
      wear();
    });
  });
})();
