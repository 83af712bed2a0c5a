import { connection } from "next/server";

/** Who asks. Stands for your application's own sign-in; this one knows a single user. */
export async function signedInUser() {
  // As reading a cookie would, this has every request answered anew.
  await connection();
  return { id: "ada", tenant: process.env.EXAMPLE_TENANT ?? "acme" };
}
