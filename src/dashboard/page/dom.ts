/** Makes an element. Text goes in as text, never as HTML: there is no other way to fill an element in this page. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = "",
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (className !== "") element.className = className;
  element.append(...children);
  return element;
}

/** Writes only what changed, so that a page that is updated four times a second stays selectable and cheap. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function setHidden(element: HTMLElement, hidden: boolean): void {
  if (element.hidden !== hidden) element.hidden = hidden;
}

export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element ${id}`);
  return element;
}

/** Rows of text cells in a table body; rows and cells are used again. */
export function setRows(body: HTMLTableSectionElement, rows: readonly (readonly string[])[]): void {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, y) => {
    const row = body.rows[y] ?? body.insertRow();
    while (row.cells.length > cells.length) row.deleteCell(-1);
    for (const [x, text] of cells.entries()) setText(row.cells[x] ?? row.insertCell(), text);
  });
}

/** A table with a head; returns the element to place and the body to fill. */
export function makeTable(
  className: string,
  heads: readonly string[],
): { table: HTMLTableElement; body: HTMLTableSectionElement } {
  const table = make("table", className);
  const head = table.createTHead().insertRow();
  for (const text of heads) head.append(make("th", "", text));
  return { table, body: table.createTBody() };
}
