//! What a person needs to try things: an environment file, and commands to copy.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use keepsake_tests::places::checkout;
use keepsake_tests::secrets::write_private;
use keepsake_tests::stack::Stack;
use keepsake_tests::token;
use serde_json::json;

const DAY: u64 = 24 * 60 * 60;
const FILE: &str = ".keepsake.env";

/// The environment file of a run, which is removed when the run ends.
#[derive(Debug)]
pub struct Session {
    file: PathBuf,
    token: String,
}

impl Session {
    /// Writes the file: the URLs, and a token of user ada of tenant acme, valid for a day.
    ///
    /// # Errors
    /// The checkout is not writable.
    pub fn open(stack: &Stack) -> Result<Self> {
        let mut claims = token::claims("acme", "ada");
        claims["exp"] = json!(token::unix_now() + DAY);
        let token = token::mint(&claims, &stack.secrets.jwt_key);
        let file = checkout().join(FILE);
        write_private(&file, stack.environment(&token).as_bytes())?;
        Ok(Self { file, token })
    }

    /// Prints what is running, and what to try.
    pub fn greet(&self, stack: &Stack) {
        println!(
            "
Keepsake is running. Ctrl-C stops it; the data is kept for the next run.

  page        {url}/#token={token}
  worker      {url}
  PostgreSQL  {database}
  token       {token}
              (user ada of tenant acme, valid for a day)
  logs        {folder}/worker.log
              {folder}/postgres.log

Open the page, or try this in another terminal in the same folder (docs/tour.md continues from here):

  . ./{FILE}
  curl -sS -H \"Authorization: Bearer $KEEPSAKE_TOKEN\" \"$KEEPSAKE_URL/v1/post/1/attachments\"
  psql \"$KEEPSAKE_DATABASE_URL\" -c 'SELECT * FROM public.post'

Here, the schedule (purge, close expired uploads, delete objects) does not run by itself. This runs it once:

  curl -sS \"$KEEPSAKE_URL/__scheduled\"
",
            url = stack.worker.url(),
            database = stack.postgres.superuser_url(),
            token = self.token,
            folder = stack.folder().display(),
        );
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A stale file would name a port that another program may use by then.
        let _ = fs::remove_file(&self.file);
    }
}
