// A picture in small, or the sign of its kind while there is none.

import { useEffect, useRef, useState } from "preact/hooks";
import { type Attachment, useKeepsake } from "../keepsake";
import { FileIcon } from "./file-icon";

/** A larger picture is not fetched only to be shown small. */
const MOST_BYTES = 8_000_000;
const SHOWN = /^image\/(png|jpeg|gif|webp|avif)$/;

export function Thumbnail({ attachment }: { attachment: Attachment }) {
  const keepsake = useKeepsake();
  const place = useRef<HTMLSpanElement>(null);
  const [url, setUrl] = useState<string>();
  const { id, media_type, size = 0, state } = attachment;
  const isShown = id !== null && state === "available" && SHOWN.test(media_type ?? "") && size <= MOST_BYTES;
  useEffect(() => {
    if (!isShown || !place.current) return;
    const turn = new AbortController();
    let made: string | undefined;
    const fetchIt = async () => {
      try {
        const bytes = await keepsake.bytes(id, turn.signal);
        if (turn.signal.aborted) return;
        made = URL.createObjectURL(bytes);
        setUrl(made);
      } catch {
        // The icon stays.
      }
    };
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen.disconnect();
      void fetchIt();
    });
    seen.observe(place.current);
    return () => {
      seen.disconnect();
      turn.abort();
      if (made !== undefined) URL.revokeObjectURL(made);
    };
  }, [keepsake, id, isShown]);
  return (
    <span class="thumbnail" ref={place}>
      {url === undefined ? (
        <FileIcon mediaType={media_type} />
      ) : (
        <img src={url} alt="" decoding="async" onError={() => setUrl(undefined)} />
      )}
    </span>
  );
}
