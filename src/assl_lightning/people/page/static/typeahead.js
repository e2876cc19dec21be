// Which classes a few typed letters mean.

const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLocaleLowerCase();

// Positions of the names that have `typed` in them, likeliest first: the name itself, names that begin with it, names
// with a word that does, the others; within these in their own order. Case and accents make no difference, but decide.
export function matches(typed, names) {
  const wanted = fold(typed.trim());
  if (wanted === "") return names.map((_, place) => place);
  const ranked = [];
  names.forEach((name, place) => {
    const rank = rankOf(fold(name), wanted);
    if (rank !== null) ranked.push([name === typed.trim() ? -1 : rank, place]);
  });
  return ranked.sort((one, other) => one[0] - other[0] || one[1] - other[1]).map(([, place]) => place);
}

function rankOf(name, wanted) {
  if (name === wanted) return 0;
  if (name.startsWith(wanted)) return 1;
  if (name.split(/[^\p{L}\p{N}]+/u).some((word) => word.startsWith(wanted))) return 2;
  return name.includes(wanted) ? 3 : null;
}
