// A grid of any length in a page that scrolls: only the rows in sight, and some around them, are in the document.

import { el } from "./dom.js";

const ROWS_AROUND = 3;

export class VirtualGrid {
  // `render(item, index)` makes an item's element; `near()` is called when the end comes into sight. The height of a row and the least width
  // of a column are those of the style sheet's `.grid-cell`.
  constructor(container, { render, near }) {
    this.container = container;
    this.render = render;
    this.near = near;
    this.items = [];
    this.cells = new Map();
    this.ruler = el("div", { class: "grid-cell ruler", "aria-hidden": "true" });
    this.body = el("div", { class: "grid-body", role: "list" });
    container.append(this.ruler, this.body);
    new ResizeObserver(() => this.measure()).observe(container);
    addEventListener("scroll", () => this.draw(), { passive: true });
  }

  set(items, label) {
    for (const cell of this.cells.values()) cell.remove();
    this.cells.clear();
    this.items = items;
    this.body.setAttribute("aria-label", label);
    this.measure();
  }

  append(items) {
    this.items.push(...items);
    this.measure();
  }

  measure() {
    const width = this.container.clientWidth;
    if (!width) return; // the view is hidden
    const style = getComputedStyle(this.body);
    this.gap = parseFloat(style.rowGap) || 0;
    this.rowHeight = this.ruler.offsetHeight + this.gap;
    this.columns = Math.max(1, Math.floor((width + this.gap) / (this.ruler.offsetWidth + this.gap)));
    this.cellWidth = (width - this.gap * (this.columns - 1)) / this.columns;
    const rows = Math.ceil(this.items.length / this.columns);
    this.body.style.height = `${Math.max(0, rows * this.rowHeight - this.gap)}px`;
    for (const [index, cell] of this.cells) this.place(index, cell);
    this.draw();
  }

  draw() {
    if (!this.columns || !this.container.clientWidth) return;
    const top = -this.body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / this.rowHeight) - ROWS_AROUND) * this.columns;
    const last = (Math.ceil((top + innerHeight) / this.rowHeight) + ROWS_AROUND) * this.columns;
    for (const [index, cell] of this.cells) {
      // What has the focus stays, or the keyboard would lose its place.
      if ((index < first || index >= last) && !cell.contains(document.activeElement)) {
        cell.remove();
        this.cells.delete(index);
      }
    }
    for (let index = first; index < Math.min(last, this.items.length); index += 1) {
      if (this.cells.has(index)) continue;
      const cell = el("div", { class: "grid-cell", role: "listitem" }, this.render(this.items[index], index));
      cell.dataset.index = index;
      this.cells.set(index, cell);
      this.place(index, cell);
      // In the order of the items, which is the order of the Tab key.
      const following = [...this.body.children].find((c) => Number(c.dataset.index) > index);
      this.body.insertBefore(cell, following ?? null);
    }
    if (last >= this.items.length) this.near();
  }

  place(index, cell) {
    const [row, column] = [Math.floor(index / this.columns), index % this.columns];
    cell.style.width = `${this.cellWidth}px`;
    cell.style.transform = `translate(${column * (this.cellWidth + this.gap)}px, ${row * this.rowHeight}px)`;
    cell.setAttribute("aria-posinset", index + 1);
    cell.setAttribute("aria-setsize", this.items.length);
  }
}
