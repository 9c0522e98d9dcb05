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

// Figures: the value nearest to the pointer or the finger, the arm that it belongs to, and switches for arms.
var armNames = JSON.parse((document.getElementById("arm-names") || { textContent: "[]" }).textContent);
var tip = document.createElement("div");
tip.className = "tip";
tip.setAttribute("role", "status");
tip.hidden = true;
document.body.appendChild(tip);
var reach = 28; // CSS pixels from the pointer within which a value is shown
function light(root, arm) {
  root.querySelectorAll(".lit").forEach(function (part) { part.classList.remove("lit"); });
  root.toggleAttribute("data-dim", arm >= 0);
  if (arm >= 0) root.querySelectorAll('[data-arm="' + arm + '"]').forEach(function (part) { part.classList.add("lit"); });
}
function rowOf(arm) {
  var head = document.getElementById("arm-" + (arm + 1));
  return head && head.parentElement;
}
document.querySelectorAll(".panel > script").forEach(function (script) {
  var panel = script.parentElement, figure = panel.closest("figure"), svg = panel.querySelector("svg");
  var data = JSON.parse(script.textContent), lastRow = null, current = -1;
  var spot = document.createElementNS(svg.namespaceURI, "circle");
  spot.setAttribute("class", "spot");
  spot.setAttribute("r", 5);
  function isShown(mark) { return !figure.querySelector('[data-arm="' + mark[3] + '"].off'); }
  function scale() { return svg.getBoundingClientRect().width / svg.viewBox.baseVal.width; }
  function show(number) {
    var mark = data.marks[number], box = svg.getBoundingClientRect();
    current = number;
    spot.setAttribute("cx", mark[0]);
    spot.setAttribute("cy", mark[1]);
    svg.appendChild(spot);
    tip.replaceChildren(document.createElement("b"), mark[4]);
    tip.firstChild.textContent = data.labels[mark[2]];
    tip.hidden = false;
    var x = box.left + mark[0] * scale(), y = box.top + mark[1] * scale();
    var left = Math.min(Math.max(8, x - tip.offsetWidth / 2), document.documentElement.clientWidth - tip.offsetWidth - 8);
    var above = y - tip.offsetHeight - 12;
    tip.style.left = left + scrollX + "px";
    tip.style.top = (above > 4 ? above : y + 14) + scrollY + "px";
    light(figure, mark[3]);
    mind(rowOf(mark[3]));
  }
  function mind(row) {
    if (lastRow) lastRow.classList.remove("lit");
    lastRow = row;
    if (row) row.classList.add("lit");
  }
  function hide() {
    if (current < 0) return; // the tip may be another panel's
    spot.remove();
    tip.hidden = true;
    current = -1;
    light(figure, -1);
    mind(null);
  }
  function point(event) {
    var box = svg.getBoundingClientRect(), best = -1, nearest = reach * reach, s = scale();
    data.marks.forEach(function (mark, number) {
      var dx = box.left + mark[0] * s - event.clientX, dy = box.top + mark[1] * s - event.clientY;
      if (dx * dx + dy * dy < nearest && isShown(mark)) { nearest = dx * dx + dy * dy; best = number; }
    });
    if (best < 0) hide(); else if (best !== current) show(best);
  }
  svg.classList.add("live");
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", function (event) { if (event.pointerType === "mouse") hide(); });
  document.addEventListener("pointerdown", function (event) { if (!svg.contains(event.target)) hide(); });
  panel.tabIndex = 0;
  panel.addEventListener("blur", hide);
  panel.addEventListener("keydown", function (event) {
    var step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    var count = data.marks.length, next = current < 0 && step < 0 ? count : current;
    for (var tried = 0; tried < count; tried++) {
      next = (next + step + count) % count;
      if (isShown(data.marks[next])) return show(next);
    }
  });
});
document.querySelectorAll("figure[data-switchable]").forEach(function (figure) {
  var arms = new Set();
  figure.querySelectorAll("[data-arm]").forEach(function (part) { arms.add(Number(part.dataset.arm)); });
  arms = Array.from(arms).sort(function (a, b) { return a - b; }).filter(function (arm) { return arm < armNames.length; });
  if (arms.length < 2) return;
  var bar = document.createElement("div"), buttons = [];
  bar.className = "switches";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Arms shown");
  function set(button, isOn) {
    button.setAttribute("aria-pressed", isOn);
    figure.querySelectorAll('[data-arm="' + button.dataset.switch + '"]').forEach(function (part) { part.classList.toggle("off", !isOn); });
  }
  function add(text, act) {
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", function () { act(button); });
    bar.appendChild(button);
    return button;
  }
  arms.forEach(function (arm) {
    var button = add(armNames[arm], function (pressed) { set(pressed, pressed.getAttribute("aria-pressed") === "false"); });
    button.dataset.switch = arm;
    button.title = armNames[arm];
    button.setAttribute("aria-pressed", "true");
    button.isQuiet = !!figure.querySelector('[data-arm="' + arm + '"][data-quiet]');
    button.style.setProperty("--arm", button.isQuiet ? "var(--muted)" : arm ? "var(--arm-" + ((arm - 1) % 6 + 1) + ")" : "var(--ink)");
    button.addEventListener("pointerenter", function () { light(figure, arm); });
    button.addEventListener("pointerleave", function () { light(figure, -1); });
    buttons.push(button);
  });
  var sets = { all: function () { return true; }, none: function () { return false; } };
  if (buttons.some(function (button) { return button.isQuiet; })) {
    sets["in color"] = function (button) { return !button.isQuiet; };
    bar.classList.add("many");
  }
  if (arms.length > 3) Object.keys(sets).forEach(function (which) {
    var button = add(which, function () { buttons.forEach(function (button) { set(button, sets[which](button)); }); });
    button.className = "all";
    if (bar.classList.contains("many")) bar.insertBefore(button, buttons[0]);
  });
  figure.insertBefore(bar, figure.querySelector(".panels"));
});
document.querySelectorAll("tr > [id^=arm-]").forEach(function (head) {
  var arm = Number(head.id.slice(4)) - 1, figure = document.getElementById("figure-seeds");
  if (!figure) return;
  head.parentElement.addEventListener("pointerenter", function () { light(figure, arm); });
  head.parentElement.addEventListener("pointerleave", function () { light(figure, -1); });
});
var entries = Array.from(document.querySelectorAll(".contents a")).map(function (link) {
  return { item: link.parentElement, target: document.getElementById(link.hash.slice(1)) };
}).filter(function (entry) { return entry.target; });
function findPlace() {
  var here = entries.filter(function (entry) { return entry.target.getBoundingClientRect().top < innerHeight / 3; }).pop();
  entries.forEach(function (entry) { entry.item.classList.toggle("here", entry === here); });
}
if (entries.length) {
  addEventListener("scroll", findPlace, { passive: true });
  findPlace();
}
