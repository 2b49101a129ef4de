/* Drawing: styles, the layout, the words around the picture. */

function stylesheet() {
  const colour = (node) => style("--" + (node.data("status") || "soft")) || style("--soft");
  const sans = style("--sans");
  return [
    { selector: "node", style: {
      "label": "data(label)", "text-wrap": "wrap", "text-max-width": "400px", "text-valign": "center",
      "text-halign": "center", "font-family": sans, "font-size": 12.5, "line-height": 1.25,
      "color": style("--ink"), "background-color": style("--card"), "border-width": 1,
      "border-color": style("--edge"), "overlay-opacity": 0, "min-zoomed-font-size": 5 } },
    { selector: "node[kind='file'], node[kind='run']", style: { "width": "data(width)", "height": "data(height)" } },
    { selector: "node[kind='file']", style: { "shape": "rectangle" } },
    { selector: "node[kind='run']", style: {
      "shape": (node) => SHAPES[node.data("engine")] || "barrel",
      "corner-radius": (node) => node.data("engine") === "plain" ? node.data("height") / 2 : 6,
      "border-width": 2, "border-color": colour, "font-weight": 600, "background-color": (node) => mixed(style("--card"), colour(node), 0.12) } },
    { selector: "node[?isGroup]", style: {
      "ghost": "yes", "ghost-offset-x": 5, "ghost-offset-y": 5, "ghost-opacity": 0.45 } },
    { selector: "node[kind='box']", style: {
      "shape": "round-rectangle", "corner-radius": 12, "background-color": style("--box"), "border-color": style("--line"),
      "border-style": "solid", "text-valign": "top", "text-halign": "center", "text-margin-y": -5,
      "font-size": 12, "font-weight": 600, "color": style("--soft"), "padding": 18 } },
    { selector: "node[kind='stub']", style: {
      "shape": "round-rectangle", "corner-radius": 11, "width": 46, "height": 22, "font-size": 11, "color": style("--accent"),
      "background-color": style("--accent-soft"), "border-width": 0 } },
    { selector: "node.focus", style: {
      "background-color": style("--accent-soft"), "border-width": 3, "font-weight": 700,
      "outline-width": 3, "outline-color": style("--accent"), "outline-offset": 2, "outline-opacity": 0.45 } },
    { selector: "node.focus[kind='box']", style: { "background-color": style("--box"), "border-color": style("--accent") } },
    { selector: "node.focus[kind='file']", style: { "border-color": style("--accent") } },
    { selector: "node:selected", style: {
      "outline-width": 3, "outline-color": style("--accent"), "outline-offset": 3, "outline-opacity": 1 } },
    { selector: "edge", style: {
      "width": 1.5, "line-color": style("--edge"), "target-arrow-color": style("--edge"),
      "target-arrow-shape": "triangle", "arrow-scale": 0.85, "curve-style": "bezier",
      "source-endpoint": "90deg", "target-endpoint": "270deg", "overlay-opacity": 0 } },
    { selector: "edge[how='observed']", style: { "line-style": "dotted", "width": 2 } },
    { selector: "edge[role='informed_by'], edge[role='cached_from']", style: {
      "line-style": "dashed", "label": (edge) => edge.data("role") === "informed_by" ? "value" : "result reused",
      "font-size": 10, "font-family": sans, "color": style("--soft"), "text-background-color": style("--paper"),
      "text-background-opacity": 1, "text-background-padding": 2 } },
    { selector: "edge[role='retracted']", style: {
      "line-style": "dashed", "label": "taken back", "font-size": 10, "font-family": sans,
      "color": style("--failed"), "line-color": style("--failed"), "target-arrow-color": style("--failed"),
      "target-arrow-shape": "tee", "text-background-color": style("--paper"), "text-background-opacity": 1 } },
    { selector: "edge[role='stub']", style: { "line-style": "dotted", "target-arrow-shape": "none" } },
    { selector: ".dimmed", style: { "opacity": 0.22 } },
    { selector: "edge.lit", style: { "line-color": style("--accent"), "target-arrow-color": style("--accent"), "width": 2.5 } },
  ];
}

/** Draw all anew; where `stays` is given, that node and the zoom stay as they are. */
function draw(stays) {
  const { found, shown, items, dropped } = elements();
  const count = found.filter((each) => each.data.kind).length;
  cy.startBatch();
  cy.elements().remove();
  cy.add(found);
  cy.endBatch();
  cy.layout({
    name: "dagre", rankDir: "LR", nodeSep: 16, rankSep: 34, edgeSep: 8, fit: false, animate: false,
    ranker: count > SLOW_ABOVE ? "longest-path" : "network-simplex",
  }).run();
  const same = stays && cy.getElementById(stays.id);
  if (same && same.length) cy.panBy({ x: stays.x - same.renderedPosition("x"), y: stays.y - same.renderedPosition("y") });
  else fit();
  hint(shown, items, dropped);
  controls();
  const picked = state.picked && cy.getElementById(state.picked);
  if (picked && picked.length) picked.select();
  else if (state.picked) show(null);
  document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
}

function fit() {
  cy.resize();
  cy.fit(undefined, 56);
  if (cy.zoom() > 1.25) { cy.zoom(1.25); cy.center(); }
  if (cy.zoom() < 0.35) {                       // all at once would be unreadable
    cy.zoom(0.6);
    const focus = cy.nodes(".focus");
    cy.center(focus.length ? focus : undefined);
  }
}

function hint(shown, items, dropped) {
  for (const name of items.keys()) if (!nodes.has(name)) shown += absent(name);
  const words = [`${shown.toLocaleString("en")} of ${data.total.toLocaleString("en")} files and runs`];
  const further = longest() - state.steps;
  if (further > 0) words.push(`${further} more ${further === 1 ? "step" : "steps"} on`);
  if (dropped > 0) words.push(`${dropped.toLocaleString("en")} farther ones have no room`);
  if (data.is_cut) words.push("more are recorded than this page holds");
  $("ln-hint").textContent = words.join(" · ");
}

function controls() {
  for (const button of document.querySelectorAll(".lineage [data-way]")) {
    button.setAttribute("aria-pressed", String(button.dataset.way === state.way));
  }
  const most = longest();
  $("ln-steps").textContent = state.steps >= most ? `all ${most} steps` : `${state.steps} of ${most} steps`;
  if (most === 1) $("ln-steps").textContent = "1 step";
  $("ln-fewer").disabled = state.steps <= 1;
  $("ln-more").disabled = state.steps >= most;
  $("ln-fold").setAttribute("aria-pressed", String(state.fold));
  $("ln-title").textContent = nodes.get(state.focus).label;
}

function legend() {
  const engines = new Set(data.nodes.filter((n) => n.kind === "run").map((n) => n.engine || "other"));
  const statuses = new Set(data.nodes.filter((n) => n.kind === "run").map((n) => n.status));
  for (const group of Object.values(data.groups)) for (const [status] of group.statuses) statuses.add(status);
  const parts = ["file", ...engines].map((name) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("viewBox", "0 0 20 13");
    svg.setAttribute("aria-hidden", "true");
    path.setAttribute("d", SKETCHES[name] || SKETCHES.other);
    svg.append(path);
    return make("span", {}, svg, name);
  });
  for (const status of WORST.filter((each) => statuses.has(each))) {
    parts.push(make("span", { class: "status-" + status }, make("span", { class: "sign" }, SIGNS[status]), status));
  }
  $("ln-legend").replaceChildren(...parts);
}
