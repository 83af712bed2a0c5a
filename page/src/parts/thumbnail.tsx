// A picture in small, or the sign of its kind while there is none.

import type { Attachment, LegacyItem } from "keepsake-client";
import { useEffect, useRef, useState } from "preact/hooks";
import { useKeepsake } from "../keepsake";
import { FileIcon } from "./file-icon";

/** A larger picture is not fetched only to be shown small. */
const MOST_BYTES = 8_000_000;
const SHOWN = /^image\/(png|jpeg|gif|webp|avif)$/;

export function Thumbnail({ attachment }: { attachment: Attachment | LegacyItem }) {
  const keepsake = useKeepsake();
  const place = useRef<HTMLSpanElement>(null);
  const [url, setUrl] = useState<string>();
  const id = isShown(attachment) ? attachment.id : null;
  const version = isShown(attachment) ? attachment.version : 0;
  // biome-ignore lint/correctness/useExhaustiveDependencies: another version is another picture
  useEffect(() => {
    if (id === null || !place.current) return;
    const turn = new AbortController();
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen.disconnect();
      // Without it the icon stays.
      keepsake.attachments
        .contentUrl(id, { inline: true, signal: turn.signal })
        .then(setUrl, () => undefined);
    });
    seen.observe(place.current);
    return () => {
      seen.disconnect();
      turn.abort();
    };
  }, [keepsake, id, version]);
  return (
    <span class="thumbnail" ref={place}>
      {url === undefined ? (
        <FileIcon mediaType={"media_type" in attachment ? attachment.media_type : undefined} />
      ) : (
        <img
          src={url}
          alt=""
          decoding="async"
          referrerpolicy="no-referrer"
          onError={() => setUrl(undefined)}
        />
      )}
    </span>
  );
}

const isShown = (file: Attachment | LegacyItem): file is Attachment =>
  file.id !== null && file.state === "available" && SHOWN.test(file.media_type) && file.size <= MOST_BYTES;
