// The votes on an image about which people differ, and the decision; never a prediction of a model.

const $ = (id) => document.getElementById(id);

const nameOf = (answer) => answer.annotator || "no name";

// Show a line for each different answer with the people who gave it, the most frequent answer first.
export function showVotes(sample, words) {
  const said = new Map();
  for (const vote of sample.votes) {
    const what = words(vote);
    said.set(what, [...(said.get(what) ?? []), nameOf(vote)]);
  }
  const lines = [...said].sort((one, other) => other[1].length - one[1].length);
  $("votes").replaceChildren(...lines.map(([what, who]) => lineOf(what, who.join(", "))));
}

// Show the decision and who made it, or what holds without one.
export function showDecision(sample, given, policy, words) {
  const held = sample.holds === null ? "not settled yet" : `${policy}: ${sample.holds} holds`;
  $("decided").textContent = given === undefined ? held : `${words(given)} by ${nameOf(given)}`;
  $("decided").dataset.settled = given === undefined ? "no" : "yes";
}

function lineOf(what, who) {
  const line = document.createElement("li");
  for (const [kind, text] of [["b", what], ["span", who]]) {
    const part = document.createElement(kind);
    part.textContent = text;
    line.append(part);
  }
  return line;
}
