// One asset: what is live, its versions, the releases and checks that concern it, rows, lineage, documentation.
import { Button, Tabs } from "@mantine/core";
import { IconChecks, IconPlayerPlay } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { type ReactNode, useMemo } from "react";
import { api, ask, type Schemas } from "../api/client";
import { kept, usePages } from "../api/pages";
import type { AssetFacts, Check, Release } from "../api/shapes";
import { useSession } from "../frame/session";
import { useEnv } from "../frame/shell";
import { Action } from "../parts/action";
import { command, Id } from "../parts/command";
import { bytes, count, kindOf, nameOf, plural } from "../parts/format";
import { AssetLink, Card, Facts, Head, RunLink } from "../parts/links";
import { CHECK_COLUMNS, RELEASE_COLUMNS } from "../parts/lists";
import { Compare, Promote, ReleaseVersion } from "../parts/difference";
import { Partitions } from "../parts/partitions";
import { Columns } from "../parts/profile";
import { startRun } from "../parts/start";
import { AssetTimeline } from "../parts/timeline";
import { Undo } from "../parts/undo";
import { Empty, Shown } from "../parts/problem";
import { State } from "../parts/state";
import { type Column, DataTable } from "../parts/table";
import { instant, Time } from "../parts/time";
import { stateOf } from "./assets";

type Version = Schemas["VersionSeen"];

const TABS = ["overview", "timeline", "columns", "partitions", "versions", "releases", "checks", "rows", "lineage"] as const;

export default function AssetPage() {
  const { asset: id } = useParams({ from: "/assets/$asset" });
  const search = useSearch({ from: "/assets/$asset" });
  const navigate = useNavigate();
  const env = useEnv();
  const tab = TABS.find((one) => one === search.tab) ?? "overview";
  const facts = ask.useQuery(
    "get",
    "/api/v1/assets/{asset}",
    { params: { path: { asset: id }, query: { env, limit: 0 } } },
    { enabled: env !== "", select: (data) => data as unknown as AssetFacts, placeholderData: kept({ asset: id, env }) },
  );
  const graph = ask.useQuery("get", "/api/v1/graph");
  const status = ask.useQuery("get", "/api/v1/status", { params: { query: { env } } }, { enabled: env !== "" });
  const node = graph.data?.assets.find((one) => one.id === id);
  const found = status.data?.assets.find((one) => one.asset === id);
  const [state, why] = node && status.data ? stateOf(node, found) : ["", ""];
  const inputs = graph.data?.edges.filter((edge) => edge.target === id).map((edge) => edge.source) ?? [];
  const isManaged = node?.mode !== "observed";
  const hasColumns = tab === "columns" || (facts.data?.schema?.length ?? 0) > 0;

  return (
    <div className="sx-page">
      <Head kind={kindOf(id)} title={<bdi>{nameOf(id)}</bdi>} actions={isManaged && node && <Actions id={id} env={env} isLive={Boolean(found?.version)} />}>
        {state && <State state={state} />}
        {why && <span>{why}</span>}
        {node?.owner && <span>owner {node.owner}</span>}
        {node && <span>tier {node.tier}</span>}
        {found?.published_at && (
          <span>
            changed <Time at={found.published_at} />
          </span>
        )}
        {node && (
          <Link to="/graph" search={{ asset: id, up: "2", down: "2" }}>
            in the graph
          </Link>
        )}
      </Head>
      <Tabs
        value={tab}
        keepMounted={false}
        onChange={(value) => void navigate({ to: ".", search: (before) => ({ ...before, tab: value === "overview" ? undefined : (value ?? undefined) }), replace: true })}
      >
        <Tabs.List>
          {TABS.filter((one) => (one !== "partitions" || isManaged) && (one !== "columns" || hasColumns)).map((one) => (
            <Tabs.Tab key={one} value={one}>
              {one}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        <Tabs.Panel value="overview">
          {facts.error && !facts.data && node ? (
            <NotMade node={node} env={env} error={facts.error as unknown as Error} />
          ) : (
            <Shown query={facts}>{(data) => <Overview facts={data} inputs={inputs} />}</Shown>
          )}
        </Tabs.Panel>
        <Tabs.Panel value="timeline">
          <AssetTimeline id={id} env={env} />
        </Tabs.Panel>
        <Tabs.Panel value="columns">
          <Columns key={`${id} ${env}`} id={id} env={env} />
        </Tabs.Panel>
        <Tabs.Panel value="partitions">
          <Partitions key={`${id} ${env}`} id={id} env={env} />
        </Tabs.Panel>
        <Tabs.Panel value="versions">
          <Versions id={id} env={env} />
        </Tabs.Panel>
        <Tabs.Panel value="releases">
          <AssetReleases id={id} env={env} />
        </Tabs.Panel>
        <Tabs.Panel value="checks">
          <AssetChecks id={id} />
        </Tabs.Panel>
        <Tabs.Panel value="rows">
          <Rows id={id} env={env} />
        </Tabs.Panel>
        <Tabs.Panel value="lineage">
          <Shown query={graph}>{(data) => <Lineage id={id} graph={data} />}</Shown>
        </Tabs.Panel>
      </Tabs>
    </div>
  );
}

function Actions({ id, env, isLive }: { id: string; env: string; isLive: boolean }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const again = () => void queries.invalidateQueries();
  const { name } = useSession();
  return (
    <>
      <Action
        spec={{
          label: "Run",
          icon: <IconPlayerPlay size={15} />,
          title: `Run ${nameOf(id)} in ${env}`,
          says: "Makes what is missing or has changed inputs, of this asset and of what reads it; checks it; and publishes what passes. It shows among the runs at once.",
          command: () => command("run", id, "--env", env),
          act: () => startRun({ assets: [id], env }, name),
          done: (answer: { data?: { id?: string } }) => {
            again();
            if (answer.data?.id) void navigate({ to: "/runs/$run", params: { run: answer.data.id } });
          },
        }}
      />
      {isLive && (
        <Action
          spec={{
            label: "Check",
            icon: <IconChecks size={15} />,
            title: `Check ${nameOf(id)} in ${env}`,
            says: "Runs all its checks on what is live. Nothing is changed but that the results stand in the ledger.",
            command: () => command("check", id, "--env", env),
            act: () => api.POST("/api/v1/assets/{asset}/checks", { params: { path: { asset: id } }, body: { env } }),
            done: () => {
              again();
              void navigate({ to: ".", search: (before) => ({ ...before, tab: "checks" }) });
            },
          }}
        />
      )}
      <Promote id={id} env={env} />
      {isLive && <Undo id={id} env={env} />}
    </>
  );
}

function NotMade({ node, env, error }: { node: Schemas["GraphNode"]; env: string; error: Error }) {
  return (
    <>
      <Empty title={`Nothing of it is live in ${env}.`} lines={`${command("plan", node.id, "--env", env)}\n${command("run", node.id, "--env", env)}`}>
        {error.message}
      </Empty>
      {node.description && (
        <Card title="Documentation">
          <p dir="auto" className="sx-prose">
            {node.description}
          </p>
        </Card>
      )}
    </>
  );
}

function Overview({ facts, inputs }: { facts: AssetFacts; inputs: string[] }) {
  return (
    <>
      <div className="sx-columns">
        <Card title="Documentation">
          <p dir="auto" className="sx-prose">
            {facts.description || <span className="sx-dim">Nothing is written: the declaration's docstring stands here.</span>}
          </p>
          <Facts
            facts={[
              ["Owner", facts.owner],
              ["Tier", facts.tier],
              ["Declared in", facts.file && <code>{facts.file}</code>],
              ["Tags", facts.tags.join(", ")],
              ["Made from", inputs.length ? [...new Set(inputs)].map((one) => <AssetLink key={one} id={one} />) : "no other asset"],
            ]}
          />
        </Card>
        <Card title="Live version">
          <Facts
            facts={[
              ["Version", <Id key="version" id={facts.version ?? ""} />],
              ["Made", <Time key="made" at={facts.created_at} />],
              ["By run", <RunLink key="run" id={facts.run} />],
              ...(facts.schema?.length
                ? ([
                    ["Rows", count(facts.rows)],
                    ["Partitions", count(facts.partitions)],
                    ["Size", bytes(facts.size_bytes ?? 0)],
                    ["Key", facts.key?.join(", ")],
                    ["Personal columns", facts.personal?.join(", ") || "none"],
                  ] as [string, ReactNode][])
                : []),
              ...Object.entries(facts.measure ?? {}).map(([name, value]): [string, ReactNode] => [
                name,
                typeof value === "string" ? <code>{value}</code> : Array.isArray(value) ? value.join(", ") : <code>{JSON.stringify(value)}</code>,
              ]),
            ]}
          />
        </Card>
      </div>
      {facts.reports && (
        <Card title="Reports of other tools" note={plural(facts.reports.length, "report")}>
          <ol className="sx-timeline">
            {facts.reports.map((one) => (
              <li key={one.id}>
                <code>{one.type}</code>
                <span className="sx-dim">
                  <Time at={one.at} /> {one.actor}
                </span>
              </li>
            ))}
          </ol>
        </Card>
      )}
      {(facts.schema?.length ?? 0) > 0 && (
        <Card title="Columns" note={plural(facts.schema?.length ?? 0, "column")}>
          <ul className="sx-schema">
            {facts.schema?.map(([name, type]) => (
              <li key={name}>
                <bdi title={name}>{name}</bdi> <code>{type}</code>
                {facts.key?.includes(name) && <span className="sx-chip">key</span>}
                {facts.time === name && <span className="sx-chip">time</span>}
                {facts.personal?.includes(name) && <span className="sx-chip">personal</span>}
              </li>
            ))}
          </ul>
        </Card>
      )}
      {facts.checks.length > 0 && (
        <Card title="Checks that are declared" note={plural(facts.checks.length, "check")}>
          <ul className="sx-schema sx-wide">
            {facts.checks.map((one) => (
              <li key={`${one.name} ${one.scope}`}>
                <bdi title={one.name}>{one.name}</bdi> <span className="sx-chip">{one.severity}</span>
                <span className="sx-dim"> of a {one.scope}</span>
              </li>
            ))}
          </ul>
        </Card>
      )}
    </>
  );
}

const VERSION_COLUMNS: Column<Version>[] = [
  { id: "version", header: "Version", value: (one) => one.version, cell: (one) => <Id id={one.version} />, width: "9rem", phone: true },
  {
    id: "state",
    header: "State",
    value: (one) => one.state,
    cell: (one) => {
      const [word = "", ...rest] = one.state.split(": ");
      return word ? (
        <>
          <State state={word} title={one.state} />
          {rest.length > 0 && (
            <bdi className="sx-dim sx-why" title={rest.join(": ")}>
              {rest.join(": ")}
            </bdi>
          )}
        </>
      ) : (
        <span className="sx-dim">{one.expired ? "expired" : "earlier"}</span>
      );
    },
    width: "minmax(8rem, 1.5fr)",
    phone: true,
  },
  { id: "made", header: "Made", value: (one) => instant(one.created_at), cell: (one) => <Time at={one.created_at} />, width: "minmax(11rem, 1fr)", phone: true },
  { id: "rows", header: "Rows", value: (one) => one.rows, cell: (one) => count(one.rows), width: "6.5rem", right: true },
  { id: "changed", header: "Changed partitions", value: (one) => one.changed.join(", "), width: "minmax(9rem, 2fr)" },
  { id: "run", header: "Run", value: (one) => one.run, cell: (one) => <RunLink id={one.run} />, width: "7rem" },
  { id: "parent", header: "From version", value: (one) => one.parent, cell: (one) => <Id id={one.parent} />, width: "9rem", hidden: true },
];

/** Asks for the page of a list behind those that are shown, where there is one. */
function Older({ list }: { list: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => Promise<unknown> } }) {
  if (!list.hasNextPage) return null;
  return (
    <Button size="compact-sm" variant="default" loading={list.isFetchingNextPage} onClick={() => void list.fetchNextPage()}>
      Load older ones
    </Button>
  );
}

function Versions({ id, env }: { id: string; env: string }) {
  const columns = useMemo<Column<Version>[]>(
    () => [
      ...VERSION_COLUMNS,
      {
        id: "act",
        header: "",
        value: () => "",
        cell: (one) =>
          one.state === "live" || one.expired ? null : (
            <span className="sx-row-actions">
              <Compare id={id} version={one.version} env={env} />
              <ReleaseVersion id={id} version={one.version} env={env} />
            </span>
          ),
        width: "15.5rem",
        right: true,
      },
    ],
    [id, env],
  );
  const versions = usePages<Version>("/api/v1/assets/{asset}/versions", { env }, env !== "", id);
  return (
    <Shown query={versions}>
      {(rows) => (
        <DataTable
          id="versions"
          label="versions"
          rows={rows}
          columns={columns}
          rowId={(one) => one.version}
          tools={<Older list={versions} />}
          empty={<Empty title="It has no versions yet." lines={command("run", id)} />}
        />
      )}
    </Shown>
  );
}

function AssetReleases({ id, env }: { id: string; env: string }) {
  const navigate = useNavigate();
  const releases = usePages<Release>("/api/v1/releases", { env, asset: id }, env !== "");
  return (
    <Shown query={releases}>
      {(rows) => (
        <DataTable
          id="asset-releases"
          label="releases"
          rows={rows}
          columns={RELEASE_COLUMNS}
          rowId={(one) => one.id}
          onOpen={(one) => void navigate({ to: "/releases/$release", params: { release: one.id } })}
          tools={<Older list={releases} />}
          empty={<Empty title={`No release moved it in ${env}.`} lines={command("run", id, "--env", env)} />}
        />
      )}
    </Shown>
  );
}

function AssetChecks({ id }: { id: string }) {
  const checks = usePages<Check>("/api/v1/checks", { asset: id });
  return (
    <Shown query={checks}>
      {(rows) => (
        <DataTable
          id="asset-checks"
          label="results of checks"
          rows={rows}
          columns={CHECK_COLUMNS}
          rowId={(one) => `${one.run} ${one.version} ${one.partition ?? ""} ${one.name} ${one.asset}`}
          tools={<Older list={checks} />}
          empty={
            <Empty title="Nothing was checked yet." lines={command("check", id)}>
              Checks are declared with the asset and run whenever it is made.
            </Empty>
          }
        />
      )}
    </Shown>
  );
}

function Rows({ id, env }: { id: string; env: string }) {
  const facts = ask.useQuery(
    "get",
    "/api/v1/assets/{asset}",
    { params: { path: { asset: id }, query: { env, limit: 100 } } },
    { enabled: env !== "", select: (data) => data as unknown as AssetFacts },
  );
  const columns = useMemo(() => {
    const names = facts.data?.schema?.map(([name]) => name) ?? Object.keys(facts.data?.sample?.[0] ?? {});
    return names.map((name): Column<{ at: number; row: Record<string, unknown> }> => {
      const isNumber = facts.data?.sample?.some((row) => typeof row[name] === "number") ?? false;
      return {
        id: name,
        header: name,
        value: ({ row }) => plain(row[name]),
        cell: ({ row }) =>
          row[name] === null || row[name] === undefined ? <span className="sx-dim">null</span> : <bdi title={String(plain(row[name]))}>{plain(row[name])}</bdi>,
        width: `minmax(${Math.min(16, Math.max(6, name.length * 0.62 + 2))}rem, 1fr)`,
        right: isNumber,
        phone: true,
      };
    });
  }, [facts.data]);
  const rows = useMemo(() => facts.data?.sample?.map((row, at) => ({ at, row })) ?? [], [facts.data]);
  return (
    <Shown query={facts}>
      {() => (
        <DataTable
          id={`rows.${id.slice(0, 200)}`}
          label="rows"
          rows={rows}
          columns={columns}
          rowId={({ at }) => String(at)}
          tools={<span className="sx-dim">the first {count(rows.length)} of {count(facts.data?.rows)}</span>}
          empty={<Empty title="It has no rows to show." lines={command("show", id, "--env", env)} />}
        />
      )}
    </Shown>
  );
}

function plain(found: unknown): string | number {
  if (typeof found === "number") return found;
  if (typeof found === "string") return found.length > 2000 ? `${found.slice(0, 2000)}…` : found;
  return found === null || found === undefined ? "" : JSON.stringify(found);
}

/** What an asset is made of, and what is made of it, nearest first. */
function Lineage({ id, graph }: { id: string; graph: Schemas["GraphSeen"] }) {
  const [up, down] = useMemo(() => [reach(id, graph, "up"), reach(id, graph, "down")], [id, graph]);
  return (
    <div className="sx-columns">
      <Card title="Made from" note={up.length ? plural(up.length, "asset") : undefined}>
        <Nodes found={up} none="It is a source: nothing here feeds it." />
      </Card>
      <Card title="Read by" note={down.length ? plural(down.length, "asset") : undefined}>
        <Nodes found={down} none="Nothing reads it yet." />
      </Card>
    </div>
  );
}

function reach(id: string, graph: Schemas["GraphSeen"], way: "up" | "down"): [string, number][] {
  const next = new Map<string, string[]>();
  for (const edge of graph.edges) {
    const [from, to] = way === "down" ? [edge.source, edge.target] : [edge.target, edge.source];
    next.set(from, [...(next.get(from) ?? []), to]);
  }
  const found = new Map<string, number>([[id, 0]]);
  const queue = [id];
  for (let at = queue.shift(); at !== undefined; at = queue.shift())
    for (const one of next.get(at) ?? [])
      if (!found.has(one)) {
        found.set(one, (found.get(at) ?? 0) + 1);
        queue.push(one);
      }
  found.delete(id);
  return [...found];
}

function Nodes({ found, none }: { found: [string, number][]; none: string }) {
  if (!found.length) return <p className="sx-dim">{none}</p>;
  return (
    <ul className="sx-lineage">
      {found.slice(0, 500).map(([one, far]) => (
        <li key={one}>
          <AssetLink id={one} />
          <span className="sx-dim">{far === 1 ? "directly" : `${far} steps away`}</span>
        </li>
      ))}
      {found.length > 500 && <li className="sx-dim">and {count(found.length - 500)} more</li>}
    </ul>
  );
}
