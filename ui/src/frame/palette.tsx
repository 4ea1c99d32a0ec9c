// The command palette: pages and actions by their names, all else as the operation `search` finds it, as one types.
import { IconBolt, IconBox, IconFile } from "@tabler/icons-react";
import { keepPreviousData } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useDeferredValue, useEffect, useId, useMemo, useRef, useState } from "react";
import { ask, type Schemas } from "../api/client";
import { Dialog } from "../parts/dialog";
import { kindOf, nameOf } from "../parts/format";
import type { Shortcut } from "./keys";
import { PAGES } from "./shell";

type Hit = Schemas["SearchHit"];

const SHOWN_MAX = 40;
const HITS = 20;

interface Entry {
  id: string;
  kind: "found" | "page" | "action";
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

/** Where a hit leads; undefined where no page shows it. */
function way(hit: Hit, navigate: ReturnType<typeof useNavigate>): (() => void) | undefined {
  if (hit.noun === "run") return () => void navigate({ to: "/runs/$run", params: { run: hit.id } });
  if (hit.noun === "release") return () => void navigate({ to: "/releases/$release", params: { release: hit.id } });
  const asset = hit.noun === "asset" ? hit.id : hit.asset;
  if (!asset) return undefined;
  return () => void (kindOf(asset) === "kpi" ? navigate({ to: "/kpis/$name", params: { name: nameOf(asset) } }) : navigate({ to: "/assets/$asset", params: { asset } }));
}

/** What a hit is, and where it matched when not by its name. */
function said(hit: Hit): string {
  const what = hit.noun === "asset" ? kindOf(hit.id) : hit.asset ? `${hit.noun} of ${hit.asset}` : hit.noun;
  return ["id", "name", "near name"].includes(hit.matched) ? what : `${what}, ${hit.matched}: ${hit.text.slice(0, 80)}`;
}

export function Palette({ shortcuts, onClose }: { shortcuts: Shortcut[]; onClose: () => void }) {
  const [text, setText] = useState("");
  const [active, setActive] = useState(0);
  const asked = useDeferredValue(text);
  const navigate = useNavigate();
  const id = useId();
  const words = asked.toLowerCase().split(/\s+/).filter(Boolean);
  const answer = ask.useQuery(
    "get",
    "/api/v1/search",
    { params: { query: { q: asked.trim().slice(0, 200), limit: HITS } } },
    { enabled: words.length > 0, placeholderData: keepPreviousData },
  );

  const own = useMemo<Entry[]>(() => {
    const pages = PAGES.map(({ to, label }): Entry => ({ id: `page ${to}`, kind: "page", text: label, more: "page", run: () => void navigate({ to }) }));
    const actions = shortcuts
      .filter(({ keys, does }) => keys !== "mod+k" && !does.startsWith("Go to "))
      .map(({ keys, does, run }): Entry => ({ id: `action ${keys}`, kind: "action", text: does, more: keys, run }));
    return [...pages, ...actions];
  }, [navigate, shortcuts]);

  const hits = words.length ? (answer.data?.hits ?? []) : [];
  const fits = own.map((entry): [number, Entry] => [fit(`${entry.text} ${entry.more}`.toLowerCase(), words), entry]).filter(([score]) => score >= 0);
  const found = [
    ...fits.toSorted((a, b) => a[0] - b[0]).map(([, entry]) => entry),
    ...hits.flatMap((hit): Entry[] => {
      const run = way(hit, navigate);
      return run ? [{ id: `${hit.noun} ${hit.id}`, kind: "found", text: nameOf(hit.id) || hit.title, more: said(hit), run }] : [];
    }),
  ].slice(0, SHOWN_MAX);

  const go = (entry: Entry | undefined) => {
    if (!entry) return;
    onClose();
    entry.run();
  };

  // who types on and presses Enter means what is found for all of it
  const isBehind = text !== asked || (words.length > 0 && answer.isFetching);
  const entered = useRef(false);
  useEffect(() => {
    if (!entered.current || isBehind) return;
    entered.current = false;
    go(found[active]);
  });

  return (
    <Dialog title="Search" onClose={onClose} bare className="sx-palette">
      <input
        data-autofocus
        type="text"
        role="combobox"
        aria-expanded="true"
        aria-controls={`${id}-list`}
        aria-activedescendant={found.length ? `${id}-${active}` : undefined}
        maxLength={200}
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
            if (isBehind) entered.current = true;
            else go(found[active]);
          }
        }}
      />
      <div role="listbox" id={`${id}-list`} aria-label="Found" data-for={isBehind ? undefined : text}>
        {found.map((entry, n) => {
          const Icon = entry.kind === "found" ? IconBox : entry.kind === "page" ? IconFile : IconBolt;
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
      {!found.length && !answer.isFetching && <p className="sx-none">Nothing is called so.</p>}
    </Dialog>
  );
}
