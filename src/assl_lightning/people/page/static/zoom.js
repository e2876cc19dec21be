// A closer look at the image that is shown.

const $ = (id) => document.getElementById(id);

export const isZoomed = () => $("viewport").classList.contains("zoomed");

// Natural size, at least twice what fits; `at` is the place that stays in sight, as shares of width and height.
export function setZoom(zoom, at = [0.5, 0.5]) {
  const [box, image] = [$("viewport"), $("picture").firstChild];
  if (zoom === isZoomed() || (zoom && !image?.naturalWidth)) return;
  const fits = Math.min(box.clientWidth / image.naturalWidth, box.clientHeight / image.naturalHeight);
  const scale = zoom ? Math.max(1, 2 * fits) : null;
  box.classList.toggle("zoomed", zoom);
  box.tabIndex = zoom ? 0 : -1;
  image.style.width = zoom ? `${scale * image.naturalWidth}px` : "";
  image.style.height = zoom ? `${scale * image.naturalHeight}px` : "";
  $("zoom").setAttribute("aria-pressed", String(zoom));
  if (!zoom) return;
  box.scrollLeft = at[0] * box.scrollWidth - box.clientWidth / 2;
  box.scrollTop = at[1] * box.scrollHeight - box.clientHeight / 2;
}

// A quarter of what is in sight, in the direction of an arrow key.
export function pan(key) {
  const box = $("viewport");
  const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  box.scrollBy(0.25 * x * box.clientWidth, 0.25 * y * box.clientHeight);
}

// Zoom to where the picture was clicked, or out.
export function zoomAt(event) {
  const image = $("picture").firstChild;
  if (!image) return;
  const frame = image.getBoundingClientRect();
  const share = (value, low, size) => Math.max(0, Math.min(1, (value - low) / size));
  setZoom(!isZoomed(), [share(event.clientX, frame.left, frame.width), share(event.clientY, frame.top, frame.height)]);
}
