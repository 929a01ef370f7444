"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = innerWidth < 800 ? 48 : 120;  // pictures at a time
const LABELLED = 25;  // classes that the map names, where it has no more
const HOVER = 14;  // px: as near as that the pointer is at a picture
const at = (id) => document.getElementById(id);

function bytes(text) { return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer; }
const labels = new Uint32Array(bytes(data.labels));
const count = labels.length, relevant = new Uint32Array(bytes(data.relevant));
for (const view of data.views) {
  view.nearest = new Uint16Array(bytes(view.nearest));
  view.distances = new Float32Array(bytes(view.distances));
  view.precision = new Float32Array(bytes(view.precision));
  view.places = new Float32Array(bytes(view.places));
  view.k = view.nearest.length / count;
}
const className = (place) => data.classes[labels[place]];
const ap = (view, place) => Number.isNaN(view.precision[place]) ? "–" : view.precision[place].toFixed(2);

// The sheet of all pictures: as a background of tiles, and to draw the map from.
const sheet = new Image();
const { height, width, columns } = data.atlas;
const scale = Math.max(1, 44 / Math.max(height, width));
const shownWide = Math.round(width * scale), shownHigh = Math.round(height * scale);
const style = document.documentElement.style;
style.setProperty("--wide", `${shownWide}px`);
style.setProperty("--high", `${shownHigh}px`);
const lines = Math.ceil(count / columns);
style.setProperty("--sheet", `${columns * shownWide}px ${lines * shownHigh}px`);
document.body.classList.toggle("small", scale > 1.2);

function picture(place) {
  const shown = document.createElement("span");
  shown.className = "picture";
  const x = (place % columns) * shownWide, y = Math.floor(place / columns) * shownHigh;
  shown.style.backgroundPosition = `-${x}px -${y}px`;
  return shown;
}

function tile(place, text, said, kind) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = `tile ${kind}`;
  button.dataset.place = place;
  button.title = said;
  button.setAttribute("aria-label", said);
  const below = document.createElement("span");
  below.className = "ap";
  below.textContent = text;
  button.append(picture(place), below);
  return button;
}

// What is chosen: a class, an order, a network; and the picture that asks, in the page's address.
let order = [], start = 0, asked = -1, walked = "";  // walked: by whose nearest, which keeps the focus
const view = () => data.views[at("loss").selectedIndex];

function ordered() {
  const wanted = at("class").value, chosen = view();
  const places = [...labels.keys()].filter((place) => wanted === "" || labels[place] === Number(wanted));
  if (at("order").value === "own") return places;
  const sign = at("order").value === "worst" ? 1 : -1;
  const known = places.filter((place) => !Number.isNaN(chosen.precision[place]));
  known.sort((a, b) => sign * (chosen.precision[a] - chosen.precision[b]) || a - b);
  return known.concat(places.filter((place) => Number.isNaN(chosen.precision[place])));
}

function showPictures() {
  const part = order.slice(start, start + PAGE), chosen = view();
  at("grid").replaceChildren(...part.map((place) => tile(
    place, ap(chosen, place), `${data.names[place]}, ${className(place)}, AP ${ap(chosen, place)} with ${chosen.title}`, "")));
  const end = start + part.length;
  at("count").textContent = order.length
    ? `${(start + 1).toLocaleString("en")} to ${end.toLocaleString("en")} of ${order.length.toLocaleString("en")}; below each its AP with ${chosen.title}`
    : "no picture";
  at("before").disabled = start === 0;
  at("after").disabled = end >= order.length;
  markAsked();
}

function markAsked() {
  for (const one of at("grid").children) one.setAttribute("aria-pressed", String(Number(one.dataset.place) === asked));
}

function showNearest() {
  const about = document.createElement("p");
  if (asked < 0) { about.textContent = "Choose a picture, here or on the map."; at("query").replaceChildren(about); at("views").replaceChildren(); return; }
  about.textContent = `${data.names[asked]}: ${className(asked)}`;
  at("query").replaceChildren(picture(asked), about);
  at("views").replaceChildren(...data.views.map((one) => {
    const part = document.createElement("div"), head = document.createElement("h3"), tiles = document.createElement("div");
    part.dataset.loss = one.loss;
    let right = 0;
    tiles.className = "tiles";
    tiles.setAttribute("role", "group");
    for (let rank = 0; rank < one.k; rank++) {
      const place = one.nearest[asked * one.k + rank], same = labels[place] === labels[asked];
      right += same;
      const distance = one.distances[asked * one.k + rank].toFixed(3);
      const said = `${rank + 1}: ${data.names[place]}, ${className(place)}, ${same ? "right" : "wrong"}, squared distance ${distance}`;
      tiles.append(tile(place, distance, said, same ? "right" : "wrong"));
    }
    const alike = relevant[asked];
    const most = alike < one.k ? ` of ${alike} that there are` : "";
    const name = one.title[0].toUpperCase() + one.title.slice(1);
    head.textContent = `${name}: ${right} of the ${one.k} nearest are right${most}, AP ${ap(one, asked)}`;
    tiles.setAttribute("aria-label", `The nearest with ${one.title}`);
    part.append(head, tiles);
    return part;
  }));
}

function renew() { order = ordered(); start = 0; showPictures(); drawMap(); }

function ask(place) { if (place !== asked) location.hash = `picture=${place}`; }

function fromAddress() {
  const place = Number((/^#picture=(\d+)$/.exec(location.hash) || [])[1] ?? -1);
  asked = place < count ? place : -1;
  markAsked();
  showNearest();
  if (walked) document.querySelector(`[data-loss="${CSS.escape(walked)}"] .tile`)?.focus({ preventScroll: true });
  walked = "";
  drawMap();
}

// Arrow keys go from tile to tile, also from line to line.
document.addEventListener("keydown", (event) => {
  const from = document.activeElement;
  if (!from.classList.contains("tile")) return;
  const tiles = [...from.parentElement.children], here = tiles.indexOf(from);
  const perLine = tiles.findIndex((one) => one.offsetTop > tiles[0].offsetTop);
  const line = perLine < 0 ? tiles.length : perLine;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: line, ArrowUp: -line }[event.key];
  if (step === undefined || !tiles[here + step]) return;
  event.preventDefault();
  tiles[here + step].focus();
});
document.addEventListener("click", (event) => {
  const found = event.target.closest(".tile");
  if (!found) return;
  walked = found.closest("[data-loss]")?.dataset.loss ?? "";
  ask(Number(found.dataset.place));
  if (innerWidth < 800) at("asked").scrollIntoView();
});

// The map.
const canvas = at("canvas"), pen = canvas.getContext("2d");
let zoom = 1, centre = [0.5, 0.5], extent = [1, 1], pending = false;
const unit = () => Math.min(canvas.clientWidth / extent[0], canvas.clientHeight / extent[1]) * 0.92 * zoom;
// Where pictures are on the canvas: what is asked of the page is asked once for all of them.
function framed() {
  const { places } = view(), wide = canvas.clientWidth, high = canvas.clientHeight, whole = unit();
  const [x, y] = centre;
  const spot = (place) => [wide / 2 + (places[2 * place] - x) * whole, high / 2 - (places[2 * place + 1] - y) * whole];
  return { spot, wide, high };
}
function drawMap() { if (!pending) { pending = true; requestAnimationFrame(paint); } }
function paint() {
  pending = false;
  const ratio = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const longer = Math.max(width, height);
  const side = Math.min(longer * 1.5, Math.max(9, 9 * Math.sqrt(zoom)) * (count < 2000 ? 1.8 : 1));
  const across = side * width / longer, down = side * height / longer;
  const wanted = at("class").value, frame = framed();
  pen.globalCompositeOperation = "darken";
  for (let place = 0; place < count; place++) {
    const [x, y] = frame.spot(place);
    if (x < -side || y < -side || x > frame.wide + side || y > frame.high + side) continue;
    pen.globalAlpha = wanted === "" || labels[place] === Number(wanted) ? 1 : 0.08;
    pen.drawImage(sheet, (place % columns) * width, Math.floor(place / columns) * height, width, height, x - across / 2, y - down / 2, across, down);
  }
  pen.globalCompositeOperation = "source-over";
  pen.globalAlpha = 1;
  nameClasses(frame);
  if (asked >= 0) {
    const chosen = view();
    for (let rank = 0; rank < chosen.k; rank++) {
      const place = chosen.nearest[asked * chosen.k + rank];
      ring(frame.spot(place), labels[place] === labels[asked] ? "#009e73" : "#d55e00", side / 2 + 2, 2);
    }
    ring(frame.spot(asked), "#0072b2", side / 2 + 5, 4);
  }
  if (document.activeElement === canvas) cross(frame.wide / 2, frame.high / 2);
}
function cross(x, y) {
  for (const [colour, line] of [["#fff", 5], ["#1b1f24", 2]]) {
    pen.beginPath();
    pen.moveTo(x - HOVER, y); pen.lineTo(x + HOVER, y);
    pen.moveTo(x, y - HOVER); pen.lineTo(x, y + HOVER);
    pen.strokeStyle = colour;
    pen.lineWidth = line;
    pen.stroke();
  }
}
function nameClasses(frame) {
  const shown = new Map();
  for (let place = 0; place < count; place++) {
    if (!shown.has(labels[place])) shown.set(labels[place], [[], []]);
    frame.spot(place).forEach((one, axis) => shown.get(labels[place])[axis].push(one));
  }
  if (shown.size > LABELLED) return;
  pen.font = "600 13px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.lineJoin = "round";
  const wanted = at("class").value, lows = [];
  for (const [label, axes] of shown) {
    if (wanted !== "" && label !== Number(wanted)) continue;
    let [x, y] = axes.map((one) => one.sort((a, b) => a - b)[Math.floor(one.length / 2)]);
    while (lows.some((low) => Math.abs(low[1] - y) < 17 && Math.abs(low[0] - x) < 95)) y += 6;  // no name over another
    lows.push([x, y]);
    pen.lineWidth = 4;
    pen.strokeStyle = "#fff";
    pen.strokeText(data.classes[label], x, y);
    pen.fillStyle = "#0a3d91";
    pen.fillText(data.classes[label], x, y);
  }
}
function ring([x, y], colour, radius, line) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.strokeStyle = colour;
  pen.lineWidth = line;
  pen.stroke();
}
function under(x, y) {
  const wanted = at("class").value, frame = framed();
  let best = -1, least = HOVER * HOVER;
  for (let place = 0; place < count; place++) {
    if (wanted !== "" && labels[place] !== Number(wanted)) continue;
    const [px, py] = frame.spot(place), distance = (px - x) ** 2 + (py - y) ** 2;
    if (distance < least) { least = distance; best = place; }
  }
  return best;
}
const middle = () => under(canvas.clientWidth / 2, canvas.clientHeight / 2);
function tell(place, none) { at("under").textContent = place < 0 ? none : `${data.names[place]}: ${className(place)}, AP ${ap(view(), place)}`; }
function tellMiddle() { tell(middle(), "No picture is near the middle."); }
function zoomed(times, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const before = unit();
  zoom = Math.min(60, Math.max(1, zoom * times));
  const gained = 1 / before - 1 / unit();  // what is under the pointer stays there
  centre = [centre[0] + (x - canvas.clientWidth / 2) * gained, centre[1] - (y - canvas.clientHeight / 2) * gained];
  drawMap();
}
function whole() {
  const { places } = view();
  let right = 0, top = 0;
  for (let place = 0; place < count; place++) { right = Math.max(right, places[2 * place]); top = Math.max(top, places[2 * place + 1]); }
  zoom = 1;
  extent = [right || 1, top || 1];
  centre = [right / 2, top / 2];
  at("share").textContent = `The embeddings of ${view().title} along the two directions in which they vary most: ${(100 * view().share).toFixed(0)} % of their variance. ` +
    "What is near here need not be near in all directions: rings mark the nearest of the picture that asks.";
  drawMap();
}
let held = null;
canvas.addEventListener("pointerdown", (event) => { held = { x: event.offsetX, y: event.offsetY, centre, moved: false }; canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointermove", (event) => {
  if (!held) { tell(under(event.offsetX, event.offsetY), ""); return; }
  const [x, y] = [event.offsetX - held.x, event.offsetY - held.y];
  held.moved ||= Math.hypot(x, y) > 4;
  if (held.moved) { centre = [held.centre[0] - x / unit(), held.centre[1] + y / unit()]; drawMap(); }
});
canvas.addEventListener("pointerup", (event) => {
  const found = held && !held.moved ? under(event.offsetX, event.offsetY) : -1;
  held = null;
  if (found >= 0) ask(found);
});
canvas.addEventListener("pointercancel", () => { held = null; });  // the page scrolls instead
canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoomed(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY); }, { passive: false });
canvas.addEventListener("keydown", (event) => {
  const step = 60 / unit();
  const moves = { ArrowRight: [step, 0], ArrowLeft: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
  if (moves[event.key]) centre = [centre[0] + moves[event.key][0], centre[1] + moves[event.key][1]];
  else if (event.key === "+" || event.key === "=") zoomed(1.4);
  else if (event.key === "-") zoomed(1 / 1.4);
  else if (event.key === "Enter") { const found = middle(); if (found >= 0) ask(found); }
  else return;
  event.preventDefault();
  tellMiddle();
  drawMap();
});
canvas.addEventListener("focus", () => { tellMiddle(); drawMap(); });
canvas.addEventListener("blur", drawMap);
at("nearer").addEventListener("click", () => zoomed(1.6));
at("farther").addEventListener("click", () => zoomed(1 / 1.6));
at("whole").addEventListener("click", whole);
function paged(step, other) {
  start += step;
  showPictures();
  if (document.activeElement === document.body || document.activeElement.disabled) at(other).focus();
}
at("before").addEventListener("click", () => paged(-PAGE, "after"));
at("after").addEventListener("click", () => paged(PAGE, "before"));
for (const [number, name] of data.classes.entries()) if (labels.includes(number)) at("class").append(new Option(name, number));
for (const one of data.views) at("loss").append(new Option(`${one.title} (mAP ${one.map.toFixed(3)})`, one.loss));
at("class").addEventListener("change", renew);
at("order").addEventListener("change", renew);
at("loss").addEventListener("change", () => { renew(); whole(); });
addEventListener("hashchange", fromAddress);
addEventListener("resize", drawMap);

sheet.onload = async () => {
  // One address for all tiles: the sheet's text would otherwise be in each of them.
  const blob = new Blob([bytes(data.atlas.source.split(",")[1])], { type: "image/webp" });
  const rule = document.createElement("style");
  rule.textContent = `.picture { background-image: url(${URL.createObjectURL(blob)}); }`;
  document.head.append(rule);
  renew();
  whole();
  fromAddress();
  requestAnimationFrame(() => { document.documentElement.dataset.ready = "yes"; });
};
sheet.src = data.atlas.source;
