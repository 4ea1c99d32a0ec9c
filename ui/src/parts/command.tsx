// Text to copy: ids, lines for a terminal, the command that does what a button does.
import { ActionIcon } from "@mantine/core";
import { IconCheck, IconCopy } from "@tabler/icons-react";
import { useState } from "react";

/** Copies a text; also where the page is not served over https, and the browser's clipboard is closed. */
export async function copy(text: string): Promise<void> {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "sx-offscreen";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  return (
    <ActionIcon
      className="sx-copy"
      variant="subtle"
      color="gray"
      size="sm"
      aria-label={done ? "Copied" : label}
      title={done ? "Copied" : label}
      onClick={() => {
        void copy(text).then(() => {
          setDone(true);
          window.setTimeout(() => setDone(false), 1500);
        });
      }}
    >
      {done ? <IconCheck size={14} /> : <IconCopy size={14} />}
    </ActionIcon>
  );
}

/** Lines for a terminal. */
export function Lines({ text }: { text: string }) {
  return (
    <div className="sx-lines">
      {/* a long line scrolls, also by keyboard */}
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <pre tabIndex={0} aria-label="command">
        {text}
      </pre>
      <Copy text={text} label="Copy the command" />
    </div>
  );
}

/** An id or digest: its first digits, all of it in the title and to copy. */
export function Id({ id, length = 12 }: { id: string; length?: number }) {
  if (!id) return <span className="sx-dim">-</span>;
  return (
    <span className="sx-id">
      <code title={id}>{id.length > length + 4 ? id.slice(0, length) : id}</code>
      <Copy text={id} label="Copy the id" />
    </span>
  );
}

/** Quotes a word for a POSIX shell, where it needs that. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

export function command(...words: (string | false | undefined)[]): string {
  return ["sextant", ...words.filter((word): word is string => Boolean(word)).map(quoted)].join(" ");
}
