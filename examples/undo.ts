import { createKeepsake, uploadFiles } from "keepsake-client";

/** Uploads files to a post, deletes the post with its attachments, and restores both. */
export async function uploadDeleteUndo(url: string, token: string, post: string, files: File[]) {
  const keepsake = createKeepsake({ url, token: () => token });
  const entity = { type: "post", id: post };
  await uploadFiles(keepsake, { entity, files }); // all files appear, or none
  const { deletionId } = await keepsake.entities.delete(entity);
  await keepsake.deletions.restore(deletionId);
}
