// Entities and attachments as people call them, and their addresses in the page.

import type { Deletion } from "keepsake-client";
import { counted } from "./format";

/** What it is called; what has no label is called by its kind and id. */
export function called(item: { entity_type: string; id: string | null; label: string | null }): string {
  return item.label ?? (item.id === null ? "Several attachments" : `${kindOf(item.entity_type)} ${item.id}`);
}

/** The address of a live one; an attachment is shown with its entity. */
export function address(item: {
  kind: string;
  entity_type: string;
  entity_id?: string;
  id: string | null;
}): string {
  const id = item.kind === "attachment" ? item.entity_id : item.id;
  return id === undefined || id === null ? "#/files" : entityAddress(item.entity_type, id);
}

export const entityAddress = (type: string, id: string): string =>
  `#/entity/${encodeURIComponent(type)}/${encodeURIComponent(id)}`;

export const fileAddress = (id: string): string => `#/file/${encodeURIComponent(id)}`;

/** An entity type as a word of its own. */
export function kindOf(type: string): string {
  const word = type.replaceAll("_", " ");
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** How many of what a deletion holds. */
export function counts({ counts: { entities, attachments, capped } }: Deletion): string {
  const parts = entities.map(({ entity_type, count }) => counted(count, entity_type.replaceAll("_", " ")));
  if (attachments > 0) parts.push(counted(attachments, "attachment"));
  const text = parts.join(", ") || "Nothing that you may see";
  return capped ? `${text} or more` : text;
}

/** How many rows of which tables came back. */
export function rows(restored: readonly { table: string; rows: number }[]): string {
  return restored.map(({ table, rows }) => counted(rows, nameOf(table))).join(", ");
}

const nameOf = (table: string): string =>
  (table.split(".").at(-1) ?? table).replaceAll('"', "").replaceAll("_", " ");
