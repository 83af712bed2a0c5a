// One file: what it is, how it stands, and what can be done with it.

import type { Attachment, LegacyItem } from "keepsake-client";
import type { ComponentChildren } from "preact";
import { ago, moment, size } from "../format";
import { useMayWrite } from "../keepsake";
import { FileState, whyShut } from "./file-state";
import { Thumbnail } from "./thumbnail";

interface Props {
  readonly attachment: Attachment | LegacyItem;
  readonly children?: ComponentChildren;
}

export function AttachmentRow({ attachment, children }: Props) {
  const { name, state } = attachment;
  const { size: bytes, created_at } = attachment.id === null ? {} : attachment;
  const why = whyShut(state, useMayWrite());
  return (
    <li class="file">
      <Thumbnail attachment={attachment} />
      <div class="file-text">
        <p class="file-name">
          <bdi dir="auto">{name}</bdi>
        </p>
        <p class="quiet file-facts">
          {bytes !== undefined && <span>{size(bytes)}</span>}
          {created_at && (
            <time dateTime={created_at} title={moment(created_at)}>
              {ago(created_at)}
            </time>
          )}
          <FileState attachment={attachment} />
        </p>
        {why && <p class="file-why">{why}</p>}
      </div>
      <div class="file-acts">{children}</div>
    </li>
  );
}
