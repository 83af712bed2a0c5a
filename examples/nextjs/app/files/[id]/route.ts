import { NextResponse } from "next/server";
import { keepsake } from "@/lib/keepsake";

/** A link to a file that does not expire: it redirects to a signed URL, created when someone follows it. */
export async function GET(_: Request, { params }: { params: Promise<{ id: string }> }) {
  const { id } = await params;
  return NextResponse.redirect(await keepsake().attachments.contentUrl(id));
}
