"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const [SCENARIO, COLUMN, PLACE, WORD, VERDICT, MESSAGE, DETAIL, OUTPUT, SECONDS, COMMAND] =
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const text = (result, field) => data.texts[result[field]];
const isBad = (result) => data.bad.includes(text(result, WORD));
const isUnexpected = (result) => ["regression", "not-reproduced"].includes(text(result, VERDICT));
const SHOWN = {
  "": () => true,
  bug: isBad,
  unexpected: isUnexpected,
  unclear: (result) => text(result, VERDICT) === "inconclusive",
};
const MOST_OPEN = 12;

/* Everything that is shown goes through here: text stays text. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function placeName(place) {
  return data.places[place].join(" ").trim();
}

function resultName(result) {
  const place = placeName(result[PLACE]);
  return `${data.scenarios[result[SCENARIO]].id} with ${place ? place + ", " : ""}Python ` +
    data.columns[result[COLUMN]];
}

function address(result) {
  return [data.scenarios[result[SCENARIO]].id, data.columns[result[COLUMN]],
    ...data.places[result[PLACE]]].map(encodeURIComponent).join("/");
}

/* What passes the filters, as scenario number -> results. */
function chosen() {
  const wanted = byId("scenario").value.trim().toLowerCase();
  const release = byId("release").value, python = byId("python").value;
  const shown = SHOWN[byId("show").value];
  const found = new Map();
  data.scenarios.forEach((info, number) => {
    const words = `${info.id} ${info.title} ${info.family}`.toLowerCase();
    if (words.includes(wanted)) found.set(number, []);
  });
  for (const result of data.results) {
    if (!found.has(result[SCENARIO])) continue;
    if (release !== "" && String(result[PLACE]) !== release) continue;
    if (python !== "" && String(result[COLUMN]) !== python) continue;
    if (shown(result)) found.get(result[SCENARIO]).push(result);
  }
  for (const [number, results] of found) if (!results.length) found.delete(number);
  return found;
}

function draw() {
  const found = chosen();
  const open = found.size <= MOST_OPEN;
  const sections = [];
  let cells = 0;
  for (const [number, results] of found) {
    cells += results.length;
    sections.push(section(number, results, open));
  }
  byId("grids").replaceChildren(...sections);
  byId("count").textContent =
    `${found.size} of ${data.scenarios.length} scenarios, ${cells} of ${data.results.length} cells`;
}

function section(number, results, open) {
  const info = data.scenarios[number];
  const inside = make("div", { class: "inside" });
  const node = make("details", { id: `scenario-${info.id}` },
    make("summary", {}, make("b", {}, info.id), make("span", {}, info.title), strip(results)), inside);
  const fill = () => {
    if (node.open && !inside.childElementCount) inside.append(story(info), heatMap(number, results));
  };
  node.addEventListener("toggle", fill);
  node.open = open;
  fill();
  return node;
}

function story(info) {
  const parts = [make("p", { class: "quiet" }, `Known in: ${info.present}`)];
  if (/^https?:\/\//.test(info.source)) {
    parts.push(make("p", {}, make("a", { href: info.source, rel: "noreferrer" }, info.source)));
  }
  if (info.history) parts.push(make("p", { class: "quiet doc" }, info.history));
  return make("div", {}, ...parts);
}

/* One mark for each release, oldest first: bad in all, in some, or in none of the interpreters.
   Where there is one release, or none, the interpreters are the axis. */
function strip(results) {
  const axis = new Set(results.map((r) => r[PLACE])).size > 1 ? PLACE : COLUMN;
  const points = new Map();
  for (const result of results) {
    if (!points.has(result[axis])) points.set(result[axis], []);
    points.get(result[axis]).push(result);
  }
  const marks = [];
  let library = null;
  for (const point of [...points.keys()].sort((a, b) => a - b)) {
    const told = points.get(point).filter((r) => isBad(r) || text(r, WORD) === "healthy");
    const bad = told.filter(isBad).length;
    const kind = !told.length ? "no" : !bad ? "all-good" : bad === told.length ? "all-bad" : "some-bad";
    const name = axis === PLACE ? data.places[point][0] : "";
    const next = library !== null && name !== library ? " next" : "";
    library = name;
    const label = axis === PLACE ? placeName(point) || "Python alone" : `Python ${data.columns[point]}`;
    const mark = make("i", { class: kind + next,
      title: `${label}: ${told.length ? `bad in ${bad} of ${told.length}` : "no evidence"}` });
    if (kind === "some-bad") mark.style.setProperty("--part", `${Math.max(15, 100 * bad / told.length)}%`);
    marks.push(mark);
  }
  const label = `history, oldest ${axis === PLACE ? "release" : "Python"} first`;
  return make("span", { class: "strip", role: "img", "aria-label": label }, ...marks);
}

function heatMap(number, results) {
  const places = [...new Set(results.map((r) => r[PLACE]))].sort((a, b) => a - b);
  const columns = [...new Set(results.map((r) => r[COLUMN]))].sort((a, b) => a - b);
  const at = new Map(results.map((r) => [`${r[COLUMN]}/${r[PLACE]}`, r]));
  const libraries = make("tr", {}, make("th"));
  for (const library of new Set(places.map((place) => data.places[place][0]))) {
    const span = places.filter((place) => data.places[place][0] === library).length;
    libraries.append(make("th", { scope: "colgroup", colspan: span }, library));
  }
  const releases = make("tr", {}, make("th", {}, "Python"), ...places.map((place) =>
    make("th", { scope: "col" }, make("span", {}, data.places[place][1] || "alone"))));
  const rows = columns.map((column) => make("tr", {},
    make("th", { scope: "row" }, data.columns[column]),
    ...places.map((place) => {
      const result = at.get(`${column}/${place}`);
      return make("td", {}, ...(result ? [cell(result)] : []));
    })));
  const table = make("table", { "aria-label": `${data.scenarios[number].id}: Python by release` },
    make("thead", {}, libraries, releases), make("tbody", {}, ...rows));
  const first = table.querySelector("button");
  if (first) first.tabIndex = 0;
  table.addEventListener("keydown", walk);
  return make("div", { class: "scroll" }, table);
}

function cell(result) {
  const word = text(result, WORD);
  const button = make("button", { type: "button", tabindex: "-1",
    class: `w-${word}${isUnexpected(result) ? " unexpected" : ""}`,
    "aria-label": `${resultName(result)}: ${word}, ${text(result, VERDICT)}`,
    title: `${resultName(result)}: ${word}` }, data.marks[word] || "");
  button.addEventListener("click", () => show(result));
  button.addEventListener("focus", () => {
    const table = button.closest("table");
    for (const other of table.querySelectorAll("button[tabindex='0']")) other.tabIndex = -1;
    button.tabIndex = 0;
  });
  return button;
}

/* The arrow keys go from cell to cell; Tab leaves the grid. */
function walk(event) {
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const here = event.target.closest("td");
  if (!here) return;
  const rows = [...event.currentTarget.tBodies[0].rows];
  let row = here.parentElement.sectionRowIndex, column = here.cellIndex;
  const target = () => rows[row]?.cells[column]?.querySelector("button");
  if (event.key in steps) {
    const [down, right] = steps[event.key];
    do {
      row += down;
      column += right;
    } while (rows[row]?.cells[column] && column > 0 && !target());
  } else if (event.key === "Home") {
    column = [...rows[row].cells].findIndex((td) => td.querySelector("button"));
  } else if (event.key === "End") {
    column = [...rows[row].cells].findLastIndex((td) => td.querySelector("button"));
  } else {
    return;
  }
  event.preventDefault();
  target()?.focus();
}

function show(result) {
  const info = data.scenarios[result[SCENARIO]];
  const facts = {
    Verdict: text(result, VERDICT), Outcome: text(result, WORD), Message: text(result, MESSAGE),
    "Known in": info.present, Source: info.source, Time: `${result[SECONDS]} s`,
  };
  const list = make("dl");
  for (const [name, value] of Object.entries(facts)) {
    if (value) list.append(make("dt", {}, name), make("dd", {}, value));
  }
  const parts = [make("p", {}, info.title), list];
  const block = (name, value) => {
    if (value.trim()) parts.push(make("h3", {}, name), make("pre", { tabindex: "0" }, value));
  };
  block("Replay", result[COMMAND]);
  block("Evidence", text(result, DETAIL));
  block("Output", text(result, OUTPUT));
  if (info.doc.trim()) parts.push(make("h3", {}, "About"), make("p", { class: "doc" }, info.doc));
  block("Scenario", info.body);
  open(resultName(result), parts);
  history.replaceState(null, "", `#${address(result)}`);
}

function open(title, parts) {
  byId("evidence-title").textContent = title;
  byId("evidence-body").replaceChildren(...parts);
  if (!byId("evidence").open) byId("evidence").showModal();
  byId("evidence").scrollTop = 0;
}

function showEnvironment() {
  const list = make("dl");
  for (const [name, value] of Object.entries(data.environment)) {
    list.append(make("dt", {}, name), make("dd", {}, value));
  }
  open("Environment", [list]);
}

function options(select, names) {
  names.forEach((name, index) => select.append(make("option", { value: index }, name)));
}

function legend() {
  const words = new Set(data.results.map((r) => text(r, WORD)));
  const parts = Object.entries(data.marks).filter(([word]) => words.has(word)).map(([word, mark]) =>
    make("span", {}, make("i", { class: `w-${word}`, "aria-hidden": "true" }, mark), word));
  if (data.results.some(isUnexpected)) {
    parts.push(make("span", {}, make("i", { class: "unexpected", "aria-hidden": "true" }, "\u00a0"), "unexpected"));
  }
  byId("legend").replaceChildren(...parts);
}

options(byId("release"), data.places.map((_, index) => placeName(index) || "Python alone"));
options(byId("python"), data.columns);
byId("filters").addEventListener("input", draw);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", () => setTimeout(draw));
byId("about-open").addEventListener("click", showEnvironment);
byId("evidence").addEventListener("close", () => history.replaceState(null, "", "#"));
legend();
draw();
const linked = data.results.find((result) => `#${address(result)}` === location.hash);
if (linked) show(linked);
