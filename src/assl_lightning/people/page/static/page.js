// The labelling page. What is answered shows at once; the outbox brings it to the server.

import { Clock } from "./clock.js";
import { Groups, Selection } from "./grid.js";
import { Outbox, ask, post, waitingNames } from "./outbox.js";
import { matches } from "./typeahead.js";
import { showDecision, showVotes } from "./votes.js";
import { isZoomed, pan, setZoom, zoomAt } from "./zoom.js";

const POLL = 15000; // milliseconds between looks whether the batch is still open
const AHEAD = 3; // images that are loaded before they are shown
const SMALL = 128; // pixels; smaller images are shown with their pixels sharp
const NAME = "assl-label/annotator";
const TAKEN_OVER = "the labels of this round were taken over meanwhile, so it takes no more answers";
const KINDS = { skip: "skipped", bad: "bad image" };

const $ = (id) => document.getElementById(id);
const many = document.body.dataset.many === "yes";
const settles = document.body.dataset.view === "settle"; // people's differences, and not the whole batch
const inGrid = document.body.dataset.view === "grid"; // an answer goes to all selected images
const SEVERAL = ""; // what the clock calls the images of the grid: nobody looks at one of them alone
const wordsOf = (answer) => answer.label ?? KINDS[answer.kind];
const clock = new Clock();
const selection = new Selection(); // of the grid
const buttons = [...$("classes").querySelectorAll("button")];

let batch = null; // as /batch says it
let outbox = null; // of who labels now
const outboxes = new Map(); // annotator → theirs
let log = []; // standing answers, oldest first: {key, id, sample, kind, label, annotator, mine, step}; key or id may be null
let current = new Map(); // sample id → its last answer in `log`
let here = 0; // position of the image that is shown
let tiles = [];
let groups = null; // of the grid
let pictures = new Map(); // position → loaded <img>
let candidates = []; // positions of the classes that are shown, in the order shown
let marked = 0; // of the candidates
let problem = null; // why answers are not saved
let reached = true; // the server, at the last look
let ended = false; // closed or finished: no more answers

// ---------------------------------------------------------------- annotators

function remembered(storage) {
  try {
    return storage.getItem(NAME);
  } catch {
    return null;
  }
}

function remember(name) {
  try {
    sessionStorage.setItem(NAME, name); // of this tab, so that two people may use two tabs
    localStorage.setItem(NAME, name); // to be proposed in the next one
  } catch {
    // asked for again after a reload
  }
}

function askName() {
  $("annotator").value = remembered(sessionStorage) ?? remembered(localStorage) ?? "";
  $("name-problem").textContent = "";
  open($("ask-name"));
  $("annotator").select();
}

async function begin(name) {
  const view = settles || inGrid ? `&view=${document.body.dataset.view}` : "";
  const reply = await ask(`batch?annotator=${encodeURIComponent(name)}${view}`);
  if (reply.status !== 200) {
    if (!$("ask-name").open) askName();
    $("name-problem").textContent = `${reply.problem}.`;
    return;
  }
  if (reply.content.samples.length === 0) {
    if (!$("ask-name").open) askName();
    $("name-problem").textContent = "People differ about no image now; there is nothing to settle.";
    return;
  }
  batch = reply.content;
  close($("ask-name"));
  remember(batch.annotator);
  ended = false;
  problem = null;
  tell(null);
  log = batch.answers.map((one) => ({ ...one, key: null, mine: isOfPage(one) && one.annotator === batch.annotator, step: null }));
  listenTo(outboxOf(batch.annotator));
  const asked = new Set(batch.samples.map((one) => one.id));
  for (const item of outbox.items) if (item.kind === "undo" || asked.has(item.content.sample_id)) adopt(item);
  $("who-name").textContent = batch.annotator;
  $("csv").href = `answers.csv?annotator=${encodeURIComponent(batch.annotator)}`;
  pictures = new Map();
  makeTiles();
  selection.set([]);
  recount();
  narrow();
  here = -1;
  show(nextUnanswered(-1) ?? 0);
  if (inGrid) clock.show(SEVERAL);
  resume();
  if (batch.open) [...new Set([batch.annotator, ...waitingNames(batch.run)])].forEach((one) => outboxOf(one).send());
  else closed(TAKEN_OVER);
}

// What somebody else could not save before they left this browser is sent on, without a word.
function outboxOf(annotator) {
  if (!outboxes.has(annotator)) outboxes.set(annotator, new Outbox(batch.run, annotator));
  return outboxes.get(annotator);
}

function listenTo(one) {
  if (outbox !== null) outbox.events = null;
  outbox = one;
  outbox.events = { arrived, refused, closed, changed };
}

// An item that a former visit left in the outbox.
function adopt(item) {
  if (item.kind === "answer") log.push(entryOf(item));
  else log = log.filter((one) => !(one.key === item.content.of || (one.id !== null && one.id === item.content.id)));
}

const isOfPage = (one) => one.source === "page" || one.source === "page, grid";

const entryOf = (item, step = null) => ({
  key: item.key,
  id: null,
  sample: item.content.sample_id,
  kind: item.content.kind,
  label: item.content.label,
  annotator: batch.annotator,
  mine: true,
  step, // of the answers that were given at once, and are taken back at once
});

// ---------------------------------------------------------------- the outbox's news

function arrived(item, reply) {
  if (item.kind === "answer") {
    const isTakenBack = outbox.items.some((one) => one.kind === "undo" && one.content.id === reply.id);
    log = log.filter((one) => one.id !== reply.id && !(isTakenBack && one.key === item.key));
    for (const one of log) if (one.key === item.key) one.id = reply.id;
  }
  recount();
  if (reply.finished) finished();
  else if (outbox.items.length === 0 && current.size === batch.samples.length) look();
}

function refused(item, message) {
  log = log.filter((one) => one.key !== item.key);
  recount();
  tell(`An answer was refused: ${message}.`);
}

function closed(message) {
  ended = true;
  outbox.stop();
  const waiting = outbox.items.length;
  const lost = waiting === 0 ? "" : ` ${waiting} of your last answers came too late.`;
  problem = null;
  tell(`This batch is closed: ${message}.${lost}`);
  recount();
}

function changed(message) {
  const wasAway = problem !== null || !reached;
  problem = message;
  if (message !== null) tell(`Not saved: ${message}. Your answers wait in this browser, in their order.`, true);
  else if (wasAway && !ended) tell(null);
  if (wasAway && message === null) reached = true;
  recount();
}

function tell(message, canRetry = false) {
  $("banner").hidden = message === null;
  if (message !== null && $("banner-text").textContent !== message) $("banner-text").textContent = message;
  if (message === null) $("banner-text").textContent = "";
  $("retry").hidden = !canRetry;
}

async function look() {
  if (outbox === null || ended || document.hidden || outbox.items.length > 0) return;
  const reply = await ask("state");
  if (ended || outbox.items.length > 0) return;
  const wasAway = !reached;
  reached = reply.status === 200;
  if (!reached) tell(`Not connected: ${reply.problem}. What you answer now waits in this browser.`, true);
  else if (!reply.content.open) closed(TAKEN_OVER);
  else if (!sameClasses(reply.content.classes)) location.reload(); // all is saved, and the buttons are others now
  else if (wasAway) tell(null);
  if (reached) offerToSettle(reply.content.disputes);
  recount();
}

// Show the link to the images about which people differ, once everything is answered.
function offerToSettle(disputes) {
  if (settles) return;
  $("disputes").textContent = String(disputes);
  $("settle").hidden = disputes === 0 || current.size < batch.samples.length;
}

const sameClasses = (names) => JSON.stringify(names) === JSON.stringify(batch.classes);

// ---------------------------------------------------------------- answering

function answer(kind, label = null) {
  if (batch === null || ended) return;
  const places = inGrid ? selection.places : [here];
  if (places.length === 0) return askToSelect();
  give(places, kind, label);
  selection.set([]);
  const said = places.length > 1 ? `${label ?? KINDS[kind]}, ${places.length} images` : (label ?? KINDS[kind]);
  const next = nextUnanswered(inGrid ? places[0] - 1 : here);
  if (next !== null) show(next);
  clearSearch();
  const all = `All ${batch.samples.length} images are ${settles ? "settled" : "answered"}.`;
  say(next === null ? `${said}. ${all}` : `${said}. ${titleOf(here)}`);
  if (next === null) showAnswer();
}

// Note the answer of those images that have another one or none, and send it on.
function give(places, kind, label) {
  const samples = places.map((place) => batch.samples[place]);
  const changed = samples.filter(({ id }) => current.get(id)?.kind !== kind || current.get(id)?.label !== label);
  if (changed.length === 0) return;
  const looked = clock.take(inGrid ? SEVERAL : changed[0].id, batch.longest * places.length) / places.length;
  const seconds = Math.round(100 * looked) / 100;
  const view = settles ? { decides: true } : inGrid ? { grid: true } : {};
  let step = null;
  for (const { id } of changed) {
    const item = outbox.add("answer", { sample_id: id, kind, label, seconds, ...view });
    step ??= item.key;
    log.push(entryOf(item, step));
  }
  recount();
}

function undo() {
  if (batch === null || ended) return;
  const last = log.findLast((one) => one.mine);
  if (last === undefined) return;
  const given = last.step === null ? [last] : log.filter((one) => one.mine && one.step === last.step);
  log = log.filter((one) => !given.includes(one));
  for (const one of given) outbox.add("undo", { of: one.key, id: one.id });
  recount();
  const places = given.map(({ sample }) => batch.samples.findIndex((one) => one.id === sample));
  if (inGrid) selection.set(places);
  show(places[0]);
  clearSearch();
  say(`taken back: ${last.label ?? KINDS[last.kind]}. ${titleOf(here)}`);
}

function nextUnanswered(from) {
  const count = batch.samples.length;
  for (let step = 1; step <= count; step += 1) {
    const place = (from + step + count) % count;
    if (!current.has(batch.samples[place].id)) return place;
  }
  return null;
}

async function finish(leaveOthers = false) {
  const view = settles ? { view: "settle" } : {};
  const reply = await post("finish", { annotator: batch.annotator, leave_others: leaveOthers, ...view });
  if (reply.status !== 200) {
    tell(`The page cannot be finished: ${reply.problem}.`);
  } else if (!reply.content.finished) {
    $("others-text").textContent = `${reply.content.others.join(", ")}: not all images are answered. If the page ends now, the command can be started again for them.`;
    open($("others"));
  } else {
    finished();
  }
}

function finished() {
  ended = true;
  outbox.stop();
  clock.pause();
  tell(null);
  recount();
  const kinds = ["label", "skip", "bad"].map((kind) => [...current.values()].filter((one) => one.kind === kind).length);
  const labelled = settles ? "settled by a class" : "labelled";
  $("finished-text").textContent = `${batch.annotator}: ${kinds[0]} ${labelled}, ${kinds[1]} skipped, ${kinds[2]} bad. All of it is saved.`;
  open($("finished"));
}

// ---------------------------------------------------------------- a new class

async function addClass() {
  const reply = await post("classes", { annotator: batch.annotator, name: $("class-name").value });
  if (reply.status !== 200) {
    $("class-problem").textContent = `${reply.problem}.`;
    return;
  }
  close($("add-class"));
  say(`${$("class-name").value} is a class now.`);
  look(); // the buttons come with the page
}

function askForClass() {
  close($("keys"));
  $("class-name").value = "";
  $("class-problem").textContent = "";
  open($("add-class"));
}

// ---------------------------------------------------------------- showing

function makeTiles() {
  tiles = batch.samples.map((sample, place) => {
    const image = document.createElement("img");
    image.loading = "lazy";
    image.decoding = "async";
    image.alt = "";
    image.addEventListener("load", () => image.classList.toggle("small", isSmall(image)));
    image.addEventListener("error", () => tile.classList.add("broken"));
    const verdict = document.createElement("span");
    const tile = document.createElement("button");
    tile.type = "button";
    tile.className = "tile";
    tile.tabIndex = -1;
    tile.append(image, verdict);
    tile.addEventListener("click", (event) => {
      show(place);
      if (inGrid) pick(place, event.shiftKey);
      else if (isNarrow()) $("stage").scrollIntoView();
    });
    image.src = sample.image;
    return tile;
  });
  const items = tiles.map((tile) => {
    const item = document.createElement("li");
    item.append(tile);
    return item;
  });
  if (inGrid) groups = new Groups(batch, (number) => selection.flip(groups.left(number, hasAnswer)));
  $("grid").replaceChildren(...(inGrid ? groups.rows(items) : items));
}

// Everything that follows from `log`, the outbox and whether answers are taken.
function recount() {
  if (batch === null) return;
  current = new Map(log.map((one) => [one.sample, one]));
  const waiting = new Set(outbox.items.filter((one) => one.kind === "answer").map((one) => one.key));
  const total = batch.samples.length;
  const done = current.size;
  tiles.forEach((tile, place) => {
    const given = current.get(batch.samples[place].id);
    tile.dataset.verdict = given?.kind ?? "";
    tile.classList.toggle("waiting", waiting.has(given?.key ?? ""));
    const text = given === undefined ? "" : (given.label ?? KINDS[given.kind]);
    if (tile.lastChild.textContent !== text) tile.lastChild.textContent = text;
    const label = `${titleOf(place)}, ${text || "no answer yet"}`;
    if (tile.getAttribute("aria-label") !== label) tile.setAttribute("aria-label", label);
  });
  $("progress").max = total;
  $("progress").value = done;
  $("count").textContent = `${done} of ${total}`;
  document.body.dataset.done = done === total ? "yes" : "no";
  showSelection();
  const open = settles ? batch.samples.some((one) => one.waits && !current.has(one.id)) : done < total;
  $("finish").disabled = ended || open || outbox.items.length > 0;
  $("undo").disabled = ended || !log.some((one) => one.mine);
  for (const button of [...buttons, $("skip"), $("bad")]) button.disabled = ended;
  if (many) $("search").disabled = ended;
  const count = outbox.items.length;
  const isSending = problem === null && !ended;
  const state = count > 0 ? (isSending ? "saving" : "failed") : reached ? "saved" : "away";
  const words = { saved: done > 0 ? "all saved" : "", away: "not connected", saving: "saving …", failed: `${count} not saved` };
  $("saved").dataset.state = state;
  if ($("saved").textContent !== words[state]) $("saved").textContent = words[state];
  showAnswer();
}

const titleOf = (place) => {
  const sample = batch.samples[place];
  return `Image ${place + 1} of ${batch.samples.length}${sample.again ? ", asked once more" : ""}: ${sample.id}`;
};

function show(place) {
  const clamped = Math.max(0, Math.min(batch.samples.length - 1, place));
  if (clamped === here) return;
  if (tiles[here]) {
    tiles[here].removeAttribute("aria-current");
    tiles[here].tabIndex = -1;
  }
  const hadFocus = document.activeElement === tiles[here];
  here = clamped;
  const sample = batch.samples[here];
  const tile = tiles[here];
  tile.setAttribute("aria-current", "true");
  tile.tabIndex = 0;
  if (hadFocus) tile.focus({ preventScroll: true });
  reveal(tile);
  setZoom(false);
  $("picture").replaceChildren(pictureOf(here));
  $("name").textContent = sample.id;
  $("name").title = sample.id;
  const facts = [`${here + 1} of ${batch.samples.length}`];
  if (sample.again) facts.push("asked once more");
  if (settles) showVotes(sample, wordsOf, answer);
  if (sample.prediction) facts.push(`the model says ${sample.prediction}`);
  $("facts").textContent = facts.join(" · ");
  if (!inGrid) clock.show(sample.id);
  showAnswer();
  load();
}

// Loaded images around the one that is shown, so that the next is there at once.
function load() {
  const wanted = new Set([here, here - 1]);
  for (let place = here, step = 0; step < AHEAD; step += 1) {
    place = nextUnanswered(place) ?? place + 1;
    wanted.add(place);
  }
  for (const place of pictures.keys()) if (!wanted.has(place)) pictures.delete(place);
  for (const place of wanted) if (batch.samples[place]) pictureOf(place);
}

function pictureOf(place) {
  if (!pictures.has(place)) {
    const image = new Image();
    image.draggable = false;
    image.alt = `image ${place + 1}`;
    image.addEventListener("load", () => image.classList.toggle("small", isSmall(image)));
    image.addEventListener("error", () => {
      image.alt = "this image cannot be shown";
      image.classList.add("broken");
    });
    image.src = batch.samples[place].image;
    pictures.set(place, image);
  }
  return pictures.get(place);
}

const isSmall = (image) => Math.max(image.naturalWidth, image.naturalHeight) < SMALL;
const isNarrow = () => matchMedia("(max-width: 52rem)").matches;

// Scroll the overview alone, where it scrolls by itself.
function reveal(tile) {
  const box = $("overview");
  if (box.scrollHeight <= box.clientHeight) return;
  const [inner, outer] = [tile.getBoundingClientRect(), box.getBoundingClientRect()];
  const margin = inner.height / 2;
  if (inner.top < outer.top + margin) box.scrollTop += inner.top - outer.top - margin;
  else if (inner.bottom > outer.bottom - margin) box.scrollTop += inner.bottom - outer.bottom + margin;
}

// The classes' buttons, and what is said of this image so far.
function showAnswer() {
  if (batch === null || here < 0) return;
  const given = current.get(batch.samples[here].id);
  for (const button of buttons) {
    const isGiven = given?.kind === "label" && batch.classes[button.value] === given.label;
    button.classList.toggle("given", isGiven);
    button.setAttribute(many ? "aria-selected" : "aria-pressed", String(isGiven));
  }
  for (const kind of ["skip", "bad"]) $(kind).setAttribute("aria-pressed", String(given?.kind === kind));
  if (settles) showDecision(batch.samples[here], given, batch.policy, wordsOf);
}

function say(text) {
  $("said").textContent = text;
}

// ---------------------------------------------------------------- the grid

const hasAnswer = (place) => current.has(batch.samples[place].id);

function pick(place, isRange) {
  if (ended) return;
  if (isRange) selection.reach(place);
  else selection.toggle(place);
}

function showSelection() {
  if (!inGrid || batch === null) return;
  groups.recount(hasAnswer, (place) => selection.has(place), ended);
  tiles.forEach((tile, place) => tile.setAttribute("aria-pressed", String(selection.has(place))));
  const count = selection.places.length;
  $("selected").textContent = count === 0 ? "Select images, then choose their class" : `${count} selected: choose their class`;
  $("selected").dataset.missing = "no";
  $("deselect").disabled = ended || count === 0;
}

function askToSelect() {
  $("selected").dataset.missing = "yes";
  say("Nothing is selected.");
}

// The key selects the image that is shown; on a button it presses the button.
function onSpace(event) {
  if (isOnButton(event)) return false;
  if (!event.repeat) pick(here, false);
  return true;
}

// ---------------------------------------------------------------- many classes

// Digits choose among the classes that are shown, unless they are needed to type a name.
const digitsChoose = () => !many || !batch.classes.some((name) => /\p{N}/u.test(name));

function narrow() {
  if (!many) {
    candidates = batch.classes.map((_, place) => place);
    return;
  }
  candidates = matches($("search").value, batch.classes);
  marked = 0;
  const shown = new Set(candidates);
  buttons.forEach((button, place) => (button.hidden = !shown.has(place)));
  $("no-class").before(...candidates.map((place) => buttons[place]));
  candidates.forEach((place, rank) => {
    buttons[place].querySelector("kbd").textContent = digitsChoose() && rank < 9 ? String(rank + 1) : "";
  });
  $("no-class").hidden = candidates.length > 0;
  $("classes").scrollTop = 0;
  mark();
}

function mark() {
  const isTyping = $("search").value.trim() !== "";
  buttons.forEach((button) => button.classList.remove("marked"));
  const button = isTyping ? buttons[candidates[marked]] : undefined;
  $("search").setAttribute("aria-activedescendant", button?.id ?? "");
  button?.classList.add("marked");
  if (button) {
    const box = $("classes");
    const [inner, outer] = [button.getBoundingClientRect(), box.getBoundingClientRect()];
    if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom;
    else if (inner.top < outer.top) box.scrollTop += inner.top - outer.top;
  }
}

function clearSearch() {
  if (!many) return;
  if ($("search").value !== "") $("search").value = "";
  narrow();
}

const choose = (rank) => {
  const place = candidates[rank];
  if (place !== undefined) answer("label", batch.classes[place]);
};

// ---------------------------------------------------------------- keys

const COMMANDS = {
  s: () => answer("skip"),
  x: () => answer("bad"),
  u: undo,
  n: () => show(nextUnanswered(here) ?? here),
  z: () => setZoom(!isZoomed()),
  ...(inGrid ? { a: () => selection.flip(groups.left(batch.samples[here].group, hasAnswer)) } : {}),
};
const MOVES = {
  ArrowLeft: () => here - 1,
  ArrowRight: () => here + 1,
  ArrowUp: () => (inGrid ? beside(-1) : here - columns()),
  ArrowDown: () => (inGrid ? beside(1) : here + columns()),
  Home: () => 0,
  End: () => batch.samples.length - 1,
};

function columns() {
  const top = tiles[0].getBoundingClientRect().top;
  const first = tiles.findIndex((tile) => tile.getBoundingClientRect().top > top + 1);
  return first < 0 ? tiles.length : first;
}

// The image above (-1) or below (1), across the headings of groups.
function beside(direction) {
  const boxes = tiles.map((tile) => tile.getBoundingClientRect());
  const from = boxes[here];
  const beyond = boxes.filter((box) => direction * (box.top - from.top) > 1);
  if (beyond.length === 0) return here;
  const top = direction > 0 ? Math.min(...beyond.map((box) => box.top)) : Math.max(...beyond.map((box) => box.top));
  const row = beyond.filter((box) => Math.abs(box.top - top) <= 1);
  const nearest = Math.min(...row.map((box) => Math.abs(box.left - from.left)));
  return boxes.indexOf(row.find((box) => Math.abs(box.left - from.left) === nearest));
}

// The digit or Latin letter of a key, whatever the keyboard's layout.
function keyOf(event) {
  if (/^[0-9a-zA-Z]$/.test(event.key)) return event.key.toLowerCase();
  const code = /^(?:Digit|Numpad|Key)([0-9A-Z])$/.exec(event.code);
  return code !== null && !event.shiftKey && event.key.length === 1 ? code[1].toLowerCase() : event.key;
}

function onKey(event) {
  if (batch === null || document.querySelector("dialog[open]")) return;
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (event.shiftKey && event.key.startsWith("Arrow") && isZoomed()) pan(event.key);
  else if (event.key === "?") open($("keys"));
  else if (many ? !onKeyOfMany(event) : !onKeyOfFew(event)) return;
  event.preventDefault();
}

// Whether the key meant something.
function onKeyOfFew(event) {
  const key = keyOf(event);
  if (/^[1-9]$/.test(key) && Number(key) <= buttons.length) return event.repeat || choose(Number(key) - 1) || true;
  if (key in COMMANDS) return event.repeat || COMMANDS[key]() || true;
  if (event.key === "Escape") return leave();
  if (inGrid && event.key === " ") return onSpace(event);
  return move(event);
}

function onKeyOfMany(event) {
  const typed = $("search").value;
  const isTyping = typed.trim() !== "";
  const command = event.shiftKey && !isTyping ? COMMANDS[event.key.toLowerCase()] : undefined;
  if (command) return event.repeat || command() || true;
  const digit = digitsChoose() && !event.shiftKey ? keyOf(event) : "";
  if (/^[1-9]$/.test(digit)) return event.repeat || choose(Number(digit) - 1) || true;
  if (event.key === "Enter" && isOnButton(event)) return false;
  if (event.key === "Enter") return event.repeat || !isTyping || choose(marked) || true;
  if (event.key === "Escape") return isTyping ? clearSearch() || true : leave();
  if (inGrid && event.key === " " && !isTyping) return onSpace(event);
  if (isTyping && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    const step = event.key === "ArrowDown" ? 1 : -1;
    marked = Math.max(0, Math.min(candidates.length - 1, marked + step));
    return mark() || true;
  }
  if (!isTyping && event.key !== " " && move(event)) return true;
  if (event.key.length === 1 && (event.key !== " " || isTyping)) $("search").focus();
  return event.key === " " && !isTyping && !isOnButton(event);
}

const isOnButton = (event) => event.target.closest("button, a") !== null;

// Leave the zoom, or else the selection.
function leave() {
  if (isZoomed()) setZoom(false);
  else if (inGrid && selection.places.length > 0) selection.set([]);
  else return false;
  return true;
}

function move(event) {
  const target = MOVES[event.key];
  if (target === undefined || (event.shiftKey && !inGrid)) return false;
  const from = here;
  show(target());
  if (event.shiftKey && !ended) selection.reach(here, from);
  say(titleOf(here));
  return true;
}

// ---------------------------------------------------------------- dialogs, and what calls what

function open(dialog) {
  clock.pause();
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0; // and not at the button that has the focus
}

function close(dialog) {
  dialog.close();
  resume();
}

function resume() {
  if (!document.hidden && batch !== null && !ended && !document.querySelector("dialog[open]")) clock.resume();
}

function listen() {
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clock.pause();
    else resume();
    look();
  });
  for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("close", resume);
  $("finished").addEventListener("close", () => open($("finished")));
  $("ask-name").addEventListener("close", () => batch === null && askName());
  $("ask-name").addEventListener("submit", (event) => {
    event.preventDefault();
    begin($("annotator").value);
  });
  if ($("add-class") !== null) {
    $("new-class").addEventListener("click", askForClass);
    $("no-new-class").addEventListener("click", () => close($("add-class")));
    $("add-class").addEventListener("submit", (event) => {
      event.preventDefault();
      addClass();
    });
  }
  $("others").addEventListener("close", () => $("others").returnValue === "end" && finish(true));
  buttons.forEach((button, place) => button.addEventListener("click", () => answer("label", batch.classes[place])));
  for (const button of [...buttons, $("skip"), $("bad"), $("undo"), ...(inGrid ? [$("deselect")] : [])]) {
    button.addEventListener("pointerdown", (event) => event.preventDefault()); // keys stay where they were
  }
  if (inGrid) {
    selection.changed = showSelection;
    $("deselect").addEventListener("click", () => selection.set([]));
  }
  $("skip").addEventListener("click", () => answer("skip"));
  $("bad").addEventListener("click", () => answer("bad"));
  $("undo").addEventListener("click", undo);
  $("finish").addEventListener("click", () => finish());
  $("zoom").addEventListener("click", () => setZoom(!isZoomed()));
  $("picture").addEventListener("click", zoomAt);
  $("who").addEventListener("click", askName);
  $("help").addEventListener("click", () => open($("keys")));
  $("retry").addEventListener("click", () => (outbox.items.length > 0 ? outbox.send() : look()));
  window.addEventListener("online", () => outboxes.forEach((one) => one.send()));
  window.addEventListener("beforeunload", (event) => {
    if (!ended && [...outboxes.values()].some((one) => one.items.length > 0)) event.preventDefault();
  });
  if (many) {
    $("search").addEventListener("input", narrow);
    $("search").addEventListener("focus", () => mark());
  }
  setInterval(look, POLL);
}

if (location.search !== "") history.replaceState(null, "", location.pathname); // the token is in a cookie by now
listen();
const known = remembered(sessionStorage);
if (known === null) askName();
else begin(known);
