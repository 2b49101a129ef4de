"use strict";
/* Draws the lineage in #lineage from the JSON in #lineage-data. All texts become text nodes. */
(function () {
  const MOST_ITEMS = 220;     // more is unreadable, whatever draws it
  const OPENS_WITH = 70;      // steps at first: as many as fit into this
  const MOST_OPENED = 40;     // members that an opened group shows
  const MOST_STUBS = 60;
  const SLOW_ABOVE = 90;      // dagre's better ranking takes too long for more
  const SIGNS = { started: "▶", completed: "✓", failed: "✗", cancelled: "⊘", aborted: "☠",
                  cached: "↺", skipped: "–" };
  const WORST = ["failed", "aborted", "cancelled", "started", "completed", "cached", "skipped"];
  const SHAPES = { prefect: "round-hexagon", snakemake: "cut-rectangle", plain: "round-rectangle" };
  const SKETCHES = {
    file: "M2 2h16v9H2z", prefect: "M5.5 1.5h9l4.5 5-4.5 5h-9l-4.5-5z",
    snakemake: "M4.5 1.5h11l2.5 2.5v5l-2.5 2.5h-11L2 9V4z",
    plain: "M7 1.5h6a5 5 0 0 1 0 10H7a5 5 0 0 1 0-10z", other: "M3 2q7-2 14 0v9q-7 2-14 0z",
  };

  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("lineage-data").textContent);
  const links = typeof data.links === "string";   // whether it is in the web app
  const nodes = new Map(data.nodes.map((node) => [node.id, node]));
  const place = new Map(data.nodes.map((node, at) => [node.id, at]));
  const before = new Map(), after = new Map();
  for (const [from, to] of data.edges) {
    (after.get(from) || after.set(from, []).get(from)).push(to);
    (before.get(to) || before.set(to, []).get(to)).push(from);
  }
  const held = new Map();
  for (const node of data.nodes) if (node.group) held.set(node.group, (held.get(node.group) || 0) + 1);
  const state = { focus: data.focus, way: "both", steps: 1, fold: true, open: new Set(), picked: null };
  let cy = null;

  /* ---- what is shown ---------------------------------------------------------------------- */

  /** Runs between the focus and each node in one direction, as far as the steps go. */
  function walk(nexts, steps) {
    const starts = state.focus === data.focus ? data.starts : [];
    const found = new Map([[state.focus, 0], ...starts.map((id) => [id, 0])]);
    const left = [...found.keys()];
    for (let at = 0; at < left.length; at++) {
      const distance = found.get(left[at]);
      for (const other of nexts.get(left[at]) || []) {
        const further = distance + (nodes.get(other).kind === "run" ? 1 : 0);
        if (further <= steps && !found.has(other)) { found.set(other, further); left.push(other); }
      }
    }
    return found;
  }

  function reach(steps) {
    const back = state.way === "downstream" ? new Map() : walk(before, steps);
    const forth = state.way === "upstream" ? new Map() : walk(after, steps);
    return { back, forth, all: new Map([...forth, ...back]) };
  }

  /** The item that stands for a node: itself, its group, or what is left of an opened group. */
  function itemOf(node, counts) {
    if (!node.group || !state.fold || node.id === state.focus) return node.id;
    if (!state.open.has(node.group)) return node.group;
    const count = (counts.get(node.group) || 0) + 1;
    counts.set(node.group, count);
    return count <= MOST_OPENED ? node.id : node.group;
  }

  /** Items by name, each with its members, the nearest first. */
  function itemsOf(all) {
    const items = new Map(), counts = new Map();
    const order = [...all.keys()].sort((a, b) => all.get(a) - all.get(b) || place.get(a) - place.get(b));
    for (const id of order) {
      const name = itemOf(nodes.get(id), counts);
      (items.get(name) || items.set(name, []).get(name)).push(id);
    }
    // one of a kind is itself
    return new Map([...items].map(([name, members]) => [members.length > 1 ? name : members[0], members]));
  }

  /** How many a group stands for: those that are held here, or all where all of these are shown. */
  function countOf(name, members) {
    const isWhole = !state.open.has(name) && members.length === held.get(name);
    return isWhole ? data.groups[name].count : members.length;
  }

  function longest() {
    const far = reach(Infinity).all;
    return Math.max(1, ...far.values());
  }

  function fitting() {
    const most = longest();
    let steps = 1;
    while (steps < most && itemsOf(reach(steps + 1).all).size <= OPENS_WITH) steps++;
    return steps;
  }

  /* ---- elements --------------------------------------------------------------------------- */

  const ruler = document.createElement("canvas").getContext("2d");
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /** A colour that is so much of the other; both as #rrggbb. */
  function mixed(one, other, share) {
    const parts = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const [a, b] = [parts(one), parts(other)];
    return `rgb(${a.map((value, at) => Math.round(value + (b[at] - value) * share)).join(",")})`;
  }

  function short(text, most) {
    const letters = [...text];
    if (letters.length <= most) return text;
    const end = Math.ceil(most * 0.62);
    return letters.slice(0, most - end - 1).join("") + "…" + letters.slice(-end).join("");
  }

  function statusOf(members) {
    const own = new Set(members.map((id) => nodes.get(id).status));
    return WORST.find((status) => own.has(status)) || "completed";
  }

  function describe(name, members) {
    const one = nodes.get(members[0]);
    const isGroup = !nodes.has(name);
    const count = isGroup ? countOf(name, members) : 1;
    const title = isGroup ? data.groups[name].label : one.label;
    let second = one.kind === "file" ? [one.size, one.note] : [one.note, one.took];
    if (isGroup) second = [(state.open.has(name) ? "the other " : "× ") + count.toLocaleString("en")];
    const status = one.kind === "run" ? statusOf(members) : null;
    if (status) second.unshift(SIGNS[status]);
    if (isGroup && status && status !== "completed") {
      second.push(members.filter((id) => nodes.get(id).status === status).length + " " + status);
    }
    const lines = [short(title, 30), second.filter(Boolean).join("  ")].filter(Boolean);
    ruler.font = "600 12.5px " + style("--sans");
    const width = Math.max(...lines.map((line) => ruler.measureText(line).width));
    return {
      id: name, kind: one.kind, label: lines.join("\n"), full: title, isGroup, status,
      engine: one.engine || "", members, width: Math.max(60, Math.ceil(width) + (one.kind === "run" ? 32 : 20)),
      height: lines.length > 1 ? 42 : 30,
    };
  }

  function boxOf(members, used) {
    const names = new Set(members.map((id) => nodes.get(id).box));
    const [name] = names;
    return names.size === 1 && name && used.has(name) ? "box:" + name : undefined;
  }

  function boxesOf(items) {
    const counts = new Map();
    for (const members of items.values()) {
      const name = nodes.get(members[0]).box;
      if (name && nodes.get(members[0]).kind === "run") counts.set(name, (counts.get(name) || 0) + members.length);
    }
    const used = new Set([...counts.keys()].filter((name) => counts.get(name) > 1));
    for (const name of used) if (data.boxes[name].box in data.boxes) used.add(data.boxes[name].box);
    return used;
  }

  function elements() {
    const { back, forth, all } = reach(state.steps);
    const whole = itemsOf(all);
    const items = new Map([...whole].slice(0, MOST_ITEMS));
    const itemAt = new Map();
    for (const [name, members] of items) for (const id of members) itemAt.set(id, name);
    const used = boxesOf(items), found = [];
    for (const name of used) {
      const box = data.boxes[name];
      found.push({ data: {
        id: "box:" + name, kind: "box", run: name, label: short(box.label, 40), full: box.label,
        status: box.status, engine: box.engine || "", members: [],
        parent: used.has(box.box) ? "box:" + box.box : undefined },
        classes: name === state.focus ? "focus" : "" });
    }
    for (const [name, members] of items) {
      if (used.has(name) && !before.has(name) && !after.has(name)) continue;   // it is its box
      const item = describe(name, members);
      item.parent = boxOf(members, used);
      found.push({ data: item, classes: itemAt.get(state.focus) === name ? "focus" : "" });
    }
    const edges = new Map();
    for (const [from, to, role, how] of data.edges) {
      const one = itemAt.get(from), other = itemAt.get(to);
      if (one && other && one !== other) edges.set(one + " " + other + " " + role, { one, other, role, how });
    }
    for (const [id, edge] of edges) {
      found.push({ data: { id, source: edge.one, target: edge.other, role: edge.role, how: edge.how } });
    }
    found.push(...stubs(items, itemAt, back, forth));
    return { found, shown: itemAt.size, items, dropped: whole.size - items.size };
  }

  /** "+12" where more is recorded than is drawn. */
  function stubs(items, itemAt, back, forth) {
    const found = [];
    for (const [name, members] of items) {
      for (const [reached, total, nexts, way] of [[back, "up", before, "up"], [forth, "down", after, "down"]]) {
        if (!members.some((id) => reached.has(id))) continue;
        let hidden = 0, known = 0;
        for (const id of members) {
          const held = nexts.get(id) || [], drawn = held.filter((other) => itemAt.has(other)).length;
          hidden += Math.max(Math.max(nodes.get(id)[total], held.length) - drawn, 0);
          known += held.length - drawn;
        }
        if (!hidden || found.length >= 2 * MOST_STUBS) continue;
        const id = way + ":" + name;
        const full = `${hidden.toLocaleString("en")} more ${way}stream` +
          (known || links ? ": show them" : " are recorded, but not in this page");
        found.push({ data: { id, kind: "stub", of: members[0], known, full, members: [],
                             label: "+" + hidden.toLocaleString("en") } });
        found.push({ data: { id: "e " + id, role: "stub",
                             source: way === "up" ? id : name, target: way === "up" ? name : id } });
      }
    }
    return found;
  }

  /* ---- drawing ---------------------------------------------------------------------------- */

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

  function draw() {
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
    fit();
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
    let total = data.nodes.length + data.dropped;
    for (const [name, count] of held) total += data.groups[name].count - count;
    for (const [name, members] of items) if (!nodes.has(name)) shown += countOf(name, members) - members.length;
    const words = [`${shown.toLocaleString("en")} of ${total.toLocaleString("en")} files and runs`];
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

  /* ---- the panel -------------------------------------------------------------------------- */

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function button(text, act) {
    const element = make("button", { type: "button" }, text);
    element.addEventListener("click", act);
    return element;
  }

  function show(name) {
    state.picked = name;
    const panel = $("ln-panel"), item = name && cy.getElementById(name).data();
    const wasHidden = panel.hidden;
    panel.hidden = !item;
    if (wasHidden !== panel.hidden) cy.resize();
    if (!item) return;
    bringIntoView(cy.getElementById(name));
    const close = button("×", () => { cy.elements().unselect(); show(null); });
    close.className = "close";
    close.setAttribute("aria-label", "Close");
    panel.replaceChildren(close, ...(item.kind === "box" ? boxPanel(item) : item.isGroup ? groupPanel(item) : nodePanel(nodes.get(name))));
    panel.scrollTop = 0;
  }

  function bringIntoView(element) {
    const room = element.renderedBoundingBox(), over = room.x2 + 20 - cy.width();
    if (over > 0 && element.data("kind") !== "box") cy.panBy({ x: -over, y: 0 });
  }

  function nodePanel(node) {
    const doing = make("div", { class: "doing" });
    if (node.id !== state.focus) doing.append(button("Centre on this", () => focusOn(node.id)));
    if (links) {
      const where = node.kind === "file" ? "files" : "runs";
      doing.append(make("a", { class: "button", href: `${data.links}/${where}/${node.id}` }, "Open its page"));
    }
    if (node.group && state.open.has(node.group)) doing.append(button("Fold again", () => toggle(node.group)));
    return [make("h2", { dir: "auto" }, node.label), kindLine(node), doing, details(node.details)];
  }

  function kindLine(node) {
    return make("p", { class: "kind" }, node.kind === "file" ? "File" : `Run${node.engine ? " of " + node.engine : ""}`);
  }

  function boxPanel(item) {
    const box = data.boxes[item.run];
    const doing = make("div", { class: "doing" });
    if (links) doing.append(make("a", { class: "button", href: `${data.links}/runs/${item.run}` }, "Open its page"));
    return [make("h2", { dir: "auto" }, box.label), kindLine(box), doing, details(box.details)];
  }

  function groupPanel(item) {
    const group = data.groups[item.id], one = nodes.get(item.members[0]);
    const doing = make("div", { class: "doing" });
    doing.append(button(state.open.has(item.id) ? "Fold again" : "Open", () => toggle(item.id)));
    const counts = new Map();
    for (const id of item.members) counts.set(nodes.get(id).status, (counts.get(nodes.get(id).status) || 0) + 1);
    const count = countOf(item.id, item.members);
    const what = `${count.toLocaleString("en")} ${one.kind === "file" ? "files" : "runs"} of a kind` +
      (one.kind === "run" ? ": " + [...counts].map(([status, count]) => `${count} ${status}`).join(", ") : "");
    const list = make("ul", { class: "members" });
    for (const id of item.members.slice(0, 100)) {
      const node = nodes.get(id);
      const params = (node.details.find((each) => each[0] === "params") || [0, []])[1];
      const extra = params.map(([key, value]) => `${key}=${value}`).join(", ");
      const each = button("", () => { focusOn(id); });
      each.dir = "auto";
      each.append((node.status ? SIGNS[node.status] + " " : "") + node.label + (extra ? "  " + extra : ""));
      each.title = "Centre on this";
      list.append(make("li", {}, each));
    }
    const rest = count - Math.min(item.members.length, 100);
    if (rest > 0) list.append(make("li", {}, `… ${rest.toLocaleString("en")} more`));
    return [make("h2", { dir: "auto" }, group.label), make("p", { class: "kind" }, what), doing, list];
  }

  function details(rows) {
    const list = make("dl", {});
    for (const [name, value, how] of rows) {
      if (how === "map") {
        const table = make("table", { class: "values" });
        for (const [key, each] of value) {
          table.append(make("tr", {}, make("td", { dir: "auto" }, key), make("td", { dir: "auto" }, each)));
        }
        list.append(make("dt", { class: "wide" }, name), make("dd", { class: "wide" }, table));
        continue;
      }
      const cell = make("dd", { dir: "auto" });
      if (how === "time") {
        const time = new Date(value);
        cell.append(make("time", { datetime: value, title: value }, time.toLocaleString()));
      } else if (how === "link" && /^https?:\/\//i.test(value)) {
        cell.append(make("a", { href: value, rel: "noopener noreferrer", target: "_blank" }, value));
      } else if (how === "status") {
        cell.append(make("span", { class: "status-" + value }, make("span", { class: "sign" }, SIGNS[value] || ""), " " + value));
      } else {
        cell.append(how === "text" ? value : make("code", {}, value));
      }
      list.append(make("dt", {}, name), cell);
    }
    return list;
  }

  /* ---- what people do --------------------------------------------------------------------- */

  function focusOn(id) {
    state.focus = id;
    state.picked = id;
    state.steps = fitting();
    draw();
    const name = cy.getElementById(id).length ? id : "box:" + id;
    cy.getElementById(name).select();
    show(name);
  }

  function toggle(group) {
    if (!state.open.delete(group)) state.open.add(group);
    draw();
    show(state.picked && cy.getElementById(state.picked).length ? state.picked : null);
  }

  function step(by) {
    state.steps = Math.min(Math.max(state.steps + by, 1), longest());
    draw();
  }

  function light(node) {
    const way = node.successors().union(node.predecessors()).union(node);
    cy.elements().not(way).not("[kind='box']").addClass("dimmed");
    way.edges().addClass("lit");
  }

  function watchCanvas() {
    const tip = $("ln-tip");
    const tapped = [null, null];
    cy.on("tap", "node", (event) => {
      const item = event.target.data();
      tapped.shift();
      tapped.push(item.id);
      if (item.kind === "stub") {
        if (item.known) { if (state.steps < longest()) step(1); else focusOn(item.of); }
        else if (links) location.href = `${data.links}/lineage/${item.of}`;
        return;
      }
      show(item.id);
    });
    cy.on("dbltap", "node", (event) => {
      const item = event.target.data();
      if (tapped[0] !== tapped[1]) return;        // two nodes, one after the other
      if (item.isGroup) toggle(item.id);
      else if (nodes.has(item.id)) focusOn(item.id);
    });
    cy.on("tap", (event) => { if (event.target === cy) show(null); });
    cy.on("mouseover", "node", (event) => {
      const item = event.target.data(), room = event.target.renderedBoundingBox();
      tip.textContent = item.full || "";
      tip.hidden = false;
      tip.style.left = Math.max(room.x1, 8) + "px";
      tip.style.top = room.y2 + 8 + "px";
      $("ln-canvas").style.cursor = "pointer";
      if (item.kind !== "box" && item.kind !== "stub") light(event.target);
    });
    const calm = () => {
      tip.hidden = true;
      $("ln-canvas").style.cursor = "";
      cy.elements().removeClass("dimmed lit");
    };
    cy.on("mouseout", "node", calm);
    $("ln-canvas").addEventListener("mouseleave", calm);
    cy.on("pan zoom", () => { tip.hidden = true; });
  }

  function watchKeys() {
    $("ln-canvas").addEventListener("keydown", (event) => {
      const now = cy.nodes(":selected").first();
      const at = now.length ? now : cy.nodes(".focus");
      const moves = {
        ArrowLeft: () => at.incomers("node").first(), ArrowRight: () => at.outgoers("node").first(),
        ArrowUp: () => beside(at, -1), ArrowDown: () => beside(at, 1),
      };
      if (moves[event.key]) {
        event.preventDefault();
        const next = moves[event.key]();
        if (next && next.length && next.data("kind") !== "stub") {
          cy.elements().unselect();
          next.select();
          cy.animate({ center: { eles: next }, duration: 120 });
          show(next.id());
        }
      } else if (event.key === "Enter" && at.length) {
        if (at.data("isGroup")) toggle(at.id()); else if (nodes.has(at.id())) focusOn(at.id());
      } else if (event.key === "Escape") { cy.elements().unselect(); show(null); }
    });
  }

  function beside(node, by) {
    const same = cy.nodes("[kind='file'],[kind='run']").filter((each) => Math.abs(each.position("x") - node.position("x")) < 60)
      .sort((a, b) => a.position("y") - b.position("y"));
    const at = same.toArray().findIndex((each) => each.id() === node.id());
    return same[Math.min(Math.max(at + by, 0), same.length - 1)];
  }

  function watchSearch() {
    const input = $("ln-search"), list = $("ln-found");
    let chosen = 0, found = [];
    function render() {
      list.replaceChildren(...found.map((node, at) => {
        const each = make("li", { role: "option", dir: "auto", "aria-selected": String(at === chosen) },
                          (node.status ? SIGNS[node.status] + " " : "") + node.label);
        each.addEventListener("mousedown", (event) => { event.preventDefault(); take(node); });
        return each;
      }));
      list.hidden = !found.length;
      input.setAttribute("aria-expanded", String(!list.hidden));
    }
    function take(node) { found = []; input.value = ""; render(); focusOn(node.id); }
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      chosen = 0;
      found = wanted ? data.nodes.filter((node) => node.label.toLowerCase().includes(wanted) || node.id === input.value.trim()).slice(0, 30) : [];
      render();
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") chosen = Math.min(chosen + 1, found.length - 1);
      else if (event.key === "ArrowUp") chosen = Math.max(chosen - 1, 0);
      else if (event.key === "Enter" && found[chosen]) { take(found[chosen]); return; }
      else if (event.key === "Escape") found = [];
      else return;
      event.preventDefault();
      render();
    });
    input.addEventListener("blur", () => { found = []; render(); });
  }

  function begin() {
    cy = cytoscape({ container: $("ln-canvas"), style: stylesheet(), minZoom: 0.08, maxZoom: 3,
                     boxSelectionEnabled: false, selectionType: "single" });
    state.steps = fitting();
    legend();
    watchCanvas();
    watchKeys();
    watchSearch();
    for (const each of document.querySelectorAll(".lineage [data-way]")) {
      each.addEventListener("click", () => { state.way = each.dataset.way; state.steps = fitting(); draw(); });
    }
    $("ln-fewer").addEventListener("click", () => step(-1));
    $("ln-more").addEventListener("click", () => step(1));
    $("ln-fold").addEventListener("click", () => { state.fold = !state.fold; state.open.clear(); draw(); });
    $("ln-fit").addEventListener("click", fit);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => cy.style(stylesheet()));
    addEventListener("resize", () => cy.resize());
    draw();
  }

  begin();
})();
