// The live stream: entries of the ledger as server-sent events, read by fetch so that the answer's status is seen
// and every type of event arrives. Resumed with Last-Event-ID; closed while nobody looks at the page.
import type { QueryClient } from "@tanstack/react-query";
import { api, sessionEnded } from "./client";

export type Link = "connecting" | "live" | "away";

const HIDDEN_MS = 60_000; // so long a page that nobody sees keeps its stream
const WAITS_MS = [500, 1000, 2000, 5000];
const SILENT_MS = 45_000; // the server says something every 15 s: after so long it is taken for dead
const FLUSH_MS = 250; // a run writes many events at once: they are one refresh

// What an event is about, by the first word of its type: paths of the API whose answers may be others now.
const ABOUT: Record<string, string[]> = {
  run: ["/runs", "/why", "/status", "/plan", "/graph/picture", "/assets/{asset}/partitions", "/assets/{asset}/timeline"],
  release: ["/releases", "/why", "/approvals", "/status", "/assets", "/runs", "/plan", "/graph/picture", "/kpis"],
  version: ["/assets", "/status", "/diff", "/plan", "/graph/picture"],
  checks: ["/checks", "/status"],
  check: ["/checks", "/assets", "/status"],
  asset: ["/graph", "/assets", "/status", "/project", "/plan"],
  project: ["/kpis", "/graph", "/assets", "/status", "/project", "/plan"],
  env: ["/project", "/environments", "/status"],
  hold: ["/status", "/assets", "/plan", "/graph/picture"],
  rows: ["/status", "/datasets"],
  signal: ["/signals", "/incidents", "/status"],
  incident: ["/incidents", "/signals", "/status"],
  session: ["/sessions"],
  account: ["/accounts", "/sessions"],
  token: ["/tokens"],
};

/** Follows the stream until it is stopped. `tell` hears how it stands. */
export function follow(queries: QueryClient, tell: (link: Link) => void): () => void {
  let last = "";
  let stopped = false;
  let current = new AbortController();
  let hidden = 0;
  let flush = 0;
  const stale = new Set<string>();

  const refresh = (paths: Iterable<string>) => {
    for (const path of paths) stale.add(path);
    if (!flush)
      flush = window.setTimeout(() => {
        flush = 0;
        const found = [...stale];
        stale.clear();
        void queries.invalidateQueries({
          predicate: ({ queryKey }) => {
            const path = String(queryKey[1]).replace("/api/v1", "");
            return found.some((one) => path === one || path.startsWith(`${one}/`));
          },
        });
      }, FLUSH_MS);
  };

  const take = (block: string) => {
    let type = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("id: ")) last = line.slice(4);
      else if (line.startsWith("event: ")) type = line.slice(7);
    }
    if (type) refresh(ABOUT[type.split(".")[0] ?? ""] ?? []);
  };

  const read = async (first: boolean) => {
    if (!last) {
      // from the newest entry on that there was before the page's own questions were asked
      const { data } = await api.GET("/api/v1/ledger/events", { params: { query: { limit: 1 } } });
      last = String(data?.items[0]?.seq ?? -1);
    }
    const answer = await fetch("/api/v1/stream", {
      headers: { "last-event-id": last },
      signal: current.signal,
      cache: "no-store",
    });
    if (answer.status === 401) {
      sessionEnded();
      return;
    }
    if (!answer.ok || !answer.body) throw new Error(`the stream answered ${answer.status}`);
    tell("live");
    if (!first) void queries.invalidateQueries();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      let timer = 0;
      const silence = new Promise<never>((_, reject) => {
        timer = window.setTimeout(() => reject(new Error("the stream is silent")), SILENT_MS);
      });
      const { done, value } = await Promise.race([reader.read(), silence])
        .catch((error: unknown) => {
          void reader.cancel().catch(() => undefined);
          throw error;
        })
        .finally(() => window.clearTimeout(timer));
      if (done) break;
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) take(block);
    }
  };

  const work = async () => {
    let failures = 0;
    let first = true;
    while (!stopped) {
      if (document.hidden && current.signal.aborted) {
        await new Promise<void>((resolve) =>
          document.addEventListener("visibilitychange", () => resolve(), { once: true }),
        );
        current = new AbortController();
        continue;
      }
      const began = Date.now();
      try {
        await read(first);
      } catch {
        // what went wrong shows in the state; the next try may succeed
      }
      first = false;
      if (stopped) return;
      if (current.signal.aborted && document.hidden) continue;
      if (current.signal.aborted) current = new AbortController();
      tell("away");
      failures = Date.now() - began > 5000 ? 0 : failures + 1;
      const wait = WAITS_MS[Math.min(failures, WAITS_MS.length - 1)];
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  };

  const seen = () => {
    window.clearTimeout(hidden);
    if (document.hidden) hidden = window.setTimeout(() => current.abort(), HIDDEN_MS);
  };
  document.addEventListener("visibilitychange", seen);
  void work();
  return () => {
    stopped = true;
    window.clearTimeout(hidden);
    window.clearTimeout(flush);
    document.removeEventListener("visibilitychange", seen);
    current.abort();
  };
}
