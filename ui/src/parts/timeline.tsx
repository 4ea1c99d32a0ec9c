// What happened to an asset, newest first: each with who, why and what caused it.
import { Button, NativeSelect } from "@mantine/core";
import { useState } from "react";
import type { Schemas } from "../api/client";
import { usePages } from "../api/pages";
import { command, Id, Lines } from "./command";
import { plural, who } from "./format";
import { Card, RunLink, Subject } from "./links";
import { Empty, Shown } from "./problem";
import { State } from "./state";
import { Time } from "./time";

type Item = Schemas["TimelineItem"];

const NOUNS = ["version", "release", "run", "check", "signal", "incident", "decision", "declaration", "report"];

export function AssetTimeline({ id, env }: { id: string; env: string }) {
  const items = usePages<Item>("/api/v1/assets/{asset}/timeline", { env }, env !== "", id);
  const [noun, setNoun] = useState("");
  return (
    <Shown query={items}>
      {(rows) => {
        const shown = rows.filter((one) => !noun || one.noun === noun);
        const last = rows.at(-1);
        return (
          <Card title="What happened" note={plural(shown.length, noun || "entry", noun ? `${noun}s` : "entries")}>
            <div className="sx-tools">
              <NativeSelect
                size="xs"
                aria-label="Only of one noun"
                data={[{ value: "", label: "Everything" }, ...NOUNS]}
                value={noun}
                onChange={(event) => setNoun(event.currentTarget.value)}
              />
              {items.hasNextPage && (
                <Button size="compact-sm" variant="default" loading={items.isFetchingNextPage} onClick={() => void items.fetchNextPage()}>
                  Load older ones
                </Button>
              )}
              {items.hasNextPage && last && (
                <span className="sx-dim">
                  back to <Time at={last.at} />
                </span>
              )}
            </div>
            {shown.length ? (
              <ol className="sx-happened">
                {shown.map((one) => (
                  <Happened key={`${one.seq} ${one.event}`} one={one} asset={id} />
                ))}
              </ol>
            ) : (
              <Empty title={noun ? `Among these is no ${noun}.` : "Nothing has happened to it yet."}>{items.hasNextPage ? "Older ones may be: load them above." : ""}</Empty>
            )}
            <details className="sx-cli">
              <summary>The same on the command line</summary>
              <Lines text={command("timeline", id, "--env", env)} />
            </details>
          </Card>
        );
      }}
    </Shown>
  );
}

/** The word of a change that says how it stands: `undo live` is live. */
function stateOf(change: string): string {
  return change.split(" ").at(-1) ?? change;
}

function Happened({ one, asset }: { one: Item; asset: string }) {
  return (
    <li>
      <span className="sx-happened-when">
        <Time at={one.at} />
      </span>
      <span className="sx-chip">{one.noun}</span>
      <div>
        <div className="sx-happened-what">
          <State state={stateOf(one.change)} title={one.change} />
          {one.change !== stateOf(one.change) && <span className="sx-dim">{one.change}</span>}
          {one.subject !== asset && !one.subject.startsWith(`${asset}@`) && <Subject id={one.subject} />}
          {one.version && <Id id={one.version} length={8} />}
          {one.run && one.run !== one.subject && (
            <span>
              by run <RunLink id={one.run} />
            </span>
          )}
          <span className="sx-dim">{who(one.by)}</span>
        </div>
        {one.reason && <q dir="auto">{one.reason}</q>}
        {one.because.length > 0 && (
          <details>
            <summary className="sx-dim">because of {one.because[0]?.type.replaceAll(".", " ").replaceAll("_", " ")}</summary>
            <ol className="sx-chain">
              {one.because.map((cause) => (
                <li key={cause.event}>
                  <code>{cause.type}</code> <Subject id={cause.subject} /> <span className="sx-dim">{who(cause.actor)}</span> <Time at={cause.at} />
                </li>
              ))}
            </ol>
          </details>
        )}
      </div>
    </li>
  );
}
