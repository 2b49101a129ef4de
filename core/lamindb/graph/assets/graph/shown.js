/* What of the lineage is shown: the way and steps from the focus, and what is alike as one. */

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
let data, nodes, place, before, after, held, whole;

/** Take what is to be drawn, at first or anew. */
function take(given) {
  data = given;
  nodes = new Map(data.nodes.map((node) => [node.id, node]));
  place = new Map(data.nodes.map((node, at) => [node.id, at]));
  [before, after, held] = [new Map(), new Map(), new Map()];
  for (const [from, to] of data.edges) {
    (after.get(from) || after.set(from, []).get(from)).push(to);
    (before.get(to) || before.set(to, []).get(to)).push(from);
  }
  for (const node of data.nodes) if (node.group) held.set(node.group, (held.get(node.group) || 0) + 1);
  whole = new Set();
}

take(JSON.parse($("lineage-data").textContent));
const links = typeof data.links === "string";   // whether it is in the web app
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

/** Note the groups of which all that the page holds is shown: what is drawn of them stands for all that is recorded. */
function noteWhole(shown) {
  const left = new Map(held);
  for (const id of shown) if (nodes.get(id).group) left.set(nodes.get(id).group, left.get(nodes.get(id).group) - 1);
  whole = new Set([...left.keys()].filter((name) => left.get(name) === 0));
}

/** How many a group stands for that the page does not hold. */
function absent(name) {
  return whole.has(name) ? data.groups[name].count - held.get(name) : 0;
}

function countOf(name, members) {
  return members.length + absent(name);
}

/** How many of the runs that a group stands for ended how. */
function statusesOf(name, members) {
  const found = new Map();
  const count = (status, by) => found.set(status, (found.get(status) || 0) + by);
  for (const id of members) count(nodes.get(id).status, 1);
  if (!absent(name)) return found;
  for (const [status, number] of data.groups[name].statuses) count(status, number);
  for (const node of data.nodes) if (node.group === name) count(node.status, -1);
  return new Map([...found].filter((each) => each[1] > 0));
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
