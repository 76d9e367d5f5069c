// Runs before the first paint, so that a theme chosen by hand does not flash in the other one.
"use strict";
try {
  const { theme } = JSON.parse(sessionStorage.getItem("trimtab.settings") || "{}");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps no session storage: the system's theme it is.
}
