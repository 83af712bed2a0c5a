import "server-only";

import { SignJWT } from "jose";
import { createKeepsake } from "keepsake-client";

import { signedInUser } from "./session";

/** A token for the signed-in user. It is short-lived, so a leaked one soon becomes useless. */
export async function keepsakeToken(): Promise<string> {
  const user = await signedInUser();
  const key = Buffer.from(setting("KEEPSAKE_JWT_KEY"), "base64");
  return new SignJWT({ tenant: user.tenant, scope: "attachments:read attachments:write" })
    .setProtectedHeader({ alg: "HS256", kid: setting("KEEPSAKE_KEY_ID") })
    .setSubject(user.id)
    .setExpirationTime("5 minutes")
    .sign(key);
}

/** Keepsake, for code that runs on the server. */
export function keepsake() {
  return createKeepsake({ url: setting("KEEPSAKE_URL"), token: keepsakeToken });
}

/** Whether the request comes from a page of this application, and not from another site with the user's cookie. */
export function isOwnPage(request: Request): boolean {
  return request.headers.get("sec-fetch-site") === "same-origin";
}

export function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}
