"use strict";
// Sorting, filtering and listening; without it, the page shows everything in the order of harm.
const player = new Audio();
let playing = null;

function stop() {
  player.pause();
  if (playing) playing.textContent = "\u25b6 Listen";
  playing = null;
}

function listen(button) {
  const again = button === playing;
  stop();
  if (again) return;
  playing = button;
  button.textContent = "\u25a0 Stop";
  player.src = button.dataset.audio;
  player.play().catch(() => {
    if (playing === button) {
      playing = null;
      button.textContent = "Cannot be played";
    }
  });
}

player.addEventListener("ended", stop);
player.addEventListener("pause", () => { if (player.ended) stop(); });

function arrange(section) {
  const speaker = section.querySelector("[data-filter]");
  const order = section.querySelector("[data-sort]").value;
  const list = section.querySelector(".utterances");
  const rows = [...list.children];
  const key = (row) => Number(row.dataset[order]);
  rows.sort((a, b) => key(b) - key(a) || Number(a.dataset.place) - Number(b.dataset.place));
  let shown = 0;
  for (const row of rows) {
    row.hidden = Boolean(speaker && speaker.value && row.dataset.speaker !== speaker.value);
    shown += row.hidden ? 0 : 1;
    list.append(row);
  }
  section.querySelector("[role=status]").textContent = `${shown} shown`;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-audio]");
  if (button) listen(button);
});
for (const section of document.querySelectorAll(".heard")) {
  section.addEventListener("change", () => arrange(section));
}
