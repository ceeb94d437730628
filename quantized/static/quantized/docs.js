// Swagger UI, from our own server, about our own document: it asks nobody else.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");

function showTheme() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

showTheme();
dark.addEventListener("change", showTheme);

const place = document.getElementById("docs");
window.SwaggerUIBundle({
  url: place.dataset.openapi,
  domNode: place,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
  validatorUrl: null,
});
