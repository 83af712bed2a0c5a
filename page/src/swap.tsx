// A link would have this window be somebody else's. Only the person who is here can say whether it shall.

import { useLayoutEffect, useRef } from "preact/hooks";
import { Person } from "./parts/person";
import type { Session } from "./session";

interface Props {
  readonly here: Session;
  readonly offered: Session;
  readonly onStay: () => void;
  readonly onSwap: () => void;
}

export function Swap({ here, offered, onStay, onSwap }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog
      ref={dialog}
      role="alertdialog"
      class="swap"
      aria-labelledby="swap-heading"
      aria-describedby="swap-text"
      onCancel={onStay}
    >
      <h2 id="swap-heading">Sign in as somebody else?</h2>
      <div id="swap-text">
        <p>The link that was just opened has a token in it, which would take the place of yours.</p>
        <dl>
          <dt>You are signed in as</dt>
          <dd>
            <Person of={here} />
          </dd>
          <dt>The link would sign you in as</dt>
          <dd>
            <Person of={offered} />
          </dd>
        </dl>
        <p>
          Whatever you upload or delete then is done as them, and they can see it. If you did not mean to,
          stay who you are: nothing has changed yet.
        </p>
      </div>
      <div class="choices">
        <button type="button" class="button" onClick={onStay}>
          Stay signed in
        </button>
        <button type="button" class="button second" onClick={onSwap}>
          Sign in as the other
        </button>
      </div>
    </dialog>
  );
}
