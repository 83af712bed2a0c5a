// A field whose words are looked for as soon as the typing pauses.

import { useEffect, useId, useRef, useState } from "preact/hooks";

const PAUSE_MS = 250;

export function SearchField({ what, onSearch }: { what: string; onSearch: (words: string) => void }) {
  const id = useId();
  const [words, setWords] = useState("");
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const type = (event: { currentTarget: HTMLInputElement }) => {
    const { value } = event.currentTarget;
    setWords(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onSearch(value.trim()), PAUSE_MS);
  };
  return (
    <search class="search">
      <label class="unseen" for={id}>
        Search the {what}
      </label>
      <input
        id={id}
        type="search"
        dir="auto"
        maxLength={255}
        placeholder={`Search the ${what}`}
        value={words}
        onInput={type}
      />
    </search>
  );
}
