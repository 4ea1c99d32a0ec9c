// What one browser remembers of one person's choices: in localStorage, never anything of the data.
import { useCallback, useSyncExternalStore } from "react";

const listeners = new Set<() => void>();

function read(name: string): string | null {
  try {
    return localStorage.getItem(`sextant.${name}`);
  } catch {
    return null; // a browser that keeps nothing still works
  }
}

/** Returns a remembered choice and its setter; all that use it see the change. */
export function useKept<T>(name: string, initial: T): [T, (value: T) => void] {
  const text = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      window.addEventListener("storage", listener);
      return () => {
        listeners.delete(listener);
        window.removeEventListener("storage", listener);
      };
    },
    () => read(name),
  );
  let value = initial;
  if (text !== null) {
    try {
      value = JSON.parse(text) as T;
    } catch {
      value = initial;
    }
  }
  const set = useCallback(
    (next: T) => {
      try {
        localStorage.setItem(`sextant.${name}`, JSON.stringify(next));
      } catch {
        return;
      }
      for (const listener of listeners) listener();
    },
    [name],
  );
  return [value, set];
}
