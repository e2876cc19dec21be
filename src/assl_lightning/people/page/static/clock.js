// Seconds that somebody looked at an image, over all its visits until it is answered. Hidden pages do not count.

export class Clock {
  #now;
  #spent = new Map();
  #image = null;
  #since = null;

  constructor(now = () => performance.now()) {
    this.#now = now;
  }

  // Somebody looks at this image from now on.
  show(image) {
    const runs = this.#since !== null;
    this.pause();
    this.#image = image;
    if (runs) this.resume();
  }

  pause() {
    if (this.#since === null) return;
    const spent = this.#spent.get(this.#image) ?? 0;
    this.#spent.set(this.#image, spent + (this.#now() - this.#since) / 1000);
    this.#since = null;
  }

  resume() {
    if (this.#since === null) this.#since = this.#now();
  }

  // The image was answered: what it took, at most `longest`; the next answer to it begins at 0.
  take(image, longest) {
    const runs = this.#since !== null;
    this.pause();
    const spent = this.#spent.get(image) ?? 0;
    this.#spent.delete(image);
    if (runs) this.resume();
    return Math.min(spent, longest);
  }
}
