// Several images at a time: the selected ones, and the groups that the model takes for alike.

// The positions of the images that the next answer goes to.
export class Selection {
  changed = () => {};
  #places = new Set();
  #last = null; // where a range begins

  get places() {
    return [...this.#places].sort((one, other) => one - other);
  }

  has(place) {
    return this.#places.has(place);
  }

  toggle(place) {
    if (!this.#places.delete(place)) this.#places.add(place);
    this.#last = place;
    this.changed();
  }

  // Add all images from where a range begins, the last one that was selected if not given, to this one.
  reach(place, from = this.#last ?? place) {
    for (let one = Math.min(from, place); one <= Math.max(from, place); one += 1) this.#places.add(one);
    this.#last = place;
    this.changed();
  }

  // Add these, or take them away if all of them are selected.
  flip(places) {
    const areAll = places.every((place) => this.#places.has(place));
    for (const place of places) areAll ? this.#places.delete(place) : this.#places.add(place);
    this.changed();
  }

  set(places) {
    this.#places = new Set(places);
    this.#last = null;
    this.changed();
  }
}

// The heading of each group, with a button that selects what is left of it.
export class Groups {
  #samples;
  #groups;
  #headings;

  constructor(batch, flip) {
    this.#samples = batch.samples;
    this.#groups = batch.groups;
    this.#headings = batch.groups.map((_, number) => headingOf(() => flip(number)));
  }

  // The tiles of the images, each group below its heading.
  rows(tiles) {
    return this.#headings.flatMap((heading, number) => [heading.item, ...this.#of(number).map((place) => tiles[place])]);
  }

  // The images of a group without an answer, or all of them where each has one.
  left(number, hasAnswer) {
    const places = this.#of(number);
    const left = places.filter((place) => !hasAnswer(place));
    return left.length > 0 ? left : places;
  }

  // Bring the headings up to date.
  recount(hasAnswer, isSelected, ended) {
    this.#headings.forEach((heading, number) => {
      const places = this.#of(number);
      const open = places.filter((place) => !hasAnswer(place)).length;
      const words = `${places.length === 1 ? "1 image" : `${places.length} images`}, ${open} left`;
      setText(heading.title, titleOf(this.#groups, number));
      setText(heading.count, words);
      const areAll = this.left(number, hasAnswer).every(isSelected);
      setText(heading.button, areAll ? "Deselect" : "Select all");
      heading.button.disabled = ended;
    });
  }

  #of(number) {
    return this.#samples.map((_, place) => place).filter((place) => this.#samples[place].group === number);
  }
}

function titleOf(groups, number) {
  const { alike, name } = groups[number];
  if (name !== null) return `The model says ${name}`;
  if (alike) return `Group ${number + 1}`;
  return groups.length > 1 ? "In no group" : "No model has grouped these yet";
}

function headingOf(flip) {
  const [item, title, count, button] = ["li", "h2", "span", "button"].map((name) => document.createElement(name));
  item.className = "group";
  button.type = "button";
  button.addEventListener("pointerdown", (event) => event.preventDefault()); // keys stay where they were
  button.addEventListener("click", flip);
  item.append(title, count, button);
  return { item, title, count, button };
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
