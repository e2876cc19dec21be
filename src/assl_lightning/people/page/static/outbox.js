// Answers on their way to the server: one at a time, in their order, kept in the browser's storage until they arrived.
// An item is {key, sequence, kind: "answer" | "undo", content}; an undo has {of: key of its answer, id: once known}.

const FIRST_WAIT = 1000; // milliseconds until a failed save is tried again; doubles
const LONGEST_WAIT = 10000;
const PATIENCE = 40000; // the ledger waits 30 s for others

export class Outbox {
  events = null; // {arrived(item, reply), refused(item, message), closed(message), changed(problem or null)}
  #prefix;
  #annotator;
  #items = [];
  #sequence = 0;
  #running = false;
  #stopped = false;
  #problem = null;
  #timer = null;
  #wait = FIRST_WAIT;

  constructor(run, annotator) {
    this.#prefix = `${prefixOf(run)}${encodeURIComponent(annotator)}/`;
    this.#annotator = annotator;
    this.#items = stored(this.#prefix);
    this.#sequence = this.#items.at(-1)?.sequence ?? 0;
  }

  get items() {
    return this.#items;
  }

  add(kind, content) {
    this.#sequence = Math.max(Date.now(), this.#sequence + 1); // in order, over reloads too
    const random = crypto.getRandomValues(new Uint32Array(2)).join("-");
    const item = { key: `${this.#sequence}-${random}`, sequence: this.#sequence, kind, content };
    this.#items.push(item);
    this.#keep(item);
    this.events?.changed(this.#problem);
    this.send();
    return item;
  }

  // Send what there is, now.
  async send() {
    if (this.#running || this.#stopped) return;
    this.#running = true;
    clearTimeout(this.#timer);
    this.#timer = null;
    while (this.#items.length > 0 && !this.#stopped) {
      this.#problem = await this.#sendFirst();
      this.events?.changed(this.#problem);
      if (this.#problem !== null) {
        this.#timer = setTimeout(() => this.send(), this.#wait);
        this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT);
        break;
      }
      this.#wait = FIRST_WAIT;
    }
    this.#running = false;
  }

  // Nothing is sent any more; what is waiting stays in the storage.
  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  // null when the first item is dealt with, else what is wrong.
  async #sendFirst() {
    const item = this.#items[0];
    const age = Math.max(0, (Date.now() - item.sequence) / 1000);
    const content = item.kind === "undo" ? { id: item.content.id } : { ...item.content, age };
    const reply = await post(item.kind === "undo" ? "undo" : "answers", { annotator: this.#annotator, ...content });
    if (reply.status === 200) {
      this.#remove(item);
      if (item.kind === "answer") this.#tellUndos(item, reply.content.id);
      this.events?.arrived(item, reply.content);
    } else if (reply.status === 409) {
      this.stop();
      this.events?.closed(reply.problem);
    } else if ([400, 413, 415, 422].includes(reply.status)) {
      for (const one of this.#items.filter((other) => other === item || other.content.of === item.key)) this.#remove(one);
      this.events?.refused(item, reply.problem);
    } else {
      return reply.problem;
    }
    return null;
  }

  #tellUndos(answer, id) {
    for (const item of this.#items) {
      if (item.kind === "undo" && item.content.of === answer.key) {
        item.content.id = id;
        this.#keep(item);
      }
    }
  }

  #keep(item) {
    try {
      localStorage.setItem(this.#prefix + item.key, JSON.stringify(item));
    } catch {
      // no storage: kept while the page is open
    }
  }

  #remove(item) {
    this.#items = this.#items.filter((other) => other !== item);
    try {
      localStorage.removeItem(this.#prefix + item.key);
    } catch {
      // as above
    }
  }
}

const prefixOf = (run) => `assl-label/${run}/`;

function keysWith(prefix) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(prefix));
  } catch {
    return [];
  }
}

function stored(prefix) {
  const items = keysWith(prefix).map((key) => JSON.parse(localStorage.getItem(key)));
  return items.sort((one, other) => one.sequence - other.sequence);
}

// Whose answers to this batch wait in this browser.
export function waitingNames(run) {
  const prefix = prefixOf(run);
  return keysWith(prefix).map((key) => decodeURIComponent(key.slice(prefix.length).split("/")[0]));
}

// {status, content, problem}; status 0 where nobody answered.
export async function post(path, content) {
  return ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(content),
    signal: AbortSignal.timeout(PATIENCE),
  });
}

export async function ask(path, options = {}) {
  try {
    const response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
    const reply = await response.json();
    return { status: response.status, content: reply, problem: reply.error ?? `the server says ${response.status}` };
  } catch {
    return { status: 0, content: null, problem: "the command that serves this page does not answer" };
  }
}
