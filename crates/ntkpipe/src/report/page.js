"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function element(parent, name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

const digits = (value) => Number(value.toPrecision(4)).toString();

/** Steps of 1, 2 or 5 times a power of ten from `low` to `high`. */
function ticks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((s) => s * power >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
  return found;
}

/** Axes, and what places a value on them. `plot`: title, caption, names and ranges of the axes. */
function axes(plot) {
  const [width, height, left, right, top, bottom] = [640, 420, 92, 24, 12, 74];
  const figure = document.createElement("figure");
  const title = document.createElement("h3");
  title.textContent = plot.title;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${plot.title}: ${plot.caption}`);
  const caption = document.createElement("figcaption");
  caption.textContent = plot.caption;
  figure.append(title, svg, caption);
  byId("curves").append(figure);
  const place = ([low, high], from, to) => (v) => from + ((Math.min(Math.max(v, low), high) - low) / (high - low)) * (to - from);
  const x = place(plot.x, left, width - right);
  const y = place(plot.y, height - bottom, top);
  for (const v of ticks(...plot.x)) {
    element(svg, "path", { class: "plot-grid", d: `M${x(v)} ${top}V${height - bottom}` });
    element(svg, "text", { class: "plot-text", x: x(v), y: height - bottom + 26, "text-anchor": "middle" }, digits(v));
  }
  for (const v of ticks(...plot.y)) {
    element(svg, "path", { class: "plot-grid", d: `M${left} ${y(v)}H${width - right}` });
    element(svg, "text", { class: "plot-text", x: left - 8, y: y(v) + 7, "text-anchor": "end" }, digits(v));
  }
  element(svg, "path", { class: "plot-axis", d: `M${left} ${top}V${height - bottom}H${width - right}` });
  element(svg, "text", { class: "plot-text", x: (left + width - right) / 2, y: height - 14, "text-anchor": "middle" }, plot.xName);
  element(svg, "text", { class: "plot-text", transform: `translate(22 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, plot.yName);
  return { svg, x, y, top, floor: height - bottom, left, end: width - right };
}

const line = (at, xs, ys) => "M" + xs.map((v, i) => `${at.x(v).toFixed(1)} ${at.y(ys[i]).toFixed(1)}`).join("L");

/** The interval as a band, the stopping time as a dashed line. */
function markTime(at, phenotype, end) {
  if (phenotype.t_hat === null) return;
  const [low, high] = [at.x(phenotype.t_hat_lower ?? 0), at.x(phenotype.t_hat_upper ?? end)];
  element(at.svg, "rect", { class: "plot-band", x: low, y: at.top, width: high - low, height: at.floor - at.top });
  element(at.svg, "path", { class: "plot-mark", d: `M${at.x(phenotype.t_hat)} ${at.top}V${at.floor}` });
}

function drawCurves(phenotype) {
  const { t, q, edf } = phenotype.curve;
  const end = t[t.length - 1];
  const time = "training time t = learning rate × epochs";
  const reml = axes({
    title: "REML curve", caption: "Q(t) less its minimum. Dashed: t_hat; shaded: its 95 % interval, where the curve is below 3.84 (dotted).",
    x: [0, end], y: [0, Math.max(...q) * 1.04 || 1], xName: time, yName: "Q(t) − Q(t_hat)",
  });
  markTime(reml, phenotype, end);
  element(reml.svg, "path", { class: "plot-axis", "stroke-dasharray": "2 4", d: `M${reml.left} ${reml.y(3.84)}H${reml.end}` });
  element(reml.svg, "path", { class: "plot-line", d: line(reml, t, q) });
  const dof = axes({
    title: "Effective degrees of freedom", caption: "What the network has fitted by time t: Σ (1 − exp(−t λ)).",
    x: [0, end], y: [0, Math.max(...edf) * 1.04 || 1], xName: time, yName: "edf(t)",
  });
  markTime(dof, phenotype, end);
  element(dof.svg, "path", { class: "plot-line", d: line(dof, t, edf) });
}

function drawHeldOut(phenotype) {
  const { predicted, observed, error } = phenotype.held_out;
  const reach = [...predicted, ...observed.map((v, i) => v - error[i]), ...observed.map((v, i) => v + error[i])];
  const range = [Math.min(...reach), Math.max(...reach)];
  const at = axes({
    title: "Held out: observed against predicted", caption: "Samples in order of their out-of-fold prediction, in groups of equal size: mean observed ± standard error. Dashed: where they agree.",
    x: range, y: range, xName: "predicted, mean of the group", yName: "observed, mean of the group",
  });
  element(at.svg, "path", { class: "plot-mark", d: line(at, range, range) });
  predicted.forEach((v, i) => {
    element(at.svg, "path", { class: "plot-axis", d: `M${at.x(v)} ${at.y(observed[i] - error[i])}V${at.y(observed[i] + error[i])}` });
    element(at.svg, "circle", { class: "plot-point", cx: at.x(v), cy: at.y(observed[i]), r: 5 });
  });
}

const table = byId("table");
const rows = [...table.tBodies[0].rows];

function choose(index) {
  const phenotype = data.phenotypes[index];
  byId("choice").value = index;
  byId("curves").replaceChildren();
  const says = [`${phenotype.status}: ${data.meanings[phenotype.status] ?? ""}`];
  if (phenotype.t_hat !== null) {
    const upper = phenotype.t_hat_upper === null ? "∞" : digits(phenotype.t_hat_upper);
    says.push(`t_hat = ${digits(phenotype.t_hat)}` + (phenotype.t_hat_lower === null ? "." : `, 95 % interval ${digits(phenotype.t_hat_lower)} to ${upper}.`));
  }
  if (phenotype.curve) drawCurves(phenotype);
  else says.push("There is no curve.");
  if (phenotype.samples) says.push(`Samples: ${phenotype.samples}.`);
  if (phenotype.held_out) drawHeldOut(phenotype);
  byId("chosen").textContent = says.join(" ");
  for (const chosen of document.querySelectorAll(".chosen")) chosen.classList.remove("chosen");
  rows[index].classList.add("chosen");
  for (const dot of document.querySelectorAll(`circle[data-phenotype="${index}"]`)) dot.classList.add("chosen");
}

data.phenotypes.forEach((phenotype, index) => byId("choice").add(new Option(phenotype.name, index)));
byId("choice").addEventListener("change", (event) => choose(Number(event.target.value)));

rows.forEach((row, index) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = row.cells[0].textContent;
  button.title = button.textContent;
  row.cells[0].replaceChildren(button);
  row.addEventListener("click", () => choose(index));
  button.addEventListener("click", () => byId("phenotype").scrollIntoView());
});

/** Makes the dots of a figure phenotypes: by pointer, or, the drawing being one stop of the tab key, by arrow keys from left to right. */
function attach(figure) {
  const indices = figure.dataset.phenotypes.split(" ").filter(Boolean).map(Number);
  if (!indices.length) return;
  const dots = [...figure.querySelectorAll("circle")].slice(0, indices.length);
  dots.forEach((dot, i) => {
    dot.dataset.phenotype = indices[i];
    element(dot, "title", {}, data.phenotypes[indices[i]].name);
    dot.addEventListener("click", () => choose(indices[i]));
  });
  const along = [...dots].sort((a, b) => a.getAttribute("cx") - b.getAttribute("cx"));
  const svg = figure.querySelector("svg");
  svg.tabIndex = 0;
  svg.setAttribute("role", "group");
  const said = document.createElement("p");
  said.className = "note pointed";
  said.setAttribute("aria-live", "polite");
  figure.append(said);
  let at = -1;
  const point = (place) => {
    along[at]?.classList.remove("pointed");
    at = place;
    along[at]?.classList.add("pointed");
    said.textContent = at < 0 ? "" : `${data.phenotypes[along[at].dataset.phenotype].name} (Enter shows its curves)`;
  };
  svg.addEventListener("keydown", (event) => {
    const last = along.length - 1;
    const to = { ArrowRight: Math.min(at + 1, last), ArrowLeft: Math.max(at - 1, 0), Home: 0, End: last }[event.key];
    if (to !== undefined) point(to);
    else if ((event.key === "Enter" || event.key === " ") && at >= 0) choose(Number(along[at].dataset.phenotype));
    else return;
    event.preventDefault();
  });
  svg.addEventListener("blur", () => point(-1));
}

document.querySelectorAll("figure[data-phenotypes]").forEach(attach);

/** Numbers by size, then words by letter; nulls last whichever way. */
function sortBy(column, direction) {
  const key = (row) => {
    const text = row.cells[column].textContent;
    return text === "–" ? null : text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
  };
  const keyed = rows.map((row) => [key(row), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return direction * (typeof a === "number" ? a - b : a.localeCompare(b));
  });
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}

const headings = [...table.tHead.rows[0].cells];
headings.forEach((heading, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => order(column, heading.ariaSort !== "ascending"));
});

function order(column, ascending) {
  headings.forEach((heading) => heading.removeAttribute("aria-sort"));
  headings[column].setAttribute("aria-sort", ascending ? "ascending" : "descending");
  sortBy(column, ascending ? 1 : -1);
}

const searched = headings.flatMap((heading, i) => (["phenotype", "status", "architecture"].includes(heading.textContent) ? [i] : []));
byId("search").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const row of rows) {
    const text = searched.map((i) => row.cells[i].textContent).join(" ").toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    found += row.hidden ? 0 : 1;
  }
  byId("found").textContent = words.length ? `${found} of ${rows.length}` : "";
});

// The strongest signal first, and its curves where it has any.
order(headings.findIndex((heading) => heading.textContent === "neg_log10_p"), false);
const ranked = [...table.tBodies[0].rows].map((row) => rows.indexOf(row));
if (ranked.length) choose(ranked.find((index) => data.phenotypes[index].curve) ?? ranked[0]);
