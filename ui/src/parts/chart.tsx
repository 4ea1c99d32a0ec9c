// The chart of a business number: its points, the time before, the goal, and marks where something changed it. A span is
// selected by dragging, or by the keyboard.
import { Popover } from "@mantine/core";
import { IconArrowBackUp, IconPencil, IconRocket } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { type KeyboardEvent, useCallback, useEffect, useId, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { who } from "./format";
import { AssetLink, ReleaseLink, RunLink } from "./links";
import { type Mark, type Point, wordOf } from "./number";
import { State } from "./state";
import { Time, useUtc } from "./time";

const HEIGHT = 300;
const NEAR_PX = 20; // marks that are nearer to each other are one button
const DOTS_MAX = 70; // up to so many points each has a dot
const ICONS = { undo: IconArrowBackUp, edit: IconPencil, release: IconRocket };

export interface Span {
  from: number; // s, half-open
  to: number;
}

interface Props {
  label: string;
  points: Point[];
  before: Point[]; // moved to the places of `points`
  goal: number | null;
  marks: Mark[];
  days: boolean; // the buckets are dates
  next: (at: number) => number; // the beginning of the bucket after
  say: (value: number | null) => string;
  sayTime: (at: number) => string;
  selected: Span | null;
  onSelect: (span: Span | null) => void;
}

// how the places of the time axis are written, by their distance in s; the rest is what stands below where it changes
const TIMES: uPlot.Axis.TimeValuesConfig = [
  [31_536_000, "{YYYY}", null, null, null, null, null, null, 1],
  [2_419_200, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [86_400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
];

interface Group {
  x: number;
  marks: Mark[];
}

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--sx-${name}`).trim();
}

function readScheme(): string {
  return document.documentElement.getAttribute("data-mantine-color-scheme") ?? "light";
}

/** The scheme that is shown, for what is drawn and does not follow style sheets. */
function useShownScheme(): string {
  const [scheme, setScheme] = useState(readScheme);
  useEffect(() => {
    const observer = new MutationObserver(() => setScheme(readScheme()));
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-mantine-color-scheme"] });
    return () => observer.disconnect();
  }, []);
  return scheme;
}

function aligned(points: Point[], before: Point[]): uPlot.AlignedData {
  const xs = [...new Set([...points, ...before].map((one) => one.at))].toSorted((a, b) => a - b);
  const now = new Map(points.map((one) => [one.at, one]));
  const then = new Map(before.map((one) => [one.at, one]));
  return [
    xs,
    xs.map((at) => now.get(at)?.value as number | null | undefined),
    xs.map((at) => then.get(at)?.value as number | null | undefined),
    xs.map((at) => {
      const one = now.get(at);
      return one && one.state !== "live" ? one.value : null;
    }),
  ] as uPlot.AlignedData;
}

export function Chart({ label, points, before, goal, marks, days, next, say, sayTime, selected, onSelect }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [utc] = useUtc();
  const scheme = useShownScheme();
  const [width, setWidth] = useState(0);
  const [at, setAt] = useState(-1); // the point that is read
  const [anchor, setAnchor] = useState(-1);
  const [groups, setGroups] = useState<Group[]>([]);
  const id = useId();

  const spanOf = useCallback(
    (a: number, b: number): Span | null => {
      const [first, last] = [points[Math.min(a, b)], points[Math.max(a, b)]];
      return first && last ? { from: first.at, to: next(last.at) } : null;
    },
    [points, next],
  );
  const band = useMemo(() => (anchor >= 0 ? spanOf(anchor, at) : selected), [anchor, at, selected, spanOf]);

  // what the drawing reads without being made anew
  const current = useRef({ band, goal, marks, points, onSelect, spanOf, say });
  useEffect(() => {
    current.current = { band, goal, marks, points, onSelect, spanOf, say };
    plot.current?.redraw(false);
  }, [band, goal, marks, points, onSelect, spanOf, say]);

  useEffect(() => {
    const node = place.current;
    if (!node) return undefined;
    const observer = new ResizeObserver(() => setWidth(node.clientWidth));
    observer.observe(node);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    const node = place.current;
    if (!node || !width) return undefined;
    const [accent, dim, line, warn, surface, soft, good] = ["accent", "dim", "line", "warn", "surface", "accent-soft", "good"].map(colour);
    const font = "12px system-ui, sans-serif";
    const axis = { stroke: dim, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const made = new uPlot(
      {
        width,
        height: HEIGHT,
        tzDate: (seconds) => (days || utc ? uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") : new Date(seconds * 1000)),
        legend: { show: false },
        cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 8 } },
        scales: {
          y: {
            range: (_, low, high) => {
              const bounds = [low, high, current.current.goal].filter((one): one is number => one !== null && one !== undefined);
              if (!bounds.length) return [0, 1];
              const [least, most] = [Math.min(...bounds), Math.max(...bounds)];
              const room = (most - least || Math.abs(most) || 1) * 0.08;
              return [least >= 0 && least - room < 0 ? 0 : least - room, most + room];
            },
          },
        },
        axes: [{ ...axis, values: TIMES }, { ...axis, size: 64, values: (_, ticks) => ticks.map((one) => current.current.say(one)) }],
        series: [
          {},
          { stroke: accent, width: 2, points: { show: points.length <= DOTS_MAX, size: 5, fill: accent } },
          { stroke: dim, width: 1.5, dash: [5, 4], points: { show: false } },
          { stroke: warn, paths: () => null, points: { show: true, size: 9, fill: surface, stroke: warn, width: 2 } },
        ],
        hooks: {
          drawClear: [
            (u) => {
              const shown = current.current.band;
              if (!shown) return;
              const [left, right] = [u.valToPos(shown.from, "x", true), u.valToPos(shown.to, "x", true)];
              u.ctx.save();
              u.ctx.fillStyle = soft ?? "";
              u.ctx.fillRect(left, u.bbox.top, Math.max(2, right - left), u.bbox.height);
              u.ctx.restore();
            },
          ],
          draw: [
            (u) => {
              const shown = current.current.goal;
              if (shown !== null) {
                const y = u.valToPos(shown, "y", true);
                u.ctx.save();
                u.ctx.strokeStyle = good ?? "";
                u.ctx.fillStyle = good ?? "";
                u.ctx.lineWidth = 1.5 * devicePixelRatio;
                u.ctx.setLineDash([7 * devicePixelRatio, 5 * devicePixelRatio]);
                u.ctx.beginPath();
                u.ctx.moveTo(u.bbox.left, y);
                u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
                u.ctx.stroke();
                u.ctx.font = `600 ${12 * devicePixelRatio}px system-ui, sans-serif`;
                u.ctx.textAlign = "right";
                u.ctx.strokeStyle = surface ?? "";
                u.ctx.setLineDash([]);
                u.ctx.lineWidth = 4 * devicePixelRatio;
                u.ctx.strokeText("goal", u.bbox.left + u.bbox.width - 4 * devicePixelRatio, y - 5 * devicePixelRatio);
                u.ctx.fillText("goal", u.bbox.left + u.bbox.width - 4 * devicePixelRatio, y - 5 * devicePixelRatio);
                u.ctx.restore();
              }
              const [first = 0, last = 0] = [u.scales.x?.min ?? 0, u.scales.x?.max ?? 0];
              const found: Group[] = [];
              for (const mark of current.current.marks.toSorted((a, b) => a.first - b.first)) {
                if (mark.last < first || mark.first > last) continue;
                const x = u.valToPos(Math.max(first, mark.first), "x") + u.over.offsetLeft;
                const group = found.at(-1);
                if (group && x - group.x < NEAR_PX) group.marks.push(mark);
                else found.push({ x, marks: [mark] });
              }
              setGroups(found);
            },
          ],
          setSelect: [
            (u) => {
              if (u.select.width < 3) return;
              const [from, to] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
              u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
              const { points: all, spanOf: span } = current.current;
              const inside = all.flatMap((point, n) => (point.at >= from && point.at <= to ? [n] : []));
              const [a, b] = [inside[0], inside.at(-1)];
              if (a !== undefined && b !== undefined) {
                setAnchor(-1);
                current.current.onSelect(span(a, b));
              }
            },
          ],
          setCursor: [
            (u) => {
              const index = u.cursor.idx;
              if (index === null || index === undefined) return;
              const seconds = u.data[0][index];
              const found = current.current.points.findIndex((point) => point.at === seconds);
              if (found >= 0) setAt(found);
            },
          ],
        },
      },
      aligned(points, before),
      node,
    );
    made.root.dataset.scheme = scheme; // its colours were read for this one
    plot.current = made;
    return () => {
      plot.current = null;
      made.destroy();
    };
  }, [points, before, days, utc, scheme, width]);

  const move = (to: number, extend: boolean) => {
    const found = Math.max(0, Math.min(points.length - 1, to));
    if (extend && anchor < 0) setAnchor(Math.max(0, at));
    if (!extend) setAnchor(-1);
    setAt(found);
    const u = plot.current;
    const point = points[found];
    if (u && point) u.setCursor({ left: u.valToPos(point.at, "x"), top: u.valToPos(point.value ?? 0, "y") }, false);
  };
  const press = (event: KeyboardEvent) => {
    const from = at < 0 ? points.length : at;
    const places: Record<string, number> = { ArrowLeft: from - 1, ArrowRight: from + 1, PageUp: from - 10, PageDown: from + 10, Home: 0, End: points.length - 1 };
    const to = places[event.key];
    if (to !== undefined) {
      event.preventDefault();
      move(to, event.shiftKey);
    } else if (event.key === "Enter" && at >= 0) {
      event.preventDefault();
      onSelect(spanOf(anchor < 0 ? at : anchor, at));
      setAnchor(-1);
    } else if (event.key === "Escape" && (anchor >= 0 || selected)) {
      event.preventDefault();
      setAnchor(-1);
      onSelect(null);
    }
  };

  const read = points[at];
  const then = useMemo(() => new Map(before.map((one) => [one.at, one])), [before]);
  return (
    <div className="sx-chart">
      <div className="sx-marks">
        {groups.map((group) => (
          <MarkButton key={`${group.x} ${group.marks[0]?.change.at ?? ""}`} group={group} />
        ))}
      </div>
      {/* arrows move in it, as in a table */}
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex, jsx-a11y/no-noninteractive-element-interactions */}
      <div ref={place} className="sx-plot" role="application" aria-roledescription="chart" aria-label={label} aria-describedby={`${id}-help`} tabIndex={0} onKeyDown={press} data-points={points.length} />
      <p className="sx-readout" role="status">
        {read ? (
          <>
            <strong>{sayTime(read.at)}</strong> <span className="sx-number">{say(read.value)}</span>
            {then.get(read.at) && <span className="sx-dim"> before: {say(then.get(read.at)?.value ?? null)}</span>} {read.state !== "live" && <State state={read.state} />}
            {anchor >= 0 && <span className="sx-dim"> {Math.abs(at - anchor) + 1} points: Enter selects them</span>}
          </>
        ) : (
          <span className="sx-dim">Point at the chart, or go into it and use the arrows.</span>
        )}
      </p>
      <p id={`${id}-help`} className="sx-unseen">
        Left and Right move from point to point, with Shift they extend a span, Enter selects it, Escape takes it away.
      </p>
    </div>
  );
}

function MarkButton({ group }: { group: Group }) {
  const [open, setOpen] = useState(false);
  const first = group.marks.find((mark) => mark.change.intent === "undo") ?? group.marks[0];
  if (!first) return null;
  const Icon = ICONS[first.change.intent as keyof typeof ICONS] ?? IconRocket;
  const words = [...new Set(group.marks.map((mark) => wordOf(mark.change)))].join(", ");
  return (
    <Popover opened={open} onChange={setOpen} position="bottom" width={340} trapFocus returnFocus>
      <Popover.Target>
        <button
          type="button"
          className={`sx-mark sx-is-${first.change.intent}`}
          style={{ left: group.x }}
          aria-label={`${group.marks.length > 1 ? `${group.marks.length} changes: ` : ""}${words}`}
          title={words}
          onClick={() => setOpen(!open)}
        >
          <Icon size={13} aria-hidden="true" />
          {group.marks.length > 1 && <span>{group.marks.length}</span>}
        </button>
      </Popover.Target>
      <Popover.Dropdown className="sx-mark-says" aria-label="What changed">
        <ChangeList marks={group.marks} />
      </Popover.Dropdown>
    </Popover>
  );
}

/** Changes, each with what it was, who did it and why, and a link to it. */
export function ChangeList({ marks }: { marks: Mark[] }) {
  return (
    <ul className="sx-changes">
      {marks.map(({ change }) => {
        const Icon = ICONS[change.intent as keyof typeof ICONS] ?? IconRocket;
        const [first, last] = [change.partitions[0], change.partitions.at(-1)];
        return (
          <li key={`${change.at} ${change.asset} ${change.release} ${change.version}`}>
            <Icon size={15} aria-hidden="true" />
            <div>
              <strong>{wordOf(change)}</strong> of <AssetLink id={change.asset} />
              {change.reason && <q dir="auto">{change.reason}</q>}
              <div className="sx-dim">
                {who(change.by)}, <Time at={change.at} />
                {first && <> · {first === last ? first : `${first} to ${last}`}</>}
                {change.release && (
                  <>
                    {" "}
                    · release <ReleaseLink id={change.release} />
                  </>
                )}
                {change.run && (
                  <>
                    {" "}
                    · run <RunLink id={change.run} />
                  </>
                )}
                {!change.release && (
                  <>
                    {" "}
                    ·{" "}
                    <Link to="/assets/$asset" params={{ asset: change.asset }} search={{ tab: "versions" }}>
                      its versions
                    </Link>
                  </>
                )}
              </div>
            </div>
          </li>
        );
      })}
    </ul>
  );
}
