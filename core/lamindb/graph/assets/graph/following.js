/* Following runs that have not ended: what is drawn is asked for anew, and what people have done to it stays. */

const EVERY_MS = 2000;
const SHARE = 5;            // of the time goes to asking at most one part of this

function follow() {
  const isRunning = (each) => each.status === "started";
  if (state.isGone || !data.nodes.some(isRunning) && !Object.values(data.boxes).some(isRunning)) return;
  setTimeout(async () => { await refresh(); follow(); }, Math.max(EVERY_MS, SHARE * (state.took || 0)));
}

async function refresh() {
  if (document.hidden) return;
  const began = performance.now();
  try {
    const headers = state.tag ? { "If-None-Match": state.tag } : {};
    const answer = await fetch(`${data.links}/lineage/${data.focus}/picture`, { headers });
    state.isGone = answer.status === 404;
    if (answer.status === 200) {
      state.tag = answer.headers.get("ETag");
      renew(await answer.json());
    }
  } catch (error) {
    // the server has ended, or is asked too much: the next time may do
  }
  state.took = performance.now() - began;
}

function renew(given) {
  const groupsBefore = new Map([...nodes].map(([id, node]) => [id, node.group]));
  const showedAll = state.steps >= longest(), panel = $("ln-panel");
  const panelBefore = state.picked && JSON.stringify(factsOf(state.picked));
  const stays = anchor();
  take(given);
  // a group is called by one of its members, and has another name when it has grown
  const renamed = new Map();
  for (const [id, group] of groupsBefore) if (group && nodes.has(id)) renamed.set(group, nodes.get(id).group);
  state.open = new Set([...state.open].map((group) => renamed.get(group)).filter(Boolean));
  if (renamed.has(state.picked)) state.picked = renamed.get(state.picked);
  if (stays && renamed.has(stays.id)) stays.id = renamed.get(stays.id);
  if (!nodes.has(state.focus)) state.focus = data.focus;
  if (showedAll) state.steps = Math.max(state.steps, fitting());
  state.steps = Math.min(state.steps, longest());

  const { found } = elements();
  const isSame = found.length === cy.elements().length &&
    found.every((each) => cy.getElementById(each.data.id).length && !moved(each.data));
  if (isSame) for (const each of found) cy.getElementById(each.data.id).data(each.data);
  else draw(state.isTouched ? stays : null);   // as long as nobody has, all of it is shown
  legend();
  if (state.picked && JSON.stringify(factsOf(state.picked)) !== panelBefore) {
    const scrolled = panel.scrollTop;
    if (cy.getElementById(state.picked).length) fill(state.picked);
    panel.scrollTop = scrolled;
  }
}

function moved(given) {
  const now = cy.getElementById(given.id).data();
  return now.parent !== given.parent || now.source !== given.source || now.target !== given.target;
}

/** What the panel tells of an item. */
function factsOf(name) {
  const element = cy.getElementById(name);
  const box = name.startsWith("box:") && data.boxes[name.slice(4)];
  return [box, nodes.get(name), data.groups[name], element.length && element.data("members").map((id) => nodes.get(id))];
}

/** What stays where it is on the screen: what is picked, else what is nearest to the middle of what people see. */
function anchor() {
  const picked = state.picked && cy.getElementById(state.picked);
  if (picked && picked.length) return { id: picked.id(), ...picked.renderedPosition() };
  const middle = { x: cy.width() / 2, y: cy.height() / 2 };
  const far = (node) => Math.hypot(node.renderedPosition("x") - middle.x, node.renderedPosition("y") - middle.y);
  const nearest = cy.nodes("[kind='file'],[kind='run']").min(far).ele;
  return nearest && { id: nearest.id(), ...nearest.renderedPosition() };
}
