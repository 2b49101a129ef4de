/* What people do: by mouse, by keys, by search. */

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
  for (const kind of ["wheel", "pointerdown", "keydown"]) {
    $("ln-canvas").addEventListener(kind, () => { state.isTouched = true; }, { passive: true, capture: true });
  }
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
  $("ln-fit").addEventListener("click", () => { state.isTouched = false; fit(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => cy.style(stylesheet()));
  addEventListener("resize", () => cy.resize());
  draw();
  if (links) follow();
}

begin();
