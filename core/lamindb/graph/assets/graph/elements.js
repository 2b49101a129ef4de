/* What cytoscape draws: nodes with their labels and sizes, boxes, edges. */

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

function worstOf(statuses) {
  return WORST.find((status) => statuses.has(status)) || "completed";
}

function describe(name, members) {
  const one = nodes.get(members[0]);
  const isGroup = !nodes.has(name);
  const count = isGroup ? countOf(name, members) : 1;
  const title = isGroup ? data.groups[name].label : one.label;
  let second = one.kind === "file" ? [one.size, one.note] : [one.note, one.took];
  if (isGroup) second = [(state.open.has(name) ? "the other " : "× ") + count.toLocaleString("en")];
  const statuses = one.kind === "run" ? isGroup ? statusesOf(name, members) : new Map([[one.status, 1]]) : null;
  const status = statuses && worstOf(statuses);
  if (status) second.unshift(SIGNS[status]);
  if (isGroup && status && status !== "completed") {
    second.push(statuses.get(status).toLocaleString("en") + " " + status);
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
  const wanted = itemsOf(all);
  const items = new Map([...wanted].slice(0, MOST_ITEMS));
  const itemAt = new Map();
  for (const [name, members] of items) for (const id of members) itemAt.set(id, name);
  noteWhole(itemAt.keys());
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
  return { found, shown: itemAt.size, items, dropped: wanted.size - items.size };
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
        const stacked = (nodes.get(id).absent[way] || []).filter(([group]) => items.has(group) && whole.has(group));
        const counted = stacked.reduce((sum, each) => sum + each[1], drawn);
        hidden += Math.max(Math.max(nodes.get(id)[total], held.length) - counted, 0);
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
