//! What to try now.

use keepsake_tests::stack::Stack;
use keepsake_tests::token;
use serde_json::json;

const DAY: u64 = 24 * 60 * 60;

/// Prints the address, a token, and commands that can be copied as they are.
pub fn print(stack: &Stack) {
    let mut claims = token::claims("acme", "ada");
    claims["exp"] = json!(token::unix_now() + DAY);
    let bearer = token::mint(&claims, &stack.secrets.jwt_key);
    println!(
        "
Keepsake is running. Ctrl-C stops it; the data stays for the next run.

  worker      {url}
  PostgreSQL  {database}
  logs        {folder}/worker.log, {folder}/postgres.log

In another terminal, set the address and a bearer token (user ada of tenant acme, for a day):

  export KEEPSAKE_URL={url}
  export KEEPSAKE_TOKEN={bearer}

and try:

  curl -sS -H \"Authorization: Bearer $KEEPSAKE_TOKEN\" $KEEPSAKE_URL/v1/post/1/attachments
  psql '{database}' -c 'SELECT * FROM public.post'
",
        url = stack.worker.url(),
        database = stack.postgres.superuser_url(),
        folder = stack.folder().display(),
    );
}
