// Dark or light: the choice that was made here, else the system's. `public/page/scheme.js` sets it before the first paint.
import { useEffect, useState } from "react";

export type Scheme = "system" | "light" | "dark";
const NAME = "sextant.scheme";
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function chosen(): Scheme {
  try {
    const found = localStorage.getItem(NAME);
    return found === "light" || found === "dark" ? found : "system";
  } catch {
    return "system";
  }
}

export function shownScheme(scheme: Scheme = chosen()): "light" | "dark" {
  return scheme === "system" ? (dark.matches ? "dark" : "light") : scheme;
}

function apply(scheme: Scheme): void {
  document.documentElement.setAttribute("data-mantine-color-scheme", shownScheme(scheme));
}

export function useScheme(): [Scheme, (scheme: Scheme) => void] {
  const [scheme, setScheme] = useState<Scheme>(chosen);
  useEffect(() => {
    apply(scheme);
    const follow = () => apply(scheme);
    dark.addEventListener("change", follow);
    return () => dark.removeEventListener("change", follow);
  }, [scheme]);
  return [
    scheme,
    (next) => {
      try {
        if (next === "system") localStorage.removeItem(NAME);
        else localStorage.setItem(NAME, next);
      } catch {
        // it holds for this page only
      }
      setScheme(next);
    },
  ];
}
