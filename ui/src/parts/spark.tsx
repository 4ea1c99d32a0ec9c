// A number in small: its newest points as a line, with its goal and with marks where something changed it.
import { goalOf, type Kpi, type Mark, pointsOf, shownValue } from "./number";

const W = 240;
const H = 48;
const PAD = 4;

export function Spark({ kpi, marks = [] }: { kpi: Kpi; marks?: Mark[] }) {
  const points = pointsOf(kpi.rows);
  const values = points.flatMap((point) => (point.value === null ? [] : [point.value]));
  if (values.length < 2) return <span className="sx-spark sx-dim">{kpi.grain ? "too few points for a line" : "one number over all time"}</span>;
  const goal = goalOf(kpi.goal);
  const bounds = goal ? [...values, goal.value] : values;
  const [low, high] = [Math.min(...bounds), Math.max(...bounds)];
  const [first, last] = [points[0]?.at ?? 0, points.at(-1)?.at ?? 1];
  const x = (at: number) => PAD + ((at - first) / Math.max(1, last - first)) * (W - 2 * PAD);
  const y = (value: number) => H - PAD - ((value - low) / (high - low || 1)) * (H - 2 * PAD);
  const line = points
    .map((point, n) => {
      if (point.value === null) return "";
      const drawn = n > 0 && points[n - 1]?.value !== null;
      return `${drawn ? "L" : "M"}${x(point.at).toFixed(1)} ${y(point.value).toFixed(1)}`;
    })
    .join("");
  const shown = marks.filter((mark) => mark.last >= first && mark.first <= last);
  const odd = points.filter((point) => point.state !== "live" && point.value !== null);
  return (
    <svg
      className="sx-spark"
      viewBox={`0 0 ${W} ${H}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={`${points.length} points, from ${shownValue(Math.min(...values), kpi.format)} to ${shownValue(Math.max(...values), kpi.format)}${shown.length ? `, ${shown.length} changes` : ""}`}
    >
      {goal && <line className="sx-spark-goal" x1={0} x2={W} y1={y(goal.value)} y2={y(goal.value)} />}
      {shown.map((mark) => {
        const at = x(Math.max(first, mark.first));
        return <line key={`${mark.change.at} ${mark.change.asset} ${mark.change.release}`} className={`sx-spark-mark sx-is-${mark.change.intent}`} x1={at} x2={at} y1={0} y2={H} />;
      })}
      <path className="sx-spark-line" d={line} />
      {odd.map((point) => (
        <circle key={point.at} className="sx-spark-odd" cx={x(point.at)} cy={y(point.value ?? 0)} r={2.5} />
      ))}
    </svg>
  );
}

/** How a number stands beside the time before: an arrow, the difference, and in words. */
export function Delta({ kpi, better }: { kpi: Kpi; better: boolean | undefined }) {
  const now = Number(kpi.total ?? Number.NaN);
  const before = Number(kpi.compared?.total ?? Number.NaN);
  if (kpi.compared?.total === null || kpi.total === null || Number.isNaN(now) || Number.isNaN(before)) return <span className="sx-dim">no time before</span>;
  const delta = now - before;
  const tone = better === undefined ? "sx-dim" : better ? "sx-delta-good" : "sx-delta-bad";
  const share = before ? ` (${new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1, signDisplay: "exceptZero" }).format(delta / Math.abs(before))})` : "";
  return (
    <span className={`sx-delta ${tone}`} title={`${shownValue(kpi.total, kpi.format)} from ${kpi.since} to ${kpi.until}\n${shownValue(kpi.compared?.total, kpi.format)} from ${kpi.compared?.since} to ${kpi.compared?.until}`}>
      <span aria-hidden="true">{delta > 0 ? "▲" : delta < 0 ? "▼" : "="}</span> {shownValue(delta, kpi.format, true)}
      {share}
      {better !== undefined && <span className="sx-unseen">{better ? ", better" : ", worse"}</span>}
    </span>
  );
}

export function GoalSign({ kpi }: { kpi: Kpi }) {
  if (!kpi.goal) return <span className="sx-dim">no goal</span>;
  const word = kpi.goal_met === null ? "no value" : kpi.goal_met ? "met" : "missed";
  return (
    <span className={`sx-goal sx-goal-${word.replace(" ", "-")}`} title={`goal ${kpi.goal}: ${shownValue(kpi.goal_value, kpi.format)} ${kpi.unit}`}>
      <span aria-hidden="true">{kpi.goal_met ? "✓" : kpi.goal_met === false ? "✗" : "-"}</span> {word}
    </span>
  );
}
