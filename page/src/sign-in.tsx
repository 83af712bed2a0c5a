// The door: a token is all that opens it.

import { useState } from "preact/hooks";
import { Mark } from "./parts/mark";
import { Story } from "./parts/story";
import { type Session, start } from "./session";

/** Why somebody stands here. */
export type SignInReason = "new" | "left" | "expired";

const WORDS: Record<SignInReason, string> = {
  new: "Enter the token that your application issued to you. You will see only what you may see.",
  left: "You are signed out. This window keeps nothing of your data.",
  expired: "Your token has expired or was rejected. Enter a new one to continue where you were.",
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
            This is not a token. A token has three parts, separated by dots. Copy all of it.
          </p>
        ) : (
          <p id="token-hint" class="quiet">
            <code>make dev</code> prints a link that contains one.
          </p>
        )}
        <button type="submit" class="button">
          Continue
        </button>
      </form>
    </main>
  );
}
