// The plan: what would run and why, what it costs, what a version of the project brings, and what is left out; to start
// it here.
import { Button, TextInput } from "@mantine/core";
import { IconListCheck, IconPlayerPlay, IconRefresh } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type ReactNode, useMemo, useState } from "react";
import { ask, type Schemas } from "../api/client";
import { kept } from "../api/pages";
import { useSession } from "../frame/session";
import { useEnv } from "../frame/shell";
import { Action } from "../parts/action";
import { command, Id, Lines } from "../parts/command";
import { bytes, count, nameOf, plural, who } from "../parts/format";
import { AssetLink, Card, Facts, Head, ReleaseLink } from "../parts/links";
import { Empty, Shown } from "../parts/problem";
import { startRun } from "../parts/start";
import { State } from "../parts/state";
import { type Column, DataTable } from "../parts/table";
import { length } from "../parts/time";
import "../styles/plan.css";

type Plan = Schemas["Plan"];
type Step = Schemas["PlannedStep"];

interface Chosen {
  select: string;
  partition: string;
  stale: boolean;
  only: boolean;
  pinned: boolean;
}

/** What a version of the project changes, as `diff` says it. */
interface Changes {
  added?: string[];
  removed?: string[];
  changed?: Record<string, string[]>;
  project?: string[];
  weakens?: { of: string; word: string; text: string }[];
  blinds?: { watch: string; why: string }[];
}

const SHOWN_MAX = 30;

function words(select: string): string[] {
  return select.split(/\s+/).filter(Boolean);
}

/** Partitions as people read them: one, or the first and the last. */
function span(keys: string[]): string {
  return keys.length > 1 ? `${keys[0]} … ${keys.at(-1)}` : (keys[0] ?? "");
}

function reasons(step: Step): string {
  const counted = new Map<string, number>();
  for (const item of step.items) counted.set(item.reason, (counted.get(item.reason) ?? 0) + 1);
  return [...counted].map(([reason, n]) => (step.items.length > 1 ? `${count(n)} ${reason}` : reason)).join(", ");
}

export default function PlanPage() {
  const env = useEnv();
  const search = useSearch({ from: "/plan" });
  const navigate = useNavigate();
  const chosen: Chosen = {
    select: search.select ?? "",
    partition: search.partition ?? "",
    stale: search.stale === "true",
    only: search.only === "true",
    pinned: search.pinned === "true",
  };
  const { select, ...flags } = chosen;
  const plan = ask.useQuery("get", "/api/v1/plan", { params: { query: { env, assets: words(select), ...flags } } }, { enabled: env !== "", placeholderData: kept({ env }) });
  const set = (next: Chosen) =>
    void navigate({
      to: "/plan",
      search: (before) => ({
        env: before.env,
        select: next.select || undefined,
        partition: next.partition || undefined,
        stale: next.stale ? "true" : undefined,
        only: next.only ? "true" : undefined,
        pinned: next.pinned ? "true" : undefined,
      }),
      replace: true,
    });
  const line = (verb: string, ...more: string[]) =>
    command(verb, ...words(select), chosen.partition && "--partition", chosen.partition, chosen.stale && verb === "plan" && "--stale", chosen.only && "--only", chosen.pinned && "--pinned", "--env", env, ...more);

  return (
    <div className="sx-page">
      <Shown query={plan}>
        {(data) => (
          <Head title="Plan" actions={!plan.isPlaceholderData && <Start chosen={chosen} env={env} plan={data} line={line} />}>
            <Summary plan={data} />
          </Head>
        )}
      </Shown>
      <Choice key={`${select} ${chosen.partition}`} chosen={chosen} busy={plan.isFetching} onChoose={set} onAgain={() => void plan.refetch()} />
      {plan.data && (
        <>
          {plan.data.warnings?.map((text) => (
            <p key={text} className="sx-warned" dir="auto">
              <State state="warned" /> {text}
            </p>
          ))}
          {plan.data.project && <Brings move={plan.data.project} />}
          <WouldRun plan={plan.data} />
          <LeftOut plan={plan.data} onStale={chosen.stale ? undefined : () => set({ ...chosen, stale: true })} />
          <More plan={plan.data} />
          <Card title="The same on the command line">
            <Lines text={`${line("plan")}\n${line("run")}`} />
          </Card>
        </>
      )}
    </div>
  );
}

function Summary({ plan }: { plan: Plan }) {
  const steps = plan.steps ?? [];
  const partitions = steps.reduce((all, step) => all + step.items.length, 0);
  const seconds = steps.reduce((all, step) => all + (step.seconds ?? 0), 0);
  const size = steps.reduce((all, step) => all + (step.size_bytes ?? 0), 0);
  const untimed = steps.filter((step) => step.seconds === null || step.seconds === undefined).length;
  const reused = steps.reduce((all, step) => all + step.items.filter((item) => item.reused).length, 0);
  if (!steps.length) return <span>nothing is due</span>;
  return (
    <>
      <span>{plural(steps.length, "step")}</span>
      <span>{plural(partitions, "partition")}</span>
      {reused > 0 && <span>{count(reused)} reused from kept versions</span>}
      <span>{seconds ? `about ${length(seconds)} of work` : untimed ? "no step was timed before" : "nothing to compute"}</span>
      {seconds > 0 && untimed > 0 && <span>{plural(untimed, "step")} never timed</span>}
      {size > 0 && <span>{bytes(size)}</span>}
    </>
  );
}

function Choice({ chosen, busy, onChoose, onAgain }: { chosen: Chosen; busy: boolean; onChoose: (next: Chosen) => void; onAgain: () => void }) {
  const [select, setSelect] = useState(chosen.select);
  const [partition, setPartition] = useState(chosen.partition);
  const box = (name: "stale" | "only" | "pinned", label: string, title: string) => (
    <label className="sx-check" title={title}>
      <input type="checkbox" checked={chosen[name]} onChange={(event) => onChoose({ ...chosen, select, partition, [name]: event.currentTarget.checked })} /> {label}
    </label>
  );
  return (
    <form
      className="sx-plan-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (select === chosen.select && partition === chosen.partition) onAgain();
        else onChoose({ ...chosen, select: select.trim(), partition: partition.trim() });
      }}
    >
      <TextInput size="xs" label="Select" placeholder="all; or orders, +orders, tag:daily" maxLength={4000} value={select} onChange={(event) => setSelect(event.currentTarget.value)} />
      <TextInput size="xs" label="Partitions" placeholder="all; or A..B" maxLength={200} value={partition} onChange={(event) => setPartition(event.currentTarget.value)} />
      <div className="sx-checks">
        {box("stale", "also what is stale", "Also what its code has changed since it was made")}
        {box("only", "only these", "Without what reads them")}
        {box("pinned", "as in force", "By the version of the project that is in force in the environment, whatever the folder has")}
      </div>
      <Button type="submit" size="xs" variant="default" loading={busy} leftSection={select === chosen.select && partition === chosen.partition ? <IconRefresh size={14} /> : <IconListCheck size={14} />}>
        Plan
      </Button>
    </form>
  );
}

function Start({ chosen, env, plan, line }: { chosen: Chosen; env: string; plan: Plan; line: (verb: string, ...more: string[]) => string }) {
  const { name } = useSession();
  const queries = useQueryClient();
  const navigate = useNavigate();
  const steps = plan.steps?.length ?? 0;
  const body = { env, assets: words(chosen.select), partition: chosen.partition, stale: chosen.stale, only: chosen.only, pinned: chosen.pinned };
  const done = (answer: { data: { id: string } }) => {
    void queries.invalidateQueries();
    if (answer.data.id) void navigate({ to: "/runs/$run", params: { run: answer.data.id } });
  };
  const named = Boolean(chosen.select || chosen.partition);
  return (
    <>
      {(steps > 0 || (plan.definitions?.length ?? 0) > 0 || plan.project) && (
        <Action
          spec={{
            label: "Run it",
            primary: true,
            icon: <IconPlayerPlay size={15} />,
            title: `Run this plan in ${env}`,
            says: (
              <>
                <p>
                  Makes {plural(steps, "step")} in {env}, checks them and publishes what passes. What has changed since you looked is taken as it then is.
                </p>
                {plan.project && <p>First the version of the project is released that the folder has.</p>}
              </>
            ),
            command: () => line("run"),
            act: () => startRun(body, name),
            done,
          }}
        />
      )}
      {named && (
        <Action
          spec={{
            label: "Make again",
            icon: <IconRefresh size={15} />,
            title: `Make again in ${env}`,
            says: `Makes ${chosen.select || "all assets"}${chosen.partition ? ` of ${chosen.partition}` : ""} again, also what is up to date; what reads it follows where it comes out different.`,
            command: () => line("run", "--force"),
            act: () => startRun({ ...body, force: true }, name),
            done,
          }}
        />
      )}
    </>
  );
}

function WouldRun({ plan }: { plan: Plan }) {
  const navigate = useNavigate();
  const steps = plan.steps ?? [];
  const columns = useMemo<Column<Step>[]>(
    () => [
      { id: "asset", header: "Asset", value: (step) => nameOf(step.asset), cell: (step) => <AssetLink id={step.asset} />, width: "minmax(11rem, 2fr)", phone: true },
      { id: "partitions", header: "Partitions", value: (step) => span(step.items.map((item) => item.partition)), width: "minmax(13.5rem, 1.3fr)", phone: true },
      { id: "count", header: "Count", value: (step) => step.items.length, cell: (step) => count(step.items.length), width: "4.5rem", right: true },
      {
        id: "why",
        header: "Why",
        value: reasons,
        cell: (step) => {
          const causes = step.items.flatMap((item) => plan.causes?.[step.asset]?.[item.reason] ?? []);
          const text = [...new Set(causes)].join(", ");
          return (
            <span title={text}>
              {reasons(step)}
              {text && <span className="sx-dim"> · {text}</span>}
            </span>
          );
        },
        width: "minmax(11rem, 2.4fr)",
        phone: true,
      },
      { id: "reused", header: "Reused", value: (step) => step.items.filter((item) => item.reused).length, width: "5rem", right: true },
      { id: "seconds", header: "Takes about", value: (step) => step.seconds ?? -1, cell: (step) =>
          step.items.every((item) => item.reused) ? (
            <span className="sx-dim">reused</span>
          ) : step.seconds === null || step.seconds === undefined ? (
            <span className="sx-dim">not known</span>
          ) : (
            length(step.seconds)
          ), width: "6.5rem", right: true },
      { id: "size", header: "Size", value: (step) => step.size_bytes ?? 0, cell: (step) => (step.size_bytes ? bytes(step.size_bytes) : "-"), width: "5.5rem", right: true },
      { id: "deps", header: "After", value: (step) => (step.deps ?? []).length, cell: (step) => <span title={(step.deps ?? []).join("\n")}>{step.deps?.length ? plural(step.deps.length, "step") : "-"}</span>, width: "5.5rem" },
    ],
    [plan.causes],
  );
  if (!steps.length)
    return (
      <Empty title={Object.keys(plan.up_to_date ?? {}).length ? "Nothing would run: what is selected is up to date." : "Nothing would run."}>
        {plural(Object.values(plan.up_to_date ?? {}).reduce((all, n) => all + n, 0), "partition")} of {plural(Object.keys(plan.up_to_date ?? {}).length, "asset")} are up to date.
      </Empty>
    );
  return (
    <Card title="What would run" note={plural(steps.length, "step")}>
      <DataTable
        id="plan"
        label="planned steps"
        rows={steps}
        columns={columns}
        rowId={(step) => step.id}
        onOpen={(step) => void navigate({ to: "/assets/$asset", params: { asset: step.asset } })}
        empty={null}
      />
    </Card>
  );
}

interface Left {
  asset: string;
  state: string;
  partitions: string[];
  why: ReactNode;
  text: string;
}

function LeftOut({ plan, onStale }: { plan: Plan; onStale: (() => void) | undefined }) {
  const rows = useMemo<Left[]>(() => {
    const found: Left[] = [];
    for (const [asset, keys] of Object.entries(plan.waiting ?? {})) found.push({ asset, state: "waiting", partitions: keys, why: "an input has no such partition yet", text: "" });
    for (const [asset, keys] of Object.entries(plan.held ?? {}))
      found.push({ asset, state: "held", partitions: keys, why: plan.held_by?.[asset] ? <Id id={plan.held_by[asset]} /> : "undone, and neither code nor inputs changed since", text: plan.held_by?.[asset] ?? "" });
    for (const [asset, release] of Object.entries(plan.rolling ?? {}))
      found.push({
        asset,
        state: "rolling",
        partitions: [],
        why: (
          <>
            release <ReleaseLink id={release} /> is on its way
          </>
        ),
        text: release,
      });
    for (const [asset, keys] of Object.entries(plan.stale ?? {})) {
      const cost = plan.stale_seconds?.[asset];
      const why = `${[...new Set(Object.values(keys))].join(", ")}${cost ? `; about ${length(cost)} to make again` : ""}`;
      found.push({ asset, state: "stale", partitions: Object.keys(keys).toSorted(), why, text: why });
    }
    return found;
  }, [plan]);
  const columns = useMemo<Column<Left>[]>(
    () => [
      { id: "state", header: "State", value: (one) => one.state, cell: (one) => <State state={one.state} />, width: "7rem", phone: true },
      { id: "asset", header: "Asset", value: (one) => nameOf(one.asset), cell: (one) => <AssetLink id={one.asset} />, width: "minmax(11rem, 1.5fr)", phone: true },
      { id: "count", header: "Partitions", value: (one) => one.partitions.length, cell: (one) => count(one.partitions.length), width: "6rem", right: true },
      { id: "which", header: "Which", value: (one) => span(one.partitions), width: "minmax(13.5rem, 1fr)" },
      { id: "why", header: "Why", value: (one) => one.text, cell: (one) => <span dir="auto">{one.why}</span>, width: "minmax(12rem, 2fr)", phone: true },
    ],
    [],
  );
  if (!rows.length) return null;
  const stale = rows.some((one) => one.state === "stale");
  return (
    <Card title="What would not run" note={plural(rows.length, "asset")}>
      <DataTable
        id="plan-left"
        label="what would not run"
        rows={rows}
        columns={columns}
        rowId={(one) => `${one.state} ${one.asset}`}
        tools={
          stale && onStale ? (
            <Button size="compact-sm" variant="default" onClick={onStale}>
              Plan also what is stale
            </Button>
          ) : undefined
        }
        empty={null}
      />
    </Card>
  );
}

/** What a version of the project would bring to the environment. */
function Brings({ move }: { move: Schemas["ProjectMove"] }) {
  const changes = (move.changes ?? {}) as Changes;
  const changed = Object.entries(changes.changed ?? {});
  return (
    <Card title="What the project brings" note={move.older ? "an older version: it takes back what came since" : "released first"}>
      <Facts
        facts={[
          [
            "Version",
            <span key="version" className="sx-plan-move">
              {move.source ? <Id id={move.source} /> : "none yet"} → <Id id={move.target} />
            </span>,
          ],
          ...(move.commit ? ([["Commit", <Id key="commit" id={move.commit} />]] as [string, ReactNode][]) : []),
          ...(move.uncommitted?.length ? ([["Not committed", move.uncommitted.join(", ")]] as [string, ReactNode][]) : []),
          ["The rules", `${move.verdict === "allow" ? "allow it" : move.verdict === "deny" ? "deny it" : "ask for approval"}${move.reasons?.length ? `: ${move.reasons.join("; ")}` : ""}`],
          ...(move.needs?.length
            ? ([["Must agree", move.needs.map((need) => `${count(need.count)}${need.of ? ` of ${need.of}` : ""}${need.by?.length ? ` (${need.by.map(who).join(", ")})` : ""}`).join(", ")]] as [string, ReactNode][])
            : []),
          ...(changes.added?.length ? ([["Added", <Assets key="added" ids={changes.added} />]] as [string, ReactNode][]) : []),
          ...(changes.removed?.length ? ([["Removed", changes.removed.slice(0, SHOWN_MAX).join(", ")]] as [string, ReactNode][]) : []),
          ...(changes.project?.length ? ([["Of the project", changes.project.join("; ")]] as [string, ReactNode][]) : []),
        ]}
      />
      {changed.length > 0 && (
        <ul className="sx-moves">
          {changed.slice(0, SHOWN_MAX).map(([id, what]) => (
            <li key={id}>
              <AssetLink id={id} /> <span className="sx-dim">{what.join(", ")}</span>
            </li>
          ))}
          {changed.length > SHOWN_MAX && <li className="sx-dim">and {count(changed.length - SHOWN_MAX)} more</li>}
        </ul>
      )}
      {(changes.weakens?.length ?? 0) > 0 && (
        <>
          <h3>It weakens</h3>
          <ul className="sx-moves">
            {changes.weakens?.slice(0, SHOWN_MAX).map((one) => (
              <li key={`${one.of} ${one.word} ${one.text}`} dir="auto">
                <State state="warned" title="weaker" /> {one.of}: {one.word}: {one.text}
              </li>
            ))}
          </ul>
        </>
      )}
      {(changes.blinds?.length ?? 0) > 0 && (
        <>
          <h3>It blinds</h3>
          <ul className="sx-moves">
            {changes.blinds?.slice(0, SHOWN_MAX).map((one) => (
              <li key={`${one.watch} ${one.why}`} dir="auto">
                <State state="warned" title="sees nothing" /> {one.watch}: {one.why}
              </li>
            ))}
          </ul>
        </>
      )}
    </Card>
  );
}

function Assets({ ids }: { ids: string[] }) {
  return (
    <>
      {ids.slice(0, SHOWN_MAX).map((id) => (
        <AssetLink key={id} id={id} />
      ))}
      {ids.length > SHOWN_MAX && <span className="sx-dim">and {count(ids.length - SHOWN_MAX)} more</span>}
    </>
  );
}

/** Definitions that become live, how releases are rolled out, and what could not be checked. */
function More({ plan }: { plan: Plan }) {
  const facts: [string, ReactNode][] = [];
  for (const one of plan.definitions ?? [])
    facts.push([
      `Definition of ${nameOf(one.asset)}`,
      <span key={one.asset} className="sx-plan-move">
        {one.source ? <Id id={one.source} /> : "none yet"} → <Id id={one.target} />
      </span>,
    ]);
  for (const [asset, strategy] of Object.entries(plan.strategies ?? {})) facts.push([`Roll-out of ${nameOf(asset)}`, `${strategy.kind}${(strategy.steps?.length ?? 0) > 1 ? `: ${strategy.steps?.join(", ")} %` : ""}`]);
  for (const [asset, inputs] of Object.entries(plan.unchecked ?? {})) facts.push([`Not checked of ${nameOf(asset)}`, Object.entries(inputs).map(([input, why]) => `${input}: ${why}`).join("; ")]);
  for (const [asset, columns] of Object.entries(plan.personal ?? {})) facts.push([`Personal in ${nameOf(asset)}`, columns.join(", ")]);
  if (!facts.length) return null;
  return (
    <Card title="To know before">
      <Facts facts={facts.slice(0, 100)} />
    </Card>
  );
}
