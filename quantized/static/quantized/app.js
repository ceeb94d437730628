// What makes the pages quicker to use. Everything can be read without it.
"use strict";

// --- Copy ---

function showCopyButtons(root) {
  for (const button of root.querySelectorAll("[data-copy]")) {
    button.hidden = false;
  }
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const text = source.value ?? source.textContent;
  try {
    await navigator.clipboard.writeText(text);
    say(button, "Copied");
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    say(button, "Press Ctrl C");
  }
}

function say(button, words) {
  const label = button.querySelector("[data-copy-label]");
  if (!label) {
    const before = button.getAttribute("aria-label");
    button.setAttribute("aria-label", words);
    button.title = words;
    setTimeout(() => button.setAttribute("aria-label", before), 1500);
    return;
  }
  const before = label.dataset.before ?? label.textContent;
  label.dataset.before = before;
  label.textContent = words;
  setTimeout(() => (label.textContent = before), 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) {
    copy(button);
  }
  for (const menu of document.querySelectorAll("[data-menu][open]")) {
    if (!menu.contains(event.target)) {
      menu.open = false;
    }
  }
});

// --- Keys: "/" goes to the search, Escape closes a menu ---

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const search = document.querySelector("[data-search]");
    if (search) {
      event.preventDefault();
      search.focus();
      search.select();
    }
  }
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("[data-menu][open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
});

// --- Forms: sent once; the first wrong field has the focus ---

document.addEventListener("submit", (event) => {
  if (event.target.matches("[data-once]")) {
    for (const button of event.target.querySelectorAll("button")) {
      setTimeout(() => (button.disabled = true));
    }
  }
});
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("[data-once] button")) {
    button.disabled = false;
  }
});
document.querySelector('[aria-invalid="true"]')?.focus();

// --- The chart tells the day under the pointer ---

document.addEventListener("pointerover", (event) => {
  const day = event.target.closest(".chart-hit");
  for (const readout of document.querySelectorAll("[data-chart-readout]")) {
    const isHere = day && readout.closest(".chart").contains(day);
    readout.textContent = isHere ? day.dataset.tip : readout.dataset.rest;
  }
});

// --- What htmx could not get: what happened, the request's id, and once more ---

function toast(words, requestId, retry) {
  const made = document.getElementById("toast-template").content.cloneNode(true).firstElementChild;
  made.querySelector("[data-toast-text]").textContent = words;
  made.querySelector("[data-toast-request]").textContent = requestId ? `Request ${requestId}` : "";
  const button = made.querySelector("[data-toast-retry]");
  button.hidden = !retry;
  button.addEventListener("click", () => {
    made.remove();
    retry();
  });
  document.getElementById("toasts").replaceChildren(made);
}

document.addEventListener("htmx:responseError", (event) => {
  const { xhr } = event.detail;
  const words = xhr.status >= 500 ? "Something failed on our side." : "This could not be shown.";
  toast(`${words} (${xhr.status})`, xhr.getResponseHeader("x-request-id"), () => location.reload());
});
document.addEventListener("htmx:sendError", () => {
  toast("The server cannot be reached.", "", () => location.reload());
});
document.addEventListener("htmx:afterSettle", () => showCopyButtons(document));

// The download is of what the table shows.
document.addEventListener("htmx:pushedIntoHistory", () => {
  const link = document.querySelector("[data-csv]");
  if (link) {
    const query = new URLSearchParams(location.search);
    query.delete("after");
    query.delete("q");
    link.search = query.toString();
  }
});

showCopyButtons(document);
for (const shown of document.querySelectorAll(".toast")) {
  setTimeout(() => shown.remove(), 6000);
}
