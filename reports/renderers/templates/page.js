document.querySelectorAll("table[data-sortable]").forEach(function (table) {
  var body = table.tBodies[0];
  if (body.rows.length < 2) return;
  var original = Array.from(body.rows);
  Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
    var button = document.createElement("button");
    button.type = "button";
    while (head.firstChild) button.appendChild(head.firstChild);
    head.appendChild(button);
    button.addEventListener("click", function () {
      var next = { "": "ascending", ascending: "descending", descending: "" }[head.getAttribute("aria-sort") || ""];
      Array.from(table.tHead.rows[0].cells).forEach(function (cell) { cell.removeAttribute("aria-sort"); });
      if (next) head.setAttribute("aria-sort", next);
      var rows = original.slice();
      if (next) rows.sort(function (first, second) {
        return compare(first.cells[column], second.cells[column], next === "ascending" ? 1 : -1);
      });
      rows.forEach(function (row) { body.appendChild(row); });
    });
  });
});
window.addEventListener("beforeprint", function () {
  document.querySelectorAll("details").forEach(function (details) { details.open = true; });
});
function compare(first, second, direction) {
  var a = first.dataset.sort, b = second.dataset.sort;
  if (a !== undefined && b !== undefined) return direction * (Number(a) - Number(b));
  if (a !== undefined || b !== undefined) return a === undefined ? 1 : -1;
  return direction * first.textContent.localeCompare(second.textContent, undefined, { numeric: true });
}
