// The command palette: assets, pages and actions, found as one types.
import { IconBolt, IconBox, IconFile } from "@tabler/icons-react";
import { useNavigate } from "@tanstack/react-router";
import { useDeferredValue, useId, useMemo, useState } from "react";
import { ask } from "../api/client";
import { Dialog } from "../parts/dialog";
import { nameOf } from "../parts/format";
import type { Shortcut } from "./keys";
import { PAGES } from "./shell";

const SHOWN_MAX = 30;

interface Entry {
  id: string;
  kind: "asset" | "page" | "action";
  text: string;
  more: string;
  run: () => void;
}

/** How well a text fits: the lower the better, -1 not at all. */
function fit(text: string, words: string[]): number {
  let score = 0;
  for (const word of words) {
    const at = text.indexOf(word);
    if (at < 0) return -1;
    score += at === 0 ? 0 : /\W|_/.test(text[at - 1] ?? "") ? 1 : 2;
  }
  return score;
}

export function Palette({ shortcuts, onClose }: { shortcuts: Shortcut[]; onClose: () => void }) {
  const [text, setText] = useState("");
  const [active, setActive] = useState(0);
  const asked = useDeferredValue(text);
  const navigate = useNavigate();
  const id = useId();
  const graph = ask.useQuery("get", "/api/v1/graph").data;

  const entries = useMemo<Entry[]>(() => {
    const pages = PAGES.map(({ to, label }): Entry => ({
      id: `page ${to}`,
      kind: "page",
      text: label,
      more: "page",
      run: () => void navigate({ to }),
    }));
    const actions = shortcuts
      .filter(({ keys, does }) => keys !== "mod+k" && !does.startsWith("Go to "))
      .map(({ keys, does, run }): Entry => ({ id: `action ${keys}`, kind: "action", text: does, more: keys, run }));
    const assets = (graph?.assets ?? []).map((one): Entry => ({
      id: one.id,
      kind: "asset",
      text: nameOf(one.id),
      more: `${one.kind}${one.owner ? `, owner ${one.owner}` : ""}`,
      run: () => void (one.kind === "kpi" ? navigate({ to: "/kpis/$name", params: { name: nameOf(one.id) } }) : navigate({ to: "/assets/$asset", params: { asset: one.id } })),
    }));
    return [...pages, ...assets, ...actions];
  }, [graph, navigate, shortcuts]);

  const found = useMemo(() => {
    const words = asked.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return entries.slice(0, SHOWN_MAX);
    const fits: [number, number, Entry][] = [];
    for (const [n, entry] of entries.entries()) {
      const score = fit(`${entry.text} ${entry.id} ${entry.more}`.toLowerCase(), words);
      if (score >= 0) fits.push([score, n, entry]);
    }
    fits.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    return fits.slice(0, SHOWN_MAX).map(([, , entry]) => entry);
  }, [asked, entries]);

  const go = (entry: Entry | undefined) => {
    if (!entry) return;
    onClose();
    entry.run();
  };

  return (
    <Dialog title="Search" onClose={onClose} bare className="sx-palette">
      <input
        data-autofocus
        type="text"
        role="combobox"
        aria-expanded="true"
        aria-controls={`${id}-list`}
        aria-activedescendant={found.length ? `${id}-${active}` : undefined}
        aria-label="Search assets, pages and actions"
        placeholder="Search assets, pages and actions"
        value={text}
        onChange={(event) => {
          setText(event.currentTarget.value);
          setActive(0);
        }}
        onKeyDown={(event) => {
          const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
          if (step) {
            event.preventDefault();
            setActive((active + step + found.length) % Math.max(1, found.length));
          } else if (event.key === "Enter") {
            event.preventDefault();
            go(found[active]);
          }
        }}
      />
      <div role="listbox" id={`${id}-list`} aria-label="Found">
        {found.map((entry, n) => {
          const Icon = entry.kind === "asset" ? IconBox : entry.kind === "page" ? IconFile : IconBolt;
          return (
            // the combobox takes the keys
            // oxlint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/interactive-supports-focus
            <div
              key={entry.id}
              id={`${id}-${n}`}
              role="option"
              aria-selected={n === active}
              ref={n === active ? (node) => node?.scrollIntoView({ block: "nearest" }) : undefined}
              onClick={() => go(entry)}
              onMouseMove={() => setActive(n)}
            >
              <Icon size={15} aria-hidden="true" />
              <span dir="auto">{entry.text}</span>
              <span className="sx-dim" dir="auto">
                {entry.more}
              </span>
            </div>
          );
        })}
      </div>
      {!found.length && <p className="sx-none">Nothing is called so.</p>}
    </Dialog>
  );
}
