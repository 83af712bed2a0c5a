// Numbers over time, drawn on a canvas; the same numbers stand in a table below it.

import { useEffect, useId, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { moment } from "../format";

export interface Series {
  readonly label: string;
  /** Which of the colours of `operator.css`. */
  readonly tone: "first" | "second" | "third";
  readonly values: readonly number[];
}

interface ChartProps {
  readonly title: string;
  /** RFC 3339, oldest first; as many as each series has values. */
  readonly times: readonly string[];
  readonly series: readonly Series[];
  readonly format: (value: number) => string;
}

const HEIGHT = 220;
const ROWS = 50;

const short = new Intl.DateTimeFormat(navigator.languages, {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
});
const shortly = (time: string): string => short.format(new Date(time));

export function Chart({ title, times, series, format }: ChartProps) {
  const heading = useId();
  const canvas = useRef<HTMLDivElement>(null);
  const legend = useRef<HTMLUListElement>(null);
  /** What the pointer is at; the last, when it is nowhere. */
  const [at, setAt] = useState<number>();
  const shown = Math.min(at ?? times.length - 1, times.length - 1);
  useEffect(() => {
    const room = canvas.current;
    if (!room || !legend.current) return;
    const swatches = [...legend.current.querySelectorAll(".swatch")];
    const theme = matchMedia("(prefers-color-scheme: dark)");
    const draw = () => {
      const [ink = "", ...colours] = [room, ...swatches].map((one) => colourOf(one, theme.matches));
      return new uPlot(options(room, series, ink, colours, format, setAt), data(times, series), room);
    };
    let plot = draw();
    const fit = new ResizeObserver(() => {
      if (room.clientWidth !== plot.width) plot.setSize({ width: room.clientWidth, height: HEIGHT });
    });
    fit.observe(room);
    const redraw = () => {
      plot.destroy();
      plot = draw();
    };
    theme.addEventListener("change", redraw);
    return () => {
      theme.removeEventListener("change", redraw);
      fit.disconnect();
      plot.destroy();
    };
  }, [times, series, format]);
  return (
    <figure class="chart" aria-labelledby={heading}>
      <figcaption>
        <h3 id={heading}>{title}</h3>
        <ul class="legend" ref={legend}>
          {series.map(({ label, tone, values }) => (
            <li key={label}>
              <span class={`swatch ${tone}`} aria-hidden="true" />
              {label} <strong>{format(values[shown] ?? 0)}</strong>
            </li>
          ))}
          <li class="quiet">{times[shown] && <time dateTime={times[shown]}>{moment(times[shown])}</time>}</li>
        </ul>
      </figcaption>
      <div class="canvas" ref={canvas} aria-hidden="true" />
      <details>
        <summary>As a table</summary>
        <Numbers title={title} times={times} series={series} format={format} />
      </details>
    </figure>
  );
}

/** The newest first, as many as a person may read. */
function Numbers({ title, times, series, format }: ChartProps) {
  const step = Math.max(1, Math.ceil(times.length / ROWS));
  const places = times.map((_, place) => place).filter((place) => (times.length - 1 - place) % step === 0);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keyboard
    <section class="scroll" aria-label={`${title}, as a table`} tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">Time</th>
            {series.map(({ label }) => (
              <th scope="col" class="number" key={label}>
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {places.reverse().map((place) => (
            <tr key={times[place]}>
              <th scope="row">
                <time dateTime={times[place]}>{shortly(times[place] ?? "")}</time>
              </th>
              {series.map(({ label, values }) => (
                <td class="number" key={label}>
                  {format(values[place] ?? 0)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

const data = (times: readonly string[], series: readonly Series[]): uPlot.AlignedData => [
  times.map((time) => Date.parse(time) / 1000),
  ...series.map(({ values }) => [...values]),
];

/** One of the two that `operator.css` gives it. */
const colourOf = (element: Element, isDark: boolean): string =>
  getComputedStyle(element)
    .getPropertyValue(isDark ? "--dark" : "--light")
    .trim();

function options(
  room: HTMLElement,
  series: readonly Series[],
  ink: string,
  colours: readonly string[],
  format: (value: number) => string,
  onPlace: (place: number | undefined) => void,
): uPlot.Options {
  const line = `color-mix(in srgb, ${ink} 22%, transparent)`;
  const font = `12px ${getComputedStyle(room).fontFamily}`;
  const axis = { stroke: ink, font, ticks: { show: false }, grid: { stroke: line, width: 1 } };
  return {
    width: room.clientWidth,
    height: HEIGHT,
    padding: [12, 12, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { setScale: false }, points: { size: 7 } },
    scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } },
    axes: [
      { ...axis, grid: { show: false }, values: (_, ticks) => timeTicks(ticks), space: 80, size: 30 },
      { ...axis, size: 72, values: (_, ticks) => ticks.map((tick) => (tick % 1 === 0 ? format(tick) : "")) },
    ],
    series: [
      {},
      ...series.map(({ label }, place) => {
        const stroke = colours[place] ?? ink;
        const fill = `color-mix(in srgb, ${stroke} 12%, transparent)`;
        return { label, stroke, width: 2, points: { show: false }, ...(place === 0 ? { fill } : {}) };
      }),
    ],
    hooks: { setCursor: [({ cursor }) => onPlace(cursor.idx ?? undefined)] },
  };
}

const DAY = 86_400;

/** Times of day where all are of few days, else days. */
function timeTicks(ticks: readonly number[]): string[] {
  const span = (ticks.at(-1) ?? 0) - (ticks[0] ?? 0);
  const format = new Intl.DateTimeFormat(
    navigator.languages,
    span < 2 * DAY ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short" },
  );
  return ticks.map((tick) => format.format(tick * 1000));
}
