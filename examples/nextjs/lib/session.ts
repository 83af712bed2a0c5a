import { connection } from "next/server";

/** The signed-in user. A placeholder for your application's own sign-in, with a single user. */
export async function signedInUser() {
  // Like reading a cookie, this renders the page again for every request.
  await connection();
  return { id: "ada", tenant: process.env.EXAMPLE_TENANT ?? "acme" };
}
