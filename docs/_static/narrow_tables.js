/* SPDX-License-Identifier: Apache-2.0 */

/* A table that is wider than the screen shows its rows one below the other, each cell with the head of
   its column (embellama.css). */
function fitTables() {
  for (const wrapper of document.querySelectorAll(".table-wrapper")) {
    wrapper.classList.remove("stacked");
    wrapper.classList.toggle("stacked", wrapper.scrollWidth > wrapper.clientWidth + 1);
  }
}

document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".table-wrapper table")) {
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((cell, column) => (cell.dataset.head = heads[column] ?? ""));
    }
  }
  fitTables();
  window.addEventListener("resize", fitTables);
});
