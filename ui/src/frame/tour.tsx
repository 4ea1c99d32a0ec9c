// A tour of five stops: each leads to a page and says what it answers. Offered once to each person's browser.
import { Button, CloseButton } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { type ReactNode, useEffect, useRef } from "react";
import { ask } from "../api/client";
import { nameOf } from "../parts/format";
import { useKept } from "./kept";

interface Stop {
  title: string;
  text: ReactNode;
  go: () => void;
}

/** Returns the stop that somebody is at, from 1; 0 = at none, -1 = the tour was never offered. */
export function useTour(): [number, (stop: number) => void] {
  return useKept<number>("tour", -1);
}

export function Tour() {
  const [at, setAt] = useTour();
  return at > 0 ? <Stops at={at} onMove={setAt} /> : null;
}

function Stops({ at, onMove }: { at: number; onMove: (stop: number) => void }) {
  const navigate = useNavigate();
  const graph = ask.useQuery("get", "/api/v1/graph");
  const managed = (graph.data?.assets ?? []).filter((one) => one.mode === "managed").toSorted((a, b) => a.tier - b.tier || a.id.localeCompare(b.id));
  const number = managed.find((one) => one.kind === "kpi");
  // what the number is made of, else any
  const sources = new Set((graph.data?.edges ?? []).filter((one) => one.target === number?.id).map((one) => one.source));
  const made = managed.find((one) => sources.has(one.id)) ?? managed.find((one) => one.kind !== "kpi" && one.kind !== "project");
  const stops: Stop[] = [
    {
      title: "The bridge",
      text: "How the numbers stand, what needs somebody and what to do about it, what runs and what changed in the last day. It follows the server by itself: leave it open.",
      go: () => void navigate({ to: "/" }),
    },
    {
      title: "Why a number moved",
      text: number
        ? "The course of a number, with a mark where something changed it. Drag over the span that looks wrong: below stand the other numbers in it, checks that failed, what changed upstream, and what each dimension moved it by."
        : "A KPI draws its course, with a mark where something changed it. The project declares none yet.",
      go: () => void (number ? navigate({ to: "/kpis/$name", params: { name: nameOf(number.id) } }) : navigate({ to: "/kpis" })),
    },
    {
      title: "What stands on what",
      text: "Causes on the left, what stands on them on the right. Choose one: what a change of it reaches is brought out. Path to shows all that lies between two.",
      go: () => void navigate({ to: "/graph" }),
    },
    {
      title: "One asset",
      text: "What happened to it and why, how each of its partitions stands, its versions. Undo shows what goes back before it does; Release and Promote show what differs.",
      go: () => void (made ? navigate({ to: "/assets/$asset", params: { asset: made.id } }) : navigate({ to: "/assets" })),
    },
    {
      title: "What became live, and what was undone",
      text: "Each release with who, why and its states; those that wait are approved here, for exactly what is shown. Ctrl K finds anything, ? shows the keys.",
      go: () => void navigate({ to: "/releases" }),
    },
  ];
  const stop = stops[at - 1];
  const head = useRef<HTMLHeadingElement>(null);
  const ready = graph.data !== undefined || graph.isError;
  useEffect(() => {
    if (!ready) return;
    stop?.go();
    head.current?.focus();
    // a stop is gone to once, when it is reached
    // oxlint-disable-next-line react-hooks/exhaustive-deps
  }, [at, ready]);
  if (!stop) return null;
  return (
    <section className="sx-tour" aria-label="Tour">
      <header>
        <h2 ref={head} tabIndex={-1}>
          {stop.title}
        </h2>
        <span className="sx-dim">
          {at} of {stops.length}
        </span>
        <CloseButton aria-label="End the tour" onClick={() => onMove(0)} />
      </header>
      <p>{stop.text}</p>
      <footer>
        {at > 1 && (
          <Button size="compact-sm" variant="default" onClick={() => onMove(at - 1)}>
            Back
          </Button>
        )}
        <Button size="compact-sm" onClick={() => onMove(at < stops.length ? at + 1 : 0)}>
          {at < stops.length ? "Next" : "Done"}
        </Button>
      </footer>
    </section>
  );
}

/** Offers the tour until it was taken, or turned down. */
export function TourOffer() {
  const [at, setAt] = useTour();
  if (at !== -1) return null;
  return (
    <section className="sx-tour-offer" aria-label="Tour offered">
      <span>New here? Five stops show where what is.</span>
      <Button size="compact-xs" onClick={() => setAt(1)}>
        Take the tour
      </Button>
      <Button size="compact-xs" variant="default" onClick={() => setAt(0)}>
        Not now
      </Button>
    </section>
  );
}
