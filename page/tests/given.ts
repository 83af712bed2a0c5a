/** What `tests/tests/browser.rs` says about the stack it has started. */
export function given(name: string): string {
  const value = process.env[name];
  if (!value)
    throw new Error(`${name} is not set: run these tests by cargo test -p keepsake-tests --test browser`);
  return value;
}
