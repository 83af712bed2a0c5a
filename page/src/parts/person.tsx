// Somebody, by what their token says. Whoever made the token chose the words, so they are shown as text and nothing else.

import type { Session } from "../session";

/** More than a name has, less than what would push everything else away. */
const LONGEST = 100;

/**
 * A name on one line that reads as it is: without characters that nobody sees, or that turn the text around them about.
 */
export function plainly(name: string): string {
  const visible = name.replace(/[\p{C}\p{Z}]+/gu, (found) => (/^ +$/.test(found) ? " " : "\u{fffd}")).trim();
  const characters = [...visible];
  return characters.length > LONGEST ? `${characters.slice(0, LONGEST).join("")}…` : visible;
}

export function Person({ of: { user, tenant } }: { of: Session }) {
  return (
    <>
      <bdi>{plainly(user) || "unknown user"}</bdi>
      {tenant && (
        <>
          {" "}
          <span class="quiet">of</span> <bdi>{plainly(tenant)}</bdi>
        </>
      )}
    </>
  );
}
