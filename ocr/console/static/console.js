// Live parts of the pages. Without it, all but the check while typing and the pasted command works.
"use strict";

const POLL_MS = 2000;
const TYPING_MS = 400;
const byId = (id) => document.getElementById(id);

async function ask(address, options, evenRefused = false) {
  try {
    const answer = await fetch(address, options);
    byId("offline").hidden = true;
    return answer.ok || evenRefused ? answer : null;
  } catch {
    byId("offline").hidden = false;
    return null;
  }
}

async function load(element, address) {
  const answer = await ask(address);
  if (!answer) return;
  const text = await answer.text();
  if (text === element.dataset.shown) return;
  element.dataset.shown = text;
  const focused = element.contains(document.activeElement);
  const log = element.querySelector(".log");
  const place = log && log.scrollTop + log.clientHeight < log.scrollHeight - 5 ? log.scrollTop : null;
  element.innerHTML = text; // the server has escaped what is in it
  const now = element.querySelector(".log");
  if (now) now.scrollTop = place === null ? now.scrollHeight : place;
  if (now && focused) now.focus({ preventScroll: true });
}

for (const element of document.querySelectorAll("[data-load]")) {
  load(element, element.dataset.load).then(() => {
    if (!("shown" in element.dataset)) element.textContent = "It could not be read; the console's terminal says why.";
  });
}
for (const element of document.querySelectorAll("[data-poll]")) {
  const timer = setInterval(async () => {
    if (document.hidden) return;
    await load(element, element.dataset.poll);
    if (element.dataset.shown && !element.querySelector("[data-live]")) {
      clearInterval(timer);
      location.reload(); // what can be done with it is another now
    }
  }, POLL_MS);
}

const compose = byId("compose");
if (compose) {
  let timer = 0;
  let latest = 0;
  const check = async () => {
    const number = ++latest;
    byId("checked").textContent = "checking …";
    const answer = await ask("/compose/check", { method: "POST", body: new URLSearchParams(new FormData(compose)) });
    if (number !== latest) return;
    if (!answer) {
      byId("checked").textContent = "not checked";
      return;
    }
    const { command, problems, values, kinds } = await answer.json();
    byId("command").textContent = command;
    for (const [name, value] of Object.entries(values)) {
      const field = byId(`set:${name}`);
      if (field && field.tagName === "INPUT") field.placeholder = value.replace(/^'|'$/g, "");
    }
    for (const place of document.querySelectorAll("[data-kind]")) {
      if (kinds[place.dataset.kind]) place.textContent = `(${kinds[place.dataset.kind]})`;
    }
    const shown = new Set();
    for (const place of document.querySelectorAll("[data-problem]")) {
      const own = problems.filter((problem) => problem.key === place.dataset.problem);
      own.forEach((problem) => shown.add(problem));
      place.textContent = own.map((problem) => problem.text).join(" ");
    }
    byId("problems").replaceChildren(
      ...problems.filter((problem) => !shown.has(problem)).map((problem) => {
        const item = document.createElement("li");
        item.textContent = problem.text;
        return item;
      }),
    );
    byId("checked").textContent = problems.length ? `${problems.length} problem(s)` : "checked: it can be started";
  };
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(check, TYPING_MS);
  };
  compose.addEventListener("input", soon);
  check();

  byId("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId("command").textContent);
    byId("checked").textContent = "copied";
  });

  byId("paste").addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await ask("/compose/parse", { method: "POST", body: new URLSearchParams(new FormData(event.target)) });
    if (!answer) return;
    const given = await answer.json();
    byId("paste-problem").textContent = given.problem || "";
    if (given.problem) return;
    for (const field of compose.querySelectorAll("[name^='set:']")) field.value = given.set[field.name.slice(4)] || "";
    compose.elements.sweep.value = given.sweep;
    compose.elements.wandb.value = given.wandb;
    compose.elements.more.value = given.more;
    check();
  });
}

const photo = byId("photo");
if (photo) {
  const form = byId("try");
  const send = () => {
    const megabytes = Number(photo.dataset.megabytes);
    if (photo.files[0].size > megabytes * 1e6) { // the server would end the connection
      byId("try-state").textContent = `more than ${megabytes} MB`;
      return;
    }
    byId("try-state").textContent = "looking …";
    form.requestSubmit();
  };
  photo.addEventListener("change", send);
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    photo.files = event.dataTransfer.files;
    send();
  });
}
