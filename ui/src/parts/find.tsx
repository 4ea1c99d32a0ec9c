// Finds an asset as one types: by id, name, owner, tag, column or documentation, as the operation `search` does.
import { TextInput } from "@mantine/core";
import { IconSearch } from "@tabler/icons-react";
import { keepPreviousData } from "@tanstack/react-query";
import { type ReactNode, useDeferredValue, useId, useState } from "react";
import { ask } from "../api/client";
import { kindOf, nameOf } from "./format";

const HITS = 20;

export function FindAsset({ label, icon, onFound }: { label: string; icon?: ReactNode; onFound: (asset: string) => void }) {
  const [text, setText] = useState("");
  const [active, setActive] = useState(0);
  const [open, setOpen] = useState(false);
  const asked = useDeferredValue(text.trim().slice(0, 200));
  const base = useId();
  const found = ask.useQuery(
    "get",
    "/api/v1/search",
    { params: { query: { q: asked, limit: HITS } } },
    { enabled: asked !== "", placeholderData: keepPreviousData },
  );
  // what is not an asset leads to the one that it belongs to
  const hits = asked ? [...new Map((found.data?.hits ?? []).filter((one) => one.noun === "asset" || one.asset).map((one) => [one.noun === "asset" ? one.id : one.asset, one])).entries()] : [];
  const isOpen = open && asked !== "" && found.data !== undefined;
  const choose = (asset: string | undefined) => {
    if (!asset) return;
    setText("");
    setOpen(false);
    onFound(asset);
  };
  return (
    <div className="sx-find">
      <TextInput
        size="xs"
        role="combobox"
        aria-label={label}
        placeholder={label}
        leftSection={icon ?? <IconSearch size={14} />}
        aria-expanded={isOpen}
        aria-controls={isOpen ? `${base}-list` : undefined}
        aria-activedescendant={isOpen && hits.length ? `${base}-${active}` : undefined}
        autoComplete="off"
        maxLength={200}
        value={text}
        onChange={(event) => {
          setText(event.currentTarget.value);
          setActive(0);
          setOpen(true);
        }}
        onBlur={() => setOpen(false)}
        onFocus={() => setOpen(true)}
        onKeyDown={(event) => {
          const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
          if (step && hits.length) {
            event.preventDefault();
            setActive((active + step + hits.length) % hits.length);
          } else if (event.key === "Enter") {
            event.preventDefault();
            choose(hits[active]?.[0]);
          } else if (event.key === "Escape") {
            setOpen(false);
            setText("");
          }
        }}
      />
      {isOpen && (
        <div className="sx-found">
          <div role="listbox" id={`${base}-list`} aria-label="Found">
            {hits.map(([asset, hit], n) => (
              // the combobox takes the keys, and keeps the focus
              // oxlint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/interactive-supports-focus
              <div
                key={asset}
                id={`${base}-${n}`}
                role="option"
                aria-selected={n === active}
                onMouseDown={(event) => event.preventDefault()}
                onClick={() => choose(asset)}
                onMouseMove={() => setActive(n)}
              >
                <span className="sx-kind">{kindOf(asset)}</span>
                <bdi>{nameOf(asset)}</bdi>
                {!["id", "name"].includes(hit.matched) && (
                  <span className="sx-dim" dir="auto">
                    {hit.matched}: {hit.text.slice(0, 80)}
                  </span>
                )}
              </div>
            ))}
          </div>
          {!hits.length && !found.isFetching && <p className="sx-none">No asset is called so.</p>}
        </div>
      )}
    </div>
  );
}
