// Everything is readable without this: it sorts and filters tables, enlarges figures, draws those
// that show their values under the pointer, and changes the theme.
const { default: DataTable } = await import(document.getElementById("datatables").dataset.src);

for (const table of document.querySelectorAll("table")) {
  const filter = table.tBodies[0].rows.length > 5
    ? { search: { text: "Filter", placeholder: "" } } : null;
  const made = new DataTable(table, {
    paging: false, info: false, order: [], autoWidth: false,
    layout: { topStart: filter, topEnd: null, bottomStart: null, bottomEnd: null },
  });
  // The table scrolls in its frame, the filter above stays.
  const frame = table.closest(".scroll"), search = made.table().container().querySelector(".dt-search");
  if (search) frame.before(search);
}

const dialog = document.getElementById("enlarged");
for (const button of document.querySelectorAll("button.zoom")) {
  button.addEventListener("click", () => {
    const image = button.querySelector("img"), shown = dialog.querySelector("img");
    shown.src = image.src;
    shown.alt = image.alt;
    shown.width = Math.max(1.5 * image.width, 1.5 * image.getAttribute("width"));
    dialog.showModal();
  });
}
dialog.querySelector("button").addEventListener("click", () => dialog.close());

function colours() {
  const style = getComputedStyle(document.body);
  const line = getComputedStyle(document.querySelector("h2") ?? document.body).borderTopColor;
  return { text: style.color, line };
}

function themed(plot) {
  const layout = plot.layout, card = getComputedStyle(plot).backgroundColor;
  const { text, line } = colours(), clear = "rgba(0,0,0,0)";
  const changes = {
    "font.color": text, paper_bgcolor: clear, plot_bgcolor: clear, "legend.bgcolor": clear,
    "modebar.bgcolor": clear, "modebar.color": line, "modebar.activecolor": text,
  };
  for (const axis of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
    changes[`${axis}.gridcolor`] = line;
    changes[`${axis}.zerolinecolor`] = line;
    changes[`${axis}.linecolor`] = line;
    changes[`${axis}.automargin`] = true;
  }
  for (const note in layout.annotations ?? []) changes[`annotations[${note}].bgcolor`] = card;
  return changes;
}

// Unpacked when the first figure needs it; a browser that cannot keeps the still figures.
let unpacked;
function loadPlotly() {
  unpacked ??= (async () => {
    const packed = document.getElementById("plotly").textContent;
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  })();
  return unpacked;
}

async function draw(plot) {
  const { data, layout } = JSON.parse(plot.querySelector("script").textContent);
  if (innerWidth < (layout.meta?.least_width ?? 0)) return;  // the still figure scrolls
  await loadPlotly();
  plot.hidden = false;
  plot.style.height = `${layout.height ?? 420}px`;  // a responsive plot takes its frame's height
  await Plotly.newPlot(plot, data, layout, { responsive: true, displaylogo: false });
  await Plotly.relayout(plot, themed(plot));
  plot.closest("figure").classList.add("drawn");
}

// Drawn when they come into view: a page of many would be slow to open.
const watch = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((one) => one.isIntersecting)) {
    watch.unobserve(entry.target);
    draw(entry.target.querySelector(".plot"));
  }
}, { rootMargin: "200px" });
document.querySelectorAll("figure:has(.plot)").forEach((figure) => watch.observe(figure));

const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
function retheme() {
  for (const plot of document.querySelectorAll(".drawn .plot")) {
    Plotly.relayout(plot, themed(plot));
  }
}
document.getElementById("theme").addEventListener("click", (event) => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  root.dataset.theme = dark ? "light" : "dark";
  event.target.setAttribute("aria-pressed", String(!dark));
  retheme();
});
system.addEventListener("change", retheme);
root.dataset.ready = "yes";
