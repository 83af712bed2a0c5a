// Numbers, sizes and dates as the reader's own language writes them.

const locales = navigator.languages;

const date = new Intl.DateTimeFormat(locales, { dateStyle: "medium" });
const dateTime = new Intl.DateTimeFormat(locales, { dateStyle: "long", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(locales, { numeric: "auto" });
const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;

/** Bytes in the unit in which they have one to three digits. */
export function size(bytes: number): string {
  const step = Math.min(UNITS.length - 1, bytes < 1000 ? 0 : Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** step;
  return new Intl.NumberFormat(locales, {
    style: "unit",
    unit: UNITS[step] ?? "byte",
    unitDisplay: step === 0 ? "long" : "short",
    maximumFractionDigits: value < 10 && step > 0 ? 1 : 0,
  }).format(value);
}

export const count = (value: number): string => new Intl.NumberFormat(locales).format(value);

/** A count with its noun. */
export const counted = (value: number, one: string, many = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : many}`;

export const day = (time: string): string => date.format(new Date(time));

export const moment = (time: string): string => dateTime.format(new Date(time));

const STEPS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
];

/** How long ago; the date when that is more than a week. */
export function ago(time: string): string {
  const passed = Date.now() - Date.parse(time);
  if (passed > 7 * 86_400_000) return day(time);
  for (const [unit, length] of STEPS) {
    if (passed >= length) return relative.format(-Math.floor(passed / length), unit);
  }
  return relative.format(0, "minute");
}

/** Words of a list, joined as the page's language, which is English, does it. */
export const list = (items: readonly string[]): string =>
  new Intl.ListFormat("en", { type: "conjunction" }).format(items);
