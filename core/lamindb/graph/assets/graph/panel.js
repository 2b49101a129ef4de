/* The panel: what is known of one node, group or box. */

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
  const panel = $("ln-panel"), wasHidden = panel.hidden;
  panel.hidden = !name;
  if (wasHidden !== panel.hidden) cy.resize();
  if (!name) return;
  bringIntoView(cy.getElementById(name));
  fill(name);
  panel.scrollTop = 0;
}

function fill(name) {
  const item = cy.getElementById(name).data();
  const close = button("×", () => { cy.elements().unselect(); show(null); });
  close.className = "close";
  close.setAttribute("aria-label", "Close");
  const parts = item.kind === "box" ? boxPanel(item) : item.isGroup ? groupPanel(item) : nodePanel(nodes.get(name));
  $("ln-panel").replaceChildren(close, ...parts);
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
  const count = countOf(item.id, item.members);
  const what = `${count.toLocaleString("en")} ${one.kind === "file" ? "files" : "runs"} of a kind` +
    (one.kind === "run" ? ": " + [...statusesOf(item.id, item.members)]
      .map(([status, count]) => `${count.toLocaleString("en")} ${status}`).join(", ") : "");
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
  const lacking = absent(item.id);
  if (rest > 0) list.append(make("li", {}, `… ${rest.toLocaleString("en")} more` +
    (lacking ? `, ${lacking.toLocaleString("en")} of them not in this page` : "")));
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
