// What the steps of a run print, as they do: pieces are asked for from the position on that the last answer named.
import { Button } from "@mantine/core";
import { IconArrowDown } from "@tabler/icons-react";
import { useEffect, useLayoutEffect, useRef, useState } from "react";
import { api, type Schemas } from "../api/client";
import { command, Lines } from "./command";
import { count } from "./format";
import { Card } from "./links";
import { Empty, Problem } from "./problem";

const ASK_MS = 1000;
const KEPT_CHARS = 2_000_000; // of a log on the page: more makes a browser slow
const NEAR_PX = 24; // so near to the end the reader is taken to stand there

interface Told {
  printed: Schemas["Printed"][];
  running: boolean;
  cut: boolean; // something before is not here
  again: boolean; // what was here before is shown anew, as it was kept
  left: number; // characters that this page has let go
  error: Error | null; // the server does not answer now
}

const NOTHING: Told = { printed: [], running: true, cut: false, again: false, left: 0, error: null };

/** Adds pieces: those of the same attempt go on where the last one ended. */
function joined(before: Schemas["Printed"][], more: Schemas["Printed"][]): Schemas["Printed"][] {
  const all = [...before];
  for (const one of more) {
    const last = all.at(-1);
    if (last && last.step === one.step && last.attempt === one.attempt) all[all.length - 1] = { ...last, text: last.text + one.text };
    else all.push(one);
  }
  return all;
}

/** Lets the oldest go where there is too much for a page. */
function bounded(told: Told): Told {
  let over = told.printed.reduce((all, one) => all + one.text.length, 0) - KEPT_CHARS;
  if (over <= 0) return told;
  const printed = [...told.printed];
  const left = told.left + over;
  while (over > 0 && printed[0]) {
    const first = printed[0];
    if (first.text.length <= over) printed.shift();
    else printed[0] = { ...first, text: first.text.slice(over) };
    over -= first.text.length;
  }
  return { ...told, printed, left };
}

/** Follows the log of a run, or of one of its steps, until the run has ended. */
function useLog(run: string, step: string): Told | undefined {
  const [told, setTold] = useState<Told>();
  useEffect(() => {
    const gone = new AbortController();
    let timer = 0;
    const look = async (after: string) => {
      let next = after;
      let waits = ASK_MS;
      try {
        const { data } = await api.GET("/api/v1/log", { params: { query: { run, step, after } }, signal: gone.signal });
        if (data) {
          const again = after !== "" && data.after !== after;
          setTold((before = NOTHING) =>
            bounded({
              printed: joined(again ? [] : before.printed, data.printed),
              running: data.running,
              cut: data.cut || (before.cut && !again),
              again: again || before.again,
              left: again ? 0 : before.left,
              error: null,
            }),
          );
          next = data.next;
          if (!next) return;
          if (data.printed.length) waits = ASK_MS / 4;
        }
      } catch (error) {
        if (gone.signal.aborted) return;
        setTold((before = NOTHING) => ({ ...before, error: error as Error }));
      }
      timer = window.setTimeout(() => void look(next), waits);
    };
    void look("");
    return () => {
      gone.abort();
      window.clearTimeout(timer);
    };
  }, [run, step]);
  return told;
}

export function RunLog({ run, step }: { run: string; step: string }) {
  const told = useLog(run, step);
  const box = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const toEnd = () => box.current?.scrollTo(0, box.current.scrollHeight);
  const size = told?.printed.reduce((all, one) => all + one.text.length, told.left) ?? 0;
  // who reads further up keeps his place
  useLayoutEffect(() => {
    if (atEnd && size) box.current?.scrollTo(0, box.current.scrollHeight);
  }, [size, atEnd]);
  return (
    <Card title="Log" note={step ? <bdi>{step}</bdi> : "of all steps; choose one above for its own"}>
      {told?.error && <Problem error={told.error} />}
      {told?.cut && <p className="sx-dim">Older lines are not here: so much was printed that only the newest part of it can be followed. What is kept of each step shows when the run has ended.</p>}
      {told?.again && <p className="sx-dim">The run has ended meanwhile: this is its log as it is kept, from the beginning.</p>}
      {told && told.left > 0 && <p className="sx-dim">{count(told.left)} older characters are left out on this page; the command below shows all.</p>}
      {!told ? (
        <div className="sx-loading" role="status" aria-label="loading">
          <i />
          <i />
          <i />
        </div>
      ) : told.printed.length ? (
        <>
          <div
            ref={box}
            className="sx-log"
            role="log"
            aria-label="what the steps printed"
            aria-live="off"
            // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex
            tabIndex={0}
            onScroll={(event) => {
              const { scrollHeight, scrollTop, clientHeight } = event.currentTarget;
              setAtEnd(scrollHeight - scrollTop - clientHeight < NEAR_PX);
            }}
          >
            {told.printed.map((one, n) => (
              // a step's attempt may be printed in several parts, between those of others
              // oxlint-disable-next-line react/no-array-index-key
              <section key={`${one.step} ${one.attempt} ${n}`} aria-label={`log of ${one.step}`}>
                <h3>
                  <bdi>{one.step}</bdi>
                  {one.attempt > 1 && <span className="sx-dim"> attempt {one.attempt}</span>}
                </h3>
                <pre dir="auto">{one.text}</pre>
              </section>
            ))}
          </div>
          {told.running && (
            <p className="sx-log-state" role="status">
              {atEnd ? (
                "New lines appear as they are printed."
              ) : (
                <Button size="compact-xs" variant="default" leftSection={<IconArrowDown size={13} />} onClick={toEnd}>
                  To the newest line
                </Button>
              )}
            </p>
          )}
        </>
      ) : told.running ? (
        <Empty title="Nothing was printed yet.">What the steps print appears here as they do.</Empty>
      ) : (
        <Empty title={step ? "This step printed nothing." : "No step printed anything."} />
      )}
      <details className="sx-cli">
        <summary>The same on the command line</summary>
        <Lines text={command("logs", run, step && "--step", step, told?.running && "--follow")} />
      </details>
    </Card>
  );
}
