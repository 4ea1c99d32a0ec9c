// What the values of each column of an asset are like: counts, range, distribution, most frequent values; beside those of
// the version before.
import { useMemo, useState } from "react";
import { ask, type Schemas } from "../api/client";
import { kept } from "../api/pages";
import { command, Id } from "./command";
import { MadeOf, ReadBy } from "./ends";
import { count, plural } from "./format";
import { Empty, Shown } from "./problem";
import { type Column, DataTable } from "./table";
import "../styles/profile.css";

type Seen = Schemas["ColumnSeen"];
type Values = Schemas["ColumnFacts"];
type Side = Schemas["ProfileSide"];

const W = 120;
const H = 24;
const TOP_SHOWN = 3;

export function Columns({ id, env }: { id: string; env: string }) {
  const [compared, setCompared] = useState(false);
  const against = compared ? "before" : "";
  const found = ask.useQuery(
    "get",
    "/api/v1/assets/{asset}/profile",
    { params: { path: { asset: id }, query: { env, against } } },
    { enabled: env !== "", placeholderData: kept({ asset: id, env }), retry: false },
  );
  const isCompared = Boolean(found.data?.before);
  const way = ask.useQuery("get", "/api/v1/graph/columns", { params: { query: { asset: id, env } } }, { enabled: env !== "", retry: false });
  const columns = useMemo(() => {
    const ends: Column<Seen>[] = [
      { id: "made", header: "Made of", value: () => "", cell: (one) => <MadeOf data={way.data} column={one.name} />, width: "minmax(8rem, 2fr)", phone: true },
      { id: "read", header: "Read by", value: () => "", cell: (one) => <ReadBy data={way.data} column={one.name} />, width: "minmax(8rem, 2fr)" },
    ];
    return [...COLUMNS, ...ends, ...(isCompared ? CHANGES : [])];
  }, [isCompared, way.data]);
  const choose = (
    <label className="sx-check">
      <input type="checkbox" checked={compared} onChange={(event) => setCompared(event.currentTarget.checked)} /> beside the version before
    </label>
  );
  return (
    <>
      {found.error && compared && choose}
      <Shown query={found}>
        {(data) => (
          <>
            <Coverage side={data.now} id={id} />
            {data.before && <Coverage side={data.before} id={id} before />}
            <DataTable
              id="columns"
              label="columns"
              rows={data.columns}
              columns={columns}
              rowId={(one) => one.name}
              tools={choose}
              empty={<Empty title="It has no columns yet." lines={command("run", id, "--env", env)} />}
            />
          </>
        )}
      </Shown>
    </>
  );
}

/** Of how many rows a profile is, and which partitions it lacks, with what mends that. */
function Coverage({ side, id, before = false }: { side: Side; id: string; before?: boolean }) {
  return (
    <div className="sx-profile-of">
      <p className="sx-dim">
        {before ? "before: version " : "version "}
        <Id id={side.version} />, {plural(side.rows, "row")} of {plural(side.partitions, "partition")}
      </p>
      {side.missing > 0 && (
        <Empty title={`${plural(side.missing, "partition")} ${side.missing === 1 ? "has" : "have"} no profile.`} lines={command("doctor", "--data")}>
          From {side.missing_first} to {side.missing_last}: made by an earlier release, or the file is damaged. This command makes the profiles of the rows; {id} stays as it is.
        </Empty>
      )}
      {side.damaged.map((text) => (
        <p key={text}>{text}</p>
      ))}
    </div>
  );
}

const COLUMNS: Column<Seen>[] = [
  {
    id: "name",
    header: "Column",
    value: (one) => one.name,
    cell: (one) => (
      <>
        <bdi title={one.name}>{one.name}</bdi>
        {one.hidden && <span className="sx-chip">personal</span>}
        {!one.now && <span className="sx-chip">gone</span>}
      </>
    ),
    width: "minmax(8rem, 1.5fr)",
    phone: true,
  },
  { id: "type", header: "Type", value: (one) => one.type, cell: (one) => <code title={one.type}>{one.type}</code>, width: "minmax(6rem, 1fr)" },
  { id: "nulls", header: "Nulls", value: (one) => one.now?.nulls ?? 0, cell: (one) => share(one.now), width: "5rem", right: true, phone: true },
  { id: "distinct", header: "Distinct", value: (one) => one.now?.distinct ?? 0, cell: (one) => distinct(one.now), width: "7rem", right: true },
  { id: "range", header: "Range", value: (one) => (one.hidden ? "hidden" : range(one.now)), cell: (one) => (one.hidden ? <Hidden /> : <bdi title={range(one.now)}>{range(one.now)}</bdi>), width: "minmax(9rem, 2fr)" },
  { id: "mean", header: "Mean", value: (one) => shown(one.now?.mean), cell: (one) => (one.hidden ? "" : shown(one.now?.mean)), width: "minmax(6rem, 1fr)", right: true },
  { id: "values", header: "Values", value: (one) => (one.hidden ? "hidden" : inWords(one.now)), cell: (one) => (one.hidden ? <Hidden /> : <Distribution facts={one.now} />), width: "minmax(9rem, 2fr)", phone: true },
];

const CHANGES: Column<Seen>[] = [
  { id: "nulls-change", header: "Nulls ±", value: (one) => one.change?.nulls_share ?? 0, cell: (one) => difference(one, one.change?.nulls_share, PERCENT), width: "6rem", right: true },
  { id: "distinct-change", header: "Distinct ±", value: (one) => one.change?.distinct ?? 0, cell: (one) => difference(one, one.change?.distinct, SIGNED), width: "6.5rem", right: true },
  { id: "mean-change", header: "Mean ±", value: (one) => one.change?.mean ?? 0, cell: (one) => difference(one, one.change?.mean, SIGNED), width: "6.5rem", right: true },
  { id: "shift", header: "Shift", value: (one) => one.change?.shift ?? 0, cell: (one) => <Shift of={one} />, width: "5.5rem", right: true },
];

const PERCENT = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1, signDisplay: "exceptZero" });
const SIGNED = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 6, signDisplay: "exceptZero" });
const NUMBER = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 6 });

function Hidden() {
  return <span className="sx-dim">hidden</span>;
}

function share(facts: Values | null | undefined): string {
  if (!facts) return "";
  if (!facts.nulls) return "0";
  const found = (100 * facts.nulls) / facts.rows;
  return found >= 0.1 ? `${found.toFixed(1)}%` : "<0.1%";
}

function distinct(facts: Values | null | undefined) {
  if (!facts || facts.distinct === null) return "";
  if (!facts.distinct_error) return count(facts.distinct);
  return <span title={`an estimate: the standard error is ${(100 * facts.distinct_error).toFixed(1)} %`}>≈ {count(facts.distinct)}</span>;
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "number" ? (Number.isInteger(value) ? String(value) : NUMBER.format(value)) : String(value);
}

function range(facts: Values | null | undefined): string {
  if (!facts) return "";
  if (facts.lengths) return facts.lengths.low === facts.lengths.high ? `length ${facts.lengths.low}` : `length ${facts.lengths.low} to ${facts.lengths.high}`;
  return facts.low === null ? "" : `${shown(facts.low)} to ${shown(facts.high)}`;
}

/** The distribution as a sentence: what the bars, or the most frequent values, say. */
function inWords(facts: Values | null | undefined): string {
  if (!facts) return "";
  const about = facts.top_exact ? "" : "about ";
  if (facts.top.length) return facts.top.map((one) => `${one.value || '""'}: ${about}${count(one.count)}`).join(", ");
  if (!facts.counts.length) return "";
  const told = Object.entries(facts.quantiles).map(([at, value]) => `${Math.round(100 * Number(at))}% up to ${shown(value)}`);
  return `${told.join(", ")}${facts.sampled ? ", of a sample" : ""}`;
}

function Distribution({ facts }: { facts: Values | null | undefined }) {
  if (!facts) return null;
  const words = inWords(facts);
  if (facts.top.length) {
    const rest = facts.top.length - TOP_SHOWN;
    return (
      <span title={words}>
        {facts.top.slice(0, TOP_SHOWN).map((one, at) => (
          <span key={one.value}>
            {at > 0 && ", "}
            <bdi>{one.value || '""'}</bdi> <span className="sx-dim">{`${facts.top_exact ? "" : "≈ "}${count(one.count)}`}</span>
          </span>
        ))}
        {rest > 0 && <span className="sx-dim"> …</span>}
      </span>
    );
  }
  const most = Math.max(...facts.counts, 1);
  const wide = W / Math.max(facts.counts.length, 1);
  if (!facts.counts.length) return null;
  return (
    <svg className="sx-profile-bars" viewBox={`0 0 ${W} ${H}`} preserveAspectRatio="none" role="img" aria-label={words}>
      <title>{words}</title>
      {facts.counts.map((one, at) => {
        const high = one ? Math.max((one / most) * H, 1) : 0;
        return <rect key={shown(facts.edges[at])} x={at * wide + 0.5} y={H - high} width={Math.max(wide - 1, 0.5)} height={high} />;
      })}
    </svg>
  );
}

function difference(one: Seen, value: number | null | undefined, format: Intl.NumberFormat) {
  if (!one.change) return one.now ? "new" : "";
  return value ? format.format(value) : "";
}

/** How far apart two distributions are, 0 to 1. */
function Shift({ of }: { of: Seen }) {
  const shift = of.change?.shift;
  if (shift === null || shift === undefined) return of.hidden ? <Hidden /> : null;
  return <span title="the largest difference between the shares of values below any value: 0 = the same, 1 = no overlap">{shift.toFixed(3)}</span>;
}
