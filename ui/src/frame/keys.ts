// Keyboard shortcuts: one key, or two one after the other (`g a`). Not while somebody types.
import { useEffect, useRef } from "react";

export interface Shortcut {
  keys: string; // "?", "g a", "mod+k"
  does: string;
  run: () => void;
}

const SECOND_MS = 1200; // so long the second key may take

function types(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

export function useShortcuts(shortcuts: Shortcut[]): void {
  const current = useRef(shortcuts);
  useEffect(() => {
    current.current = shortcuts;
  });
  useEffect(() => {
    let before = "";
    let timer = 0;
    const press = (event: KeyboardEvent) => {
      const mod = event.ctrlKey || event.metaKey;
      if (event.altKey || (types(event.target) && !mod) || document.querySelector("dialog[open]")) return;
      const key = mod ? `mod+${event.key.toLowerCase()}` : event.key;
      const found = current.current.find(({ keys }) => keys === (before ? `${before} ${key}` : key));
      window.clearTimeout(timer);
      if (found) {
        before = "";
        event.preventDefault();
        found.run();
        return;
      }
      before = !mod && current.current.some(({ keys }) => keys.startsWith(`${key} `)) ? key : "";
      timer = window.setTimeout(() => (before = ""), SECOND_MS);
    };
    window.addEventListener("keydown", press);
    return () => window.removeEventListener("keydown", press);
  }, []);
}
