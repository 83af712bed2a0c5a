import { isOwnPage, keepsakeToken } from "@/lib/keepsake";

/** A token for the page, which then calls Keepsake directly. */
export async function POST(request: Request): Promise<Response> {
  if (!isOwnPage(request)) return new Response(null, { status: 403 });
  return new Response(await keepsakeToken(), { headers: { "cache-control": "no-store" } });
}
