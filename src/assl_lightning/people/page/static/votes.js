// The votes on an image about which people differ, and the decision; never a prediction of a model.

const $ = (id) => document.getElementById(id);

const nameOf = (answer) => answer.annotator || "no name";

// Show a button for each different answer with the people who gave it, the most frequent answer first. It decides so.
export function showVotes(sample, words, decide) {
  const said = new Map();
  for (const vote of sample.votes) {
    const what = words(vote);
    said.set(what, [...(said.get(what) ?? []), vote]);
  }
  const lines = [...said.values()].sort((one, other) => other.length - one.length);
  $("votes").replaceChildren(...lines.map((votes) => lineOf(votes, words, decide)));
}

// Show the decision and who made it, or what holds without one.
export function showDecision(sample, given, policy, words) {
  const held = sample.holds === null ? "not settled yet" : `${policy}: ${sample.holds} holds`;
  $("decided").textContent = given === undefined ? held : `${words(given)} by ${nameOf(given)}`;
  $("decided").dataset.settled = given === undefined ? "no" : "yes";
}

function lineOf(votes, words, decide) {
  const [line, button] = ["li", "button"].map((name) => document.createElement(name));
  button.type = "button";
  button.title = "this holds";
  for (const [kind, text] of [["b", words(votes[0])], ["span", votes.map(nameOf).join(", ")]]) {
    const part = document.createElement(kind);
    part.textContent = text;
    button.append(part, " ");
  }
  button.addEventListener("pointerdown", (event) => event.preventDefault()); // keys stay where they were
  button.addEventListener("click", () => decide(votes[0].kind, votes[0].label));
  line.append(button);
  return line;
}
