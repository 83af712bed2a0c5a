import { NextResponse } from "next/server";
import { keepsake } from "@/lib/keepsake";

/** A link to a file that does not run out: it leads to a signed URL, made when it is followed. */
export async function GET(_: Request, { params }: { params: Promise<{ id: string }> }) {
  const { id } = await params;
  return NextResponse.redirect(await keepsake().attachments.contentUrl(id));
}
