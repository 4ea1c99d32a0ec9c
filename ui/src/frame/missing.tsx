// A part of the page that does not arrive: the server is dead, or has a newer page than this one.
import { useEffect } from "react";

const ASK_MS = 2000;
const AGAIN_MS = 60_000; // between two times that the page is loaded anew, at least
const LOADED = "sextant.reloaded";

/** Says so, and loads the page anew as soon as the server answers. What is loaded already stays usable meanwhile. */
export function Missing() {
  useEffect(() => {
    const timer = window.setInterval(() => {
      if (Date.now() - Number(sessionStorage.getItem(LOADED) ?? 0) < AGAIN_MS) return;
      void fetch("/", { cache: "no-store" })
        .then((answer) => {
          if (!answer.ok) return;
          sessionStorage.setItem(LOADED, String(Date.now()));
          window.location.reload();
        })
        .catch(() => undefined); // asked again
    }, ASK_MS);
    return () => window.clearInterval(timer);
  }, []);
  return (
    <div className="sx-problem" role="alert">
      <div>
        <strong>This page did not arrive from the server.</strong>
        <p>It is loaded as soon as the server answers. What was open before is still there: go back to it.</p>
      </div>
    </div>
  );
}
