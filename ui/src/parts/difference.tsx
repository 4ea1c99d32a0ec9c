// What differs between two states of an asset, and releasing one of them.
import { Button, NativeSelect } from "@mantine/core";
import { IconGitCompare, IconRocket } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { ApiError, api, ask } from "../api/client";
import type { Release } from "../api/shapes";
import { Action } from "./action";
import { command, Id, Lines } from "./command";
import { Dialog } from "./dialog";
import { count, nameOf, plural } from "./format";
import { Facts } from "./links";
import { Shown } from "./problem";

/** What `diff` answers, of every kind: partitions; of rows their counts and samples; else fields with both values. */
interface Found {
  asset: string;
  before: string;
  after: string;
  partitions: string[];
  rows_before?: number;
  rows_after?: number;
  added?: number;
  removed?: number;
  changed?: number;
  changed_columns?: Record<string, number>;
  columns?: Record<string, [string, string]>; // type before and after, "" where there is none
  samples?: { changed?: { key: Record<string, unknown>; before: Record<string, unknown>; after: Record<string, unknown> }[] };
  [more: string]: unknown;
}

const SAID = ["asset", "before", "after", "partitions", "rows_before", "rows_after", "added", "removed", "changed", "changed_columns", "columns", "samples", "by_key"];
const SHOWN_MAX = 20;

export function Difference({ env, a, b }: { env: string; a: string; b: string }) {
  const found = ask.useQuery("get", "/api/v1/diff", { params: { query: { env, a, b } } }, { select: (data) => data as unknown as Found });
  if (found.error instanceof ApiError && ["SX-VERSION-004", "SX-VERSION-009"].includes(found.error.code)) return <p className="sx-dim">{found.error.message}</p>;
  return (
    <Shown query={found}>
      {(data) => {
        if (data.before === data.after) return <p>They are the same version.</p>;
        const { partitions } = data;
        const more = Object.entries(data).filter(([name, value]) => !SAID.includes(name) && value !== null && !(typeof value === "object" && !Object.keys(value as object).length));
        return (
          <div className="sx-difference">
            <Facts
              facts={[
                ["From", <Id key="a" id={data.before} />],
                ["To", <Id key="b" id={data.after} />],
                ...(partitions.length
                  ? ([["Partitions", `${count(partitions.length)}: ${partitions.slice(0, 6).join(", ")}${partitions.length > 6 ? `, … ${partitions.at(-1)}` : ""}`]] as [string, string][])
                  : []),
                ...(data.rows_after === undefined
                  ? []
                  : ([
                      ["Rows in them", `${count(data.rows_before)} → ${count(data.rows_after)}`],
                      ["Of these", `${count(data.added)} added, ${count(data.removed)} removed, ${count(data.changed)} changed`],
                    ] as [string, string][])),
                ...(Object.keys(data.changed_columns ?? {}).length
                  ? ([["Columns", Object.entries(data.changed_columns ?? {}).map(([name, n]) => `${name} (${count(n)})`).join(", ")]] as [string, string][])
                  : []),
                ...Object.entries(data.columns ?? {}).map(([name, [before, after]]): [string, ReactNode] => [
                  `Column ${name}`,
                  <bdi key={name}>
                    {before || "new"} → {after || "gone"}
                  </bdi>,
                ]),
                ...more.slice(0, SHOWN_MAX).map(([name, value]): [string, ReactNode] => [
                  name.replaceAll("_", " "),
                  <bdi key={name}>{typeof value === "string" || typeof value === "number" ? value : JSON.stringify(value).slice(0, 2000)}</bdi>,
                ]),
              ]}
            />
            {(data.samples?.changed?.length ?? 0) > 0 && (
              <ul className="sx-moves" aria-label="rows that changed">
                {data.samples?.changed?.slice(0, 5).map((one) => (
                  <li key={JSON.stringify(one.key)}>
                    <code>{Object.values(one.key).map(String).join(" ")}</code>
                    <bdi>
                      {Object.keys(one.before)
                        .map((name) => `${name} ${String(one.before[name])} → ${String(one.after[name])}`)
                        .join(", ")}
                    </bdi>
                  </li>
                ))}
              </ul>
            )}
            {!partitions.length && data.rows_after !== undefined && <p>Their rows are the same.</p>}
          </div>
        );
      }}
    </Shown>
  );
}

/** Shows what differs between a version and what is live. */
export function Compare({ id, version, env }: { id: string; version: string; env: string }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <Button size="compact-sm" variant="default" leftSection={<IconGitCompare size={14} />} onClick={() => setOpen(true)}>
        Compare
      </Button>
      {open && (
        <Dialog title={`${nameOf(id)}: what is live against ${version.slice(0, 8)}`} onClose={() => setOpen(false)}>
          <Difference env={env} a={id} b={`${id}@${version}`} />
          <details className="sx-cli">
            <summary>The same on the command line</summary>
            <Lines text={command("diff", id, `${id}@${version.slice(0, 12)}`, "--env", env)} />
          </details>
        </Dialog>
      )}
    </>
  );
}

function useReleased() {
  const queries = useQueryClient();
  const navigate = useNavigate();
  return (answer: { data?: unknown }) => {
    void queries.invalidateQueries();
    const release = answer.data as Release | undefined;
    if (release?.id) void navigate({ to: "/releases/$release", params: { release: release.id } });
  };
}

/** Makes a version live, through the gate, and says before what that changes. */
export function ReleaseVersion({ id, version, env }: { id: string; version: string; env: string }) {
  const done = useReleased();
  return (
    <Action
      spec={{
        label: "Release",
        icon: <IconRocket size={14} />,
        title: `Release ${nameOf(id)} ${version.slice(0, 8)} in ${env}`,
        says: (
          <>
            <p>It becomes live in {env}, through the gate: checks, rules and approvals say whether. This changes:</p>
            <Difference env={env} a={id} b={`${id}@${version}`} />
          </>
        ),
        command: () => command("release", id, version.slice(0, 12), "--env", env),
        act: () => api.POST("/api/v1/assets/{asset}/releases", { params: { path: { asset: id } }, body: { version, env } }),
        done,
      }}
    />
  );
}

/** Makes live here what is live in another environment. */
export function Promote({ id, env }: { id: string; env: string }) {
  const done = useReleased();
  const others = ask.useQuery("get", "/api/v1/environments").data?.filter((one) => one.name !== env).map((one) => one.name) ?? [];
  if (!others[0]) return null;
  return (
    <Action
      spec={{
        label: "Promote",
        icon: <IconRocket size={15} />,
        title: `Promote ${nameOf(id)} to ${env}`,
        choice: others[0],
        says: ({ choice: source, choose }) => (
          <>
            <p>What is live in the other environment becomes live in {env}, through the gate. {plural(others.length, "environment")} to choose from.</p>
            <NativeSelect label="From" data={others} value={source} onChange={(event) => choose(event.currentTarget.value)} />
            <Difference env={env} a={id} b={`${id}@env:${source}`} />
          </>
        ),
        command: (_, source) => command("release", id, "--from", source, "--env", env),
        act: (_, source) => api.POST("/api/v1/assets/{asset}/releases", { params: { path: { asset: id } }, body: { source, env } }),
        done,
      }}
    />
  );
}
