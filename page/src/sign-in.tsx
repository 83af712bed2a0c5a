// The door: a token is all that opens it.

import { useState } from "preact/hooks";
import { Mark } from "./parts/mark";
import { Story } from "./parts/story";
import { type Session, start } from "./session";

/** Why somebody stands here. */
export type SignInReason = "new" | "left" | "expired";

const WORDS: Record<SignInReason, string> = {
  new: "To look around, give the token that your application has for you. It shows what is yours, and nothing else.",
  left: "You have signed out. This window keeps nothing of you.",
  expired:
    "Your token has run out or is no longer taken, so nothing more can be shown or changed. Get a new one and go on where you were.",
};

interface Props {
  readonly reason: SignInReason;
  readonly onSession: (session: Session) => void;
}

export function SignIn({ reason, onSession }: Props) {
  const [token, setToken] = useState("");
  const [refused, setRefused] = useState(false);
  const submit = (event: Event) => {
    event.preventDefault();
    const session = start(token);
    setRefused(!session);
    if (session) onSession(session);
  };
  return (
    <main class="door">
      <div class="door-sign">
        <Mark />
        <h1>Keepsake</h1>
        <p class="claim">Files that arrive whole or not at all, and deletion that can be undone.</p>
      </div>
      {reason === "new" && <Story />}
      <form onSubmit={submit}>
        <p role={reason === "expired" ? "alert" : undefined}>{WORDS[reason]}</p>
        <label for="token">Token</label>
        <input
          id="token"
          type="password"
          autocomplete="off"
          spellcheck={false}
          required
          value={token}
          onInput={(event) => setToken(event.currentTarget.value)}
          aria-invalid={refused}
          aria-describedby={refused ? "token-refused" : "token-hint"}
        />
        {refused ? (
          <p id="token-refused" class="refusal" role="alert">
            This is not a token: one has three parts with a dot between them. Copy it whole.
          </p>
        ) : (
          <p id="token-hint" class="quiet">
            <code>make dev</code> prints a link that has one in it.
          </p>
        )}
        <button type="submit" class="button">
          Continue
        </button>
      </form>
    </main>
  );
}
