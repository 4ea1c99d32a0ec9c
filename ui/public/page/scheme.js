// Sets the colour scheme before anything is drawn: the choice that was made here, or the system's.
(function () {
  var chosen = null;
  try {
    chosen = localStorage.getItem("sextant.scheme");
  } catch (_) {}
  var dark = chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.setAttribute("data-mantine-color-scheme", dark ? "dark" : "light");
})();
