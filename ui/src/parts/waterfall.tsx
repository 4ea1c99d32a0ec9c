// What moved a number, as bars that add up: the rows themselves, and each change. What was never live is derived when
// somebody asks for it. Texts and widths are of the decimals that the API gives; nothing is added up here.
import { Button, NativeSelect } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { api, ask, type Schemas } from "../api/client";
import { useSession } from "../frame/session";
import { command, Lines } from "./command";
import { plural } from "./format";
import { AssetLink, Card } from "./links";
import { shownValue } from "./number";
import { Problem, Shown } from "./problem";
import { Time } from "./time";

type Seen = Schemas["WaterfallSeen"];
type Bar = Schemas["WaterfallBar"];

const PATH = "/api/v1/assets/{asset}/waterfall";

/** `before` and `after` are parts of time; "" and "": the newest, and the one before it. */
export function Waterfall({ name, env, before, after, dimensions }: { name: string; env: string; before: string; after: string; dimensions: string[] }) {
  const search = useSearch({ from: "/kpis/$name" });
  const navigate = useNavigate();
  const queries = useQueryClient();
  const { may } = useSession();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const id = `kpi:${name}`;
  const known = search.sum === "known";
  const split = search.split && dimensions.includes(search.split) ? search.split : "";
  // the newest part of time has no name here: the answer to the question without one says it
  const newest = ask.useQuery("get", PATH, { params: { path: { asset: id }, query: { before, after, by: [], env } } }, { enabled: env !== "" && known && !after, retry: false });
  const end = newest.data?.after;
  const span = after || (end?.since ? `${end.since}/${end.until}` : "");
  const asked = known ? { before: "", after: span, by: [], env } : { before, after, by: split ? [split] : [], env };
  const found = ask.useQuery("get", PATH, { params: { path: { asset: id }, query: asked } }, { enabled: env !== "" && (!known || span !== ""), retry: false });
  const set = (values: Record<string, string | undefined>) => void navigate({ to: ".", search: (old) => ({ ...old, ...values }), replace: true });

  const derive = async () => {
    setBusy(true);
    setError(null);
    try {
      await api.POST(PATH, { params: { path: { asset: id } }, body: asked });
      await queries.invalidateQueries({ queryKey: ["get", PATH] });
    } catch (failed) {
      setError(failed as Error);
    } finally {
      setBusy(false);
    }
  };

  return (
    <Card title="What moved it, as a sum" note={found.data?.run ? "derived" : undefined}>
      <div className="sx-chart-tools">
        <NativeSelect
          size="xs"
          aria-label="Difference"
          data={[
            { value: "", label: "against the time before" },
            { value: "known", label: "as it was known first, and now" },
          ]}
          value={known ? "known" : ""}
          onChange={(event) => set({ sum: event.currentTarget.value || undefined })}
        />
        {dimensions.length > 0 && !known && (
          <NativeSelect size="xs" aria-label="Split the movement" data={[{ value: "", label: "movement in one" }, ...dimensions.map((one) => ({ value: one, label: `movement by ${one}` }))]} value={split} onChange={(event) => set({ split: event.currentTarget.value || undefined })} />
        )}
      </div>
      <Shown query={known && !span ? newest : found}>
        {(data) => (
          <>
            <Restated seen={data} />
            {data.bars ? <Bars seen={data} bars={data.bars} /> : <Changes seen={data} />}
            {!data.bars && may("operator") && (
              <p>
                <Button size="compact-sm" loading={busy} onClick={() => void derive()}>
                  Derive the number without each of them
                </Button>{" "}
                <span className="sx-dim" role="status">
                  {plural(data.cost.partitions, "partition")} in {plural(data.cost.steps, "step")}, about {Math.ceil(data.cost.seconds)} s; nothing of it is released
                </span>
              </p>
            )}
            {error && <Problem error={error} asked />}
            {data.notes.map((note) => (
              <p key={note} className="sx-dim">
                {note}
              </p>
            ))}
          </>
        )}
      </Shown>
      <details className="sx-cli">
        <summary>The same on the command line</summary>
        <Lines text={command("waterfall", name, known ? span : after && `${before}..${after}`, !known && split && "--by", !known && split)} />
      </details>
    </Card>
  );
}

function Restated({ seen }: { seen: Seen }) {
  const { now, then, by } = seen.restated;
  const when = seen.before.since ? `${seen.before.since} to before ${seen.before.until}` : "It";
  if (!now) return <p>{when} has no value any more, as known now.</p>;
  if (by === "0") return <p className="sx-dim">{when} is known now as it was then: nothing is restated.</p>;
  return (
    <p>
      <strong className="sx-restated">Restated</strong>: {when} was {shownValue(then, seen.format)} then and is {shownValue(now, seen.format)} now.
    </p>
  );
}

function Changes({ seen }: { seen: Seen }) {
  return (
    <>
      <p>{seen.changes.length ? `${plural(seen.changes.length, "change")} can have moved it; what the number is without each of them is not known yet:` : "Nothing was changed; what the rows have moved is not known yet."}</p>
      <ul className="sx-lines-list">
        {seen.changes.map((one) => (
          <li key={`${one.release} ${one.text}`}>
            <span className="sx-what">
              <What bar={one} />
            </span>
            <span className="sx-end">{one.at && <Time at={one.at} />}</span>
          </li>
        ))}
      </ul>
    </>
  );
}

/** Where a bar begins and ends, in percent of the width. */
interface Place {
  from: number;
  to: number;
}

function places(seen: Seen, bars: Bar[]): Place[] {
  const ends = [Number(seen.before.value)];
  for (const bar of bars) ends.push((ends.at(-1) ?? 0) + Number(bar.amount));
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const at = (value: number) => 2 + ((value - low) / (high - low || 1)) * 96;
  return bars.map((_, n) => ({ from: at(ends[n] ?? 0), to: at(ends[n + 1] ?? 0) }));
}

function Bars({ seen, bars }: { seen: Seen; bars: Bar[] }) {
  const found = places(seen, bars);
  const say = (text: string) => shownValue(text, seen.format, true);
  const unsure = bars.some((bar) => bar.sure !== "proven" || bar.kept === false);
  return (
    <>
      <div className="sx-scroll">
        <table className="sx-moves-table sx-waterfall">
          <thead>
            <tr>
              <th scope="col">What</th>
              <th scope="col">Moved it by</th>
              <th scope="col" aria-hidden="true" />
              <th scope="col">Without it</th>
              <th scope="col">Who</th>
            </tr>
          </thead>
          <tbody>
            <End label="Before" side={seen.before} seen={seen} at={found[0]?.from ?? 2} />
            {bars.map((bar, n) => (
              <tr key={`${bar.what} ${bar.release} ${bar.text}`}>
                <th scope="row">
                  <What bar={bar} />
                  {bar.what === "together" && bar.changes && <span className="sx-dim"> ({plural(bar.changes.length, "change")})</span>}
                </th>
                <td className="sx-number" title={bar.amount}>
                  {say(bar.amount)}
                  {bar.interval && (
                    <span className="sx-dim" title="interval of 95 %">
                      {" "}
                      {say(bar.interval[0] ?? "")} to {say(bar.interval[1] ?? "")}
                    </span>
                  )}
                </td>
                <td className="sx-waterfall-place" aria-hidden="true">
                  <Drawn place={found[n] ?? { from: 2, to: 2 }} bar={bar} />
                </td>
                <td className="sx-number">{bar.without === undefined ? "" : shownValue(bar.without, seen.format)}</td>
                <td>
                  {bar.owner && <span>{bar.owner}</span>} {bar.by && <span className="sx-dim">{bar.by}</span>} {bar.release && <span className={`sx-chip${bar.sure === "proven" ? "" : " sx-unsure"}`}>{bar.kept === false ? "not kept any more" : bar.sure}</span>}
                </td>
              </tr>
            ))}
            <End label="After" side={seen.after} seen={seen} at={found.at(-1)?.to ?? 2} />
          </tbody>
        </table>
      </div>
      <ul className="sx-legend">
        <li>
          <i className="sx-key-bar sx-up" /> up
        </li>
        <li>
          <i className="sx-key-bar sx-down" /> down
        </li>
        {unsure && (
          <li>
            <i className="sx-key-bar sx-up sx-hatched" /> hatched: not proven, or not kept any more
          </li>
        )}
        {seen.sampled && <li className="sx-dim">shares are of a sample of the orders in which {plural(seen.changes.length, "change")} can come, with intervals of 95 %</li>}
      </ul>
    </>
  );
}

function End({ label, side, seen, at }: { label: string; side: Schemas["WaterfallSide"]; seen: Seen; at: number }) {
  return (
    <tr className="sx-waterfall-end">
      <th scope="row">
        {label} <span className="sx-dim">{side.since && `${side.since} to before ${side.until}`}</span>
      </th>
      <td className="sx-number" title={side.value}>
        <strong>{shownValue(side.value, seen.format)}</strong> <span className="sx-dim">{seen.unit}</span>
      </td>
      <td className="sx-waterfall-place" aria-hidden="true">
        <svg viewBox="0 0 100 16" preserveAspectRatio="none">
          <line className="sx-waterfall-at" x1={at} x2={at} y1={0} y2={16} />
        </svg>
      </td>
      <td colSpan={2} className="sx-dim">
        as known <Time at={side.known_at} />
      </td>
    </tr>
  );
}

function Drawn({ place, bar }: { place: Place; bar: Bar }) {
  const [left, right] = [Math.min(place.from, place.to), Math.max(place.from, place.to)];
  const up = place.to >= place.from;
  const hatched = bar.sure !== "proven" || bar.kept === false;
  const width = Math.max(0.6, right - left);
  return (
    <svg viewBox="0 0 100 16" preserveAspectRatio="none" className={up ? "sx-up" : "sx-down"}>
      <line className="sx-waterfall-at" x1={place.from} x2={place.from} y1={0} y2={16} />
      <rect x={left} width={width} y={3} height={10} className={hatched ? "sx-hatched" : ""} />
      {hatched && Array.from({ length: Math.min(40, Math.ceil(width / 2)) }, (_, n) => <line key={n} className="sx-hatch" x1={left + n * 2} x2={Math.min(left + width, left + n * 2 + 1)} y1={13} y2={3} />)}
    </svg>
  );
}

/** A bar in words, with a link to the release that did it, or to the asset. */
function What({ bar }: { bar: Bar }) {
  if (bar.release)
    return (
      <Link to="/releases/$release" params={{ release: bar.release }} title={bar.reason || undefined}>
        <bdi>{bar.text}</bdi>
      </Link>
    );
  return bar.asset ? <AssetLink id={bar.asset} /> : <bdi>{bar.text}</bdi>;
}
