import { keepsake, setting } from "@/lib/keepsake";
import { Attachments } from "./attachments";

interface Props {
  params: Promise<{ id: string }>;
  searchParams: Promise<{ through?: string }>;
}

export default async function PostPage({ params, searchParams }: Props) {
  const { id } = await params;
  const { items } = await keepsake().entities.attachments({ type: "post", id });
  const filter = { state: "deleted", entity_type: "post", entity_id: id } as const;
  const deleted = await keepsake().attachments.list(filter);
  // With the URL of Keepsake, the page uploads directly; without it, through our own route.
  const direct = (await searchParams).through !== "server";
  const url = direct ? { keepsakeUrl: setting("KEEPSAKE_URL") } : {};
  return <Attachments post={id} items={items} deleted={deleted.items} {...url} />;
}
