"use server";

import { KeepsakeError } from "keepsake-client";
import { revalidatePath } from "next/cache";
import { keepsake } from "@/lib/keepsake";

/** Deletes an attachment and refreshes the post's page. Returns an error message, if it failed. */
export async function deleteAttachment(post: string, id: string) {
  return attempt(post, () => keepsake().attachments.delete(id));
}

/** Restores an attachment and refreshes the page. Returns an error message, if it failed. */
export async function restoreAttachment(post: string, id: string) {
  return attempt(post, () => keepsake().attachments.restore(id));
}

async function attempt(post: string, act: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof KeepsakeError)) throw error;
    return `${error.title}. ${error.detail}`;
  } finally {
    revalidatePath(`/posts/${post}`);
  }
}
