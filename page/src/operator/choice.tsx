// One of a few, side by side.

import { useId } from "preact/hooks";

interface ChoiceProps<T> {
  readonly label: string;
  readonly options: readonly { readonly label: string; readonly value: T }[];
  readonly value: T;
  readonly onChange: (value: T) => void;
}

export function Choice<T extends string | number>({ label, options, value, onChange }: ChoiceProps<T>) {
  const name = useId();
  return (
    <fieldset class="choice">
      <legend class="unseen">{label}</legend>
      {options.map((option) => (
        <label key={option.value}>
          <input
            type="radio"
            name={name}
            checked={option.value === value}
            onChange={() => onChange(option.value)}
          />
          {option.label}
        </label>
      ))}
    </fieldset>
  );
}
