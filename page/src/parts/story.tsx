// What Keepsake does, told as what a person does with it.

const STEPS = [
  [
    "Drop files on a post",
    "They are checked before and after they are sent. Files that you add together appear together, or not at all.",
  ],
  [
    "Delete without fear",
    "A post is deleted with its files and everything that belongs to it, in one step. Undo is one click.",
  ],
  ["Find it in the bin", "Each deletion is kept there as a whole, and shows how many days are left."],
  [
    "Restore it as it was",
    "One click restores exactly what was deleted. If something conflicts with it, you see both and choose.",
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
