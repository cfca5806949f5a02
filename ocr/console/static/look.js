// The page Look: predictions of one run, or of two beside one another.
"use strict";

const view = byId("view");
const SLIDERS = ["thresh", "box_thresh", "unclip_ratio"];
const TILES = 24;
const FIGURES_MS = 100; // a slider rests so long before figures are asked for
const REST_MS = 1000; // and so long before those of more than the sample are
const ZOOM = 1.5;
const SVG = "http://www.w3.org/2000/svg";
const OUTLINES = [["found", "detections", (d) => d.kind === "found"], ["missed", "texts", (t) => !["found", "ignored"].includes(t.kind)],
  ["false", "detections", (d) => !["found", "ignored"].includes(d.kind)], ["ignored", "texts", (t) => t.kind === "ignored"]];

if (view) {
  const runs = [{ id: view.dataset.run, name: view.dataset.name, checkpoint: view.dataset.checkpoint, rows: [] }];
  if (view.dataset.with) runs.push({ id: view.dataset.with, name: view.dataset.other, checkpoint: "", rows: [] });
  const sliders = {}; // of the first run; the other one keeps its own
  let wanted = 0; // images that the networks are to see
  let page = 0;
  let moves = 0; // of the sliders
  let open = null; // { index, name, box: [x, y, width, height] } of the viewer

  const address = (run, what, more = {}) => {
    const moved = run === runs[0] ? sliders : {};
    const query = new URLSearchParams({ split: view.dataset.split, root: view.dataset.root, checkpoint: run.checkpoint, ...moved, ...more });
    return `/look/${run.id}/${what}?${query}`;
  };
  const get = async (run, what, more, options = {}) => {
    const answer = await ask(address(run, what, more), { headers: { Accept: "application/json" }, ...options }, true);
    if (!answer) return null;
    const text = await answer.text();
    let content = { error: text };
    try {
      content = JSON.parse(text);
    } catch { /* the words of the guard */ }
    byId("look-problem").textContent = answer.ok ? "" : content.error;
    return answer.ok ? content : null;
  };
  // A function that runs once more after it has ended where it was asked for meanwhile.
  const latest = (work) => {
    let busy = false;
    let again = false;
    return async () => {
      again = busy;
      if (busy) return;
      busy = true;
      try {
        do {
          again = false;
          await work();
        } while (again);
      } finally {
        busy = false;
      }
    };
  };
  const element = (name, attributes, ...children) => {
    const made = name === "svg" || ["image", "polygon", "title", "g"].includes(name) ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  const drawing = (run, drawn, picture, named) => {
    const [width, height] = drawn.size;
    const box = { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "xMidYMid meet", class: "picture" };
    const svg = element("svg", named ? { ...box, role: "img", "aria-label": named, tabindex: "0" } : { ...box, "aria-hidden": "true" });
    svg.append(element("image", { href: address(run, `${picture}/${drawn.index}`, { of: run.described.generation }), width, height }));
    const layer = element("g", { class: "layer" });
    svg.append(layer, outlines(drawn, Boolean(named)));
    return svg;
  };
  const outlines = (drawn, titled) => {
    const group = element("g", { class: "outlines" });
    for (const [kind, list, chosen] of OUTLINES) {
      for (const item of drawn[list].filter(chosen)) {
        const polygon = element("polygon", { points: item.points.join(" "), class: `outline ${kind}` });
        if (titled) polygon.dataset.said = said(kind, item);
        group.append(polygon);
      }
    }
    if (titled) {
      for (const item of drawn.texts.filter((text) => text.kind === "found")) {
        const polygon = element("polygon", { points: item.points.join(" "), class: "outline text" });
        polygon.dataset.said = said("found", item);
        group.append(polygon);
      }
    }
    return group;
  };
  const said = (kind, item) => {
    const text = item.text === undefined ? `score ${item.score}` : `“${item.text}” ${item.height} px`;
    return kind === item.kind ? `${kind}: ${text}` : `${kind}, ${item.kind}: ${text}`;
  };

  // Gallery
  const partners = () => new Map((runs[1] ? runs[1].rows : []).map((row) => [row.name, row]));
  const chosenRows = () => {
    const [way, kind] = byId("fault").value.split(":");
    const low = Number(byId("low").value || 0);
    const high = Number(byId("high").value || Infinity);
    const certain = Number(byId("certain").value || 0);
    const others = partners();
    const sized = byId("low").value || byId("high").value;
    const rows = runs[0].rows.filter((row) => {
      const missed = row.missed.filter(([k, px]) => (way !== "missed" || k === kind) && px >= low && px <= high);
      const wrong = row.false.filter(([k, score]) => (way !== "false" || k === kind) && score >= certain);
      return (!(way === "missed" || sized) || missed.length) && (!(way === "false" || byId("certain").value) || wrong.length);
    });
    const apart = (row) => (others.has(row.name) ? Math.abs(row.hmean - others.get(row.name).hmean) : -1);
    const orders = {
      differ: (a, b) => apart(b) - apart(a),
      recall: (a, b) => a.recall - b.recall || b.missed.length - a.missed.length,
      false: (a, b) => b.false.length - a.false.length,
      name: () => 0,
    };
    return rows.sort((a, b) => orders[byId("sort").value](a, b) || a.name.localeCompare(b.name));
  };
  const gallery = latest(async () => {
    const rows = chosenRows();
    const pages = Math.max(1, Math.ceil(rows.length / TILES));
    page = Math.min(page, pages - 1);
    const shown = rows.slice(page * TILES, (page + 1) * TILES);
    const drawn = shown.length ? await get(runs[0], "polygons", { of: shown.map((row) => row.index).join(",") }) : [];
    if (!drawn) return;
    const others = partners();
    const byIndex = new Map(drawn.map((one) => [one.index, one]));
    const focused = document.activeElement?.dataset?.index;
    byId("gallery").replaceChildren(...shown.filter((row) => byIndex.has(row.index)).map((row) => {
      const short = row.name.split("/").pop();
      const other = others.get(row.name);
      const beside = other ? `, beside it ${other.recall.toFixed(2)}` : "";
      const words = element("span", {}, element("strong", {}, short), ` recall ${row.recall.toFixed(2)}${beside}: ${row.missed.length} missed, ${row.false.length} false`);
      const button = element("button", { type: "button", "data-index": row.index }, drawing(runs[0], byIndex.get(row.index), "thumb"), words);
      button.addEventListener("click", () => show(row.index));
      return element("li", {}, button);
    }));
    if (focused) byId("gallery").querySelector(`[data-index="${focused}"]`)?.focus({ preventScroll: true });
    byId("gallery-state").textContent = rows.length ? `${rows.length} picture(s), page ${page + 1} of ${pages}` : "no picture has that";
    byId("gallery-newer").hidden = page === 0;
    byId("gallery-older").hidden = page + 1 >= pages;
  });

  // Figures
  const figures = latest(async () => {
    const changes = moves;
    for (const more of [{}, { whole: 1 }]) { // the sample at once, then all that was seen
      if (more.whole && !runs.some((run) => run.described.seen > run.figures.images)) break;
      if (more.whole) await new Promise((done) => setTimeout(done, REST_MS));
      if (changes !== moves) return; // the thresholds have changed meanwhile
      for (const run of runs) {
        const found = await get(run, "figures", more);
        if (!found) return;
        if (found.generation !== run.described.generation || !found.images) {
          watch(); // the process was started again, or the file was written again: its images have to be seen again
          return;
        }
        run.figures = found;
        run.rows = found.rows;
      }
      byId("look-figures").replaceChildren(...runs.map(figureOf));
      await gallery();
    }
  });
  const figureOf = (run) => {
    const f = run.figures;
    const of = f.images < run.described.images ? `${f.images} of ${run.described.images} images, always the same` : `all ${f.images} images`;
    const name = runs.length > 1 ? `${run.name}: ` : "";
    return element("span", { class: "figure" }, name, element("strong", { "data-figure": "hmean" }, `hmean ${f.hmean.toFixed(4)}`),
      ` precision ${f.precision.toFixed(4)}, recall ${f.recall.toFixed(4)} at IoU 0.5 on ${of} of ${view.dataset.split} (${f.seconds.toFixed(2)} s)`);
  };
  const redraw = latest(async () => {
    if (open) await drawOpen();
  });
  let timer = 0;
  for (const name of SLIDERS) {
    byId(`slider-${name}`).addEventListener("input", (event) => {
      sliders[name] = Number(event.target.value);
      moves += 1;
      byId(`value-${name}`).textContent = sliders[name];
      byId("look-protocols").hidden = true;
      redraw();
      clearTimeout(timer);
      timer = setTimeout(figures, FIGURES_MS);
    });
  }
  const stored = () => {
    for (const [name, value] of Object.entries(runs[0].described.stored)) {
      const slider = byId(`slider-${name}`);
      if (name === "unclip_ratio" && runs[0].described.unclip === "exact") slider.max = 0.95;
      slider.disabled = false;
      slider.value = value;
      sliders[name] = value;
      byId(`value-${name}`).textContent = Math.round(value * 1000) / 1000;
    }
    byId("look-protocols").hidden = true;
  };
  byId("look-stored").addEventListener("click", () => {
    stored();
    redraw();
    figures();
  });

  // The networks see the images, some at a time
  let watching = false;
  const watch = async () => {
    if (watching) return;
    watching = true;
    try {
      await seeImages();
    } finally {
      watching = false;
    }
  };
  const seeImages = async () => {
    let asked = performance.now();
    for (;;) {
      for (const run of runs) {
        const described = await get(run, "progress", { images: wanted });
        if (!described) return;
        const first = !run.described;
        run.described = described;
        if (first && run === runs[0]) stored();
        if (first) for (const name of ["look-stored", "look-all", "look-keep"]) byId(name).disabled = false;
      }
      wanted = Math.max(wanted, runs[0].described.sample);
      const goal = runs.map((run) => Math.min(wanted, run.described.images)).reduce((a, b) => a + b);
      const done = runs.map((run) => Math.min(wanted, run.described.done)).reduce((a, b) => a + b);
      byId("look-progress").max = goal;
      byId("look-progress").value = done;
      byId("look-note").textContent = [...new Set(runs.map((run) => run.described.note).filter(Boolean))].join("; ");
      const unread = runs[0].described.done - runs[0].described.seen;
      const left = runs[0].described.left_out;
      byId("look-state").textContent = `${done} of ${goal} images seen${unread ? `, ${unread} of them cannot be read` : ""}${left ? `; the split has ${left} more than a page can hold` : ""}`;
      if (done >= goal) break;
      if (performance.now() - asked > 3000) {
        await figures();
        asked = performance.now();
      }
    }
    await figures();
  };
  byId("look-all").addEventListener("click", async () => {
    byId("look-all").disabled = true;
    wanted = runs[0].described.images;
    byId("look-said").textContent = "The network sees all images; the page can be used meanwhile.";
    await watch();
    while (watching) await new Promise((done) => setTimeout(done, REST_MS));
    let changes = null;
    while (runs[0].described.done === runs[0].described.images) {
      const more = changes === moves ? {} : { restart: 1 };
      changes = moves;
      const answer = await get(runs[0], "protocols", more, { method: "POST" });
      if (!answer) break;
      if (changes !== moves) continue; // the thresholds have changed meanwhile
      byId("look-said").textContent = `${answer.done} of ${answer.images} images compared`;
      if (!answer.scores) continue;
      byId("look-said").textContent = "";
      const rows = ["", "deteval_", "cleval_"].map((prefix) => element("tr", {}, element("th", { scope: "row" }, prefix.slice(0, -1) || "IoU 0.5"),
        ...["precision", "recall", "hmean"].map((name) => element("td", {}, (answer.scores[prefix + name] ?? NaN).toFixed(4)))));
      byId("look-protocols").querySelector("tbody").replaceChildren(...rows);
      byId("look-protocols").hidden = false;
      break;
    }
    byId("look-all").disabled = false;
  });
  byId("look-keep").addEventListener("click", async () => {
    const answer = await get(runs[0], "keep", {}, { method: "POST" });
    if (answer) byId("look-said").textContent = `Written: ${answer.file}. Its figures count as chosen on ${view.dataset.split}.`;
  });

  // Viewer
  const show = async (index) => {
    open = { index, box: null };
    byId("viewer").hidden = false;
    await drawOpen();
    const bar = document.querySelector(".look-bar");
    byId("viewer").style.scrollMarginTop = getComputedStyle(bar).position === "sticky" ? `${bar.offsetHeight}px` : "0";
    byId("viewer").scrollIntoView({ block: "start" });
    byId("panes").querySelector("svg")?.focus({ preventScroll: true });
  };
  const drawOpen = async () => {
    const { index } = open;
    const row = runs[0].rows.find((one) => one.index === index);
    const panes = [];
    for (const run of runs) {
      const own = run === runs[0] ? row : partners().get(row.name);
      const [drawn] = own ? (await get(run, "polygons", { of: own.index })) || [] : [];
      if (drawn) panes.push([run, drawn]);
    }
    if (!panes.length || !open || open.index !== index) return;
    const [, drawn] = panes[0];
    open.box ??= [0, 0, ...drawn.size];
    open.size = drawn.size;
    byId("viewer-name").textContent = drawn.name.split("/").pop();
    const there = [...byId("panes").querySelectorAll("svg")];
    if (there.length === panes.length && byId("panes").dataset.index === String(index)) {
      panes.forEach(([, one], k) => there[k].querySelector(".outlines").replaceWith(outlines(one, true)));
    } else {
      byId("panes").replaceChildren(...panes.map(([run, one]) => element("figure", {}, drawing(run, one, "photo", `picture with the polygons of ${run.name}`),
        ...(runs.length > 1 ? [element("figcaption", {}, run.name)] : []))));
      byId("panes").dataset.index = index;
      panes.forEach(([run, one], k) => { byId("panes").querySelectorAll("svg")[k].dataset.map = address(run, `map/${one.index}`, { of: run.described.generation }); });
      moved();
    }
    layers();
    const faults = [...drawn.texts.filter((t) => !["found", "ignored"].includes(t.kind)).map((t) => ["missed", t]),
      ...drawn.detections.filter((d) => !["found", "ignored"].includes(d.kind)).map((d) => ["false", d])];
    byId("viewer-faults").replaceChildren(...faults.map(([kind, item]) => {
      const button = element("button", { type: "button", class: `key ${kind}` }, said(kind, item));
      button.addEventListener("click", () => zoomTo(item.points));
      return element("li", {}, button);
    }));
    if (!faults.length) byId("viewer-faults").append(element("li", {}, "none"));
  };
  const layers = () => {
    for (const svg of byId("panes").querySelectorAll("svg")) {
      const [width, height] = open.size;
      const shown = byId("viewer-map").checked;
      svg.querySelector(".layer").replaceChildren(...(shown ? [element("image", { href: svg.dataset.map, width, height, preserveAspectRatio: "none" })] : []));
    }
  };
  const moved = () => byId("panes").querySelectorAll("svg").forEach((svg) => svg.setAttribute("viewBox", open.box.join(" ")));
  const move = (x, y) => {
    open.box[0] += x * open.box[2];
    open.box[1] += y * open.box[3];
    moved();
  };
  const zoom = (factor) => {
    const [x, y, width, height] = open.box;
    open.box = [x + (width - width / factor) / 2, y + (height - height / factor) / 2, width / factor, height / factor];
    moved();
  };
  const zoomTo = (points) => {
    const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
    const side = Math.max(3 * (Math.max(...xs) - Math.min(...xs)), 3 * (Math.max(...ys) - Math.min(...ys)), Math.max(...open.size) / 5);
    open.box = [(Math.max(...xs) + Math.min(...xs) - side) / 2, (Math.max(...ys) + Math.min(...ys) - side) / 2, side, side];
    moved();
  };
  const whole = () => {
    open.box = [0, 0, ...open.size];
    moved();
  };
  const step = (by) => {
    const rows = chosenRows();
    const next = rows[rows.findIndex((row) => row.index === open.index) + by];
    if (next) show(next.index);
  };
  byId("zoom-in").addEventListener("click", () => zoom(ZOOM));
  byId("zoom-out").addEventListener("click", () => zoom(1 / ZOOM));
  byId("zoom-page").addEventListener("click", whole);
  byId("viewer-previous").addEventListener("click", () => step(-1));
  byId("viewer-next").addEventListener("click", () => step(1));
  byId("viewer-map").addEventListener("change", layers);
  byId("viewer-close").addEventListener("click", () => {
    byId("viewer").hidden = true;
    byId("gallery").querySelector(`[data-index="${open.index}"]`)?.focus();
    open = null;
  });
  const KEYS = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
  byId("panes").addEventListener("keydown", (event) => {
    if (KEYS[event.key]) move(...KEYS[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(ZOOM);
    else if (event.key === "-") zoom(1 / ZOOM);
    else if (event.key === "0") whole();
    else return;
    event.preventDefault();
  });
  byId("panes").addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.target.closest("svg")?.matches(":focus")) return; // the page scrolls until the picture is chosen
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2);
  }, { passive: false });
  byId("panes").addEventListener("pointermove", (event) => {
    const svg = event.target.closest("svg");
    if (!svg) return;
    if (event.buttons === 1) {
      const scale = Math.max(open.box[2] / svg.clientWidth, open.box[3] / svg.clientHeight);
      open.box[0] -= event.movementX * scale;
      open.box[1] -= event.movementY * scale;
      moved();
    } else if (event.target.dataset.said) {
      byId("viewer-hover").textContent = event.target.dataset.said;
    }
  });

  for (const name of ["sort", "fault", "low", "high", "certain"]) {
    byId(name).addEventListener("input", () => {
      page = 0;
      gallery();
    });
  }
  for (const [name, by] of [["gallery-newer", -1], ["gallery-older", 1]]) {
    byId(name).addEventListener("click", () => {
      page += by;
      gallery();
    });
  }
  watch();
}
