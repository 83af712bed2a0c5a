//! Calls that a server may not live to answer.

use anyhow::Result;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::world::{DATABASE, Server};

/// A call that may never end.
pub type Call = tokio::task::JoinHandle<Result<()>>;

/// Starts a call that may never end, in a session of its own. That the server dies under it is the
/// point; any other failure is told.
pub async fn call(server: &Server, sql: &str) -> Result<Call> {
    let mut session = server.connect_to(DATABASE).await?;
    let sql = sql.to_owned();
    Ok(tokio::spawn(async move {
        match session.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await {
            Err(sqlx::Error::Database(error))
                if error.code().is_none_or(|code| !code.starts_with("57P")) =>
            {
                Err(sqlx::Error::Database(error).into())
            }
            _ => Ok(()),
        }
    }))
}

/// A client that does this again and again, and takes it lightly when another was faster.
pub fn busy(step: &str) -> String {
    format!(
        "DO $$ BEGIN
             FOR n IN 1 .. 10000 LOOP
                 BEGIN
                     {step};
                 EXCEPTION WHEN integrity_constraint_violation OR foreign_key_violation OR no_data_found
                             OR object_not_in_prerequisite_state OR deadlock_detected OR serialization_failure THEN NULL;
                 END;
                 COMMIT;
             END LOOP;
         END $$"
    )
}
