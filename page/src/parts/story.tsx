// What Keepsake does, told as what a person does with it.

const STEPS = [
  [
    "Drop files on a post",
    "They are checked before and after they are sent. What you add together appears together: all of it, or nothing.",
  ],
  [
    "Delete without fear",
    "A post goes with its files and all that hangs on it, in one step. Undo is one click.",
  ],
  ["Find it in the bin", "Each deletion waits there as a whole, and says how many days it has left."],
  [
    "Get it back as it was",
    "One click restores exactly what went. If something has taken its place, you see both and choose.",
  ],
] as const;

/** The four steps. */
export function Story() {
  return (
    <ol class="story">
      {STEPS.map(([title, text]) => (
        <li key={title}>
          <strong>{title}</strong>
          <span class="quiet">{text}</span>
        </li>
      ))}
    </ol>
  );
}

const FOLDED = "keepsake.story.folded";

/** The same above a view: open, where there is room for both, until it has been folded in this browser. */
export function StoryFold() {
  const isOpen = localStorage.getItem(FOLDED) === null && matchMedia("(width >= 40rem)").matches;
  const remember = ({ currentTarget: { open } }: { currentTarget: HTMLDetailsElement }) => {
    if (open) localStorage.removeItem(FOLDED);
    else localStorage.setItem(FOLDED, "yes");
  };
  return (
    <details class="story-fold" open={isOpen} onToggle={remember}>
      <summary>How Keepsake works</summary>
      <Story />
    </details>
  );
}
