"use strict";
// Every step, picture and layer is in the page already: this script only shows one of each, and sorts the table.
const slider = document.getElementById("step");
const play = document.getElementById("play");

function show(attribute, value) {
  for (const part of document.querySelectorAll(`[${attribute}]`)) {
    part.toggleAttribute("hidden", part.getAttribute(attribute) !== value);
  }
}

function showStep() {
  show("data-at", slider.value);
  for (const cell of document.querySelectorAll("[data-column]")) {
    cell.classList.toggle("now", cell.dataset.column === slider.value);
  }
  slider.setAttribute("aria-valuetext", document.querySelector("#steps [data-at]:not([hidden])").textContent.trim());
}

slider.addEventListener("input", showStep);
for (const choice of document.querySelectorAll("select[data-shows]")) {
  choice.addEventListener("change", () => show(choice.dataset.shows, choice.value));
  show(choice.dataset.shows, choice.value); // browsers keep a choice when a page is loaded again
}
showStep();

let timer = null;
function stop() {
  clearInterval(timer);
  timer = null;
  play.textContent = "Play";
}
function forward() {
  slider.value = Number(slider.value) + 1;
  showStep();
  if (slider.value === slider.max) stop();
}
play.addEventListener("click", () => {
  if (timer !== null) return stop();
  if (slider.value === slider.max) slider.value = 0;
  showStep();
  play.textContent = "Stop";
  timer = setInterval(forward, 900);
});
slider.addEventListener("pointerdown", stop);
slider.addEventListener("keydown", stop);

function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === ""); // missing values last, in either direction
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
}

for (const button of document.querySelectorAll("#layers th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const table = head.closest("table");
    const column = [...head.parentElement.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.children[column].dataset.value;
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const order = compare(value(a), value(b));
      return down && value(a) !== "" && value(b) !== "" ? -order : order;
    });
    table.tBodies[0].append(...rows);
  });
}
