//! PostgreSQL, over a pool of kept connections.
//!
//! A call is one message there and one back, and leaves nothing behind in its connection, so that another pool may stand
//! between. A call that loses to another transaction is made again, and so is one whose connection turns out to be gone: each
//! function comes to the same end when it is called twice.

use crate::{
    tls,
    traces::{Kind, Span},
};
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use keepsake_service::{
    clock,
    db::{Address, Call, Database, DbError, Failure, Trouble, lost, trouble, unavailable},
    runtime::Task,
};
use opentelemetry::KeyValue;
use serde_json::Value;
use std::{error::Error, fmt, time::Duration};
use tokio::{runtime::Handle, time::timeout};
use tokio_postgres::{
    Config, NoTls,
    error::ErrorPosition,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Longest wait for one call, connecting and repeating included.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Longest wait for a connection: one of the pool's, or a new one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a call is made that loses to another transaction.
const ATTEMPTS: u32 = 3;

/// A pool of connections to one database.
pub(crate) struct Postgres {
    address: Address,
    pool: Pool,
    tls: Option<MakeRustlsConnect>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(out)
    }
}

impl Postgres {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// No pool can be made, with the reason.
    pub(crate) fn new(address: &Address, connections: usize) -> Result<Self, String> {
        let config = config(address);
        let recycling = ManagerConfig {
            // A connection that broke is known to be closed, without asking.
            recycling_method: RecyclingMethod::Fast,
        };
        let tls = match address.tls {
            true => Some(MakeRustlsConnect::new(tls::config()?)),
            false => None,
        };
        let manager = match tls.clone() {
            Some(tls) => Manager::from_config(config, tls, recycling),
            None => Manager::from_config(config, NoTls, recycling),
        };
        let pool = Pool::builder(manager)
            .max_size(connections)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(CONNECT_TIMEOUT),
                create: Some(CONNECT_TIMEOUT),
                recycle: Some(CONNECT_TIMEOUT),
            })
            .build()
            .map_err(|error| error.to_string())?;
        let address = address.clone();
        Ok(Self { address, pool, tls })
    }

    /// A connection that is given back when it is dropped.
    ///
    /// # Errors
    /// None can be had.
    pub(crate) async fn connection(&self) -> Result<Object, Failure> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => failure(&error),
            error => unavailable(&format!("no connection to the database: {error}")),
        })
    }

    /// The span of a call, its repetitions included. It tells the function, and no value.
    fn span(&self, call: &Call<'_>) -> Span {
        Span::begin(Kind::Client, || {
            let function = format!("attachments_api.{}", call.function());
            let attributes = vec![
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.namespace", self.address.login.database.clone()),
                KeyValue::new("db.stored_procedure.name", function.clone()),
                KeyValue::new("server.address", self.address.host.clone()),
                KeyValue::new("server.port", i64::from(self.address.port)),
            ];
            (format!("SELECT {function}").into(), attributes)
        })
    }

    async fn read(&self, call: &Call<'_>) -> Result<Value, DbError> {
        let answer = clock::timeout(TIMEOUT, self.answer(call)).await;
        Call::read(&answer.unwrap_or_else(|| {
            let seconds = TIMEOUT.as_secs();
            Err(unavailable(&format!(
                "the database did not answer within {seconds} s"
            )))
        })?)
    }

    async fn answer(&self, call: &Call<'_>) -> Result<String, Failure> {
        let (statement, arguments) = call.statement();
        let mut attempt = 1;
        loop {
            match self.ask(&statement, &arguments).await {
                Err(Failure {
                    trouble: Trouble::Retry | Trouble::Lost,
                    ..
                }) if attempt < ATTEMPTS => attempt += 1,
                answer => return answer,
            }
        }
    }

    async fn ask(&self, statement: &str, arguments: &[String]) -> Result<String, Failure> {
        let mut connection = Asked {
            object: Some(self.connection().await?),
            tls: self.tls.clone(),
        };
        // The last is repeated in the answer, for drivers that cannot be sure whose it is.
        let mark = String::new();
        let mut values: Vec<(&(dyn ToSql + Sync), Type)> = Vec::with_capacity(arguments.len() + 1);
        for argument in arguments {
            values.push((argument, Type::TEXT));
        }
        values.push((&mark, Type::TEXT));
        let client = connection.object.as_ref();
        let client = client.ok_or_else(|| lost("the connection was given away"))?;
        let rows = client.query_typed(statement, &values).await;
        connection.give_back();
        let rows = rows.map_err(|error| failure(&error))?;
        let row = rows.first();
        let row = row.ok_or_else(|| unavailable("the database's answer has no row"))?;
        row.try_get(0).map_err(|error| failure(&error))
    }
}

/// A connection that was asked something. When nobody waits for the answer any more, it is not given back: the next call
/// would wait for that answer first.
struct Asked {
    object: Option<Object>,
    tls: Option<MakeRustlsConnect>,
}

impl Asked {
    fn give_back(&mut self) {
        drop(self.object.take());
    }
}

impl Drop for Asked {
    /// It counts among the pool's connections until the database has stopped working for it.
    fn drop(&mut self) {
        let Some(object) = self.object.take() else {
            return;
        };
        let tls = self.tls.take();
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(stop(object, tls))),
            // The server ends.
            Err(_) => drop(Object::take(object)),
        }
    }
}

/// Cancels what a connection was asked, waits until that is over, and closes the connection.
async fn stop(object: Object, tls: Option<MakeRustlsConnect>) {
    let cancel = object.cancel_token();
    let stopped = async {
        // A cancellation that does not arrive leaves the call to its end.
        let _ = match tls {
            Some(tls) => cancel.cancel_query(tls).await,
            None => cancel.cancel_query(NoTls).await,
        };
        // Answered after what was asked before.
        let _ = object.simple_query("").await;
    };
    let _ = timeout(TIMEOUT, stopped).await;
    drop(Object::take(object));
}

impl Database for Postgres {
    fn call<'a>(&'a self, call: Call<'a>) -> Task<'a, Result<Value, DbError>> {
        Box::pin(async move {
            let span = self.span(&call);
            let answer = span.around(self.read(&call)).await;
            match &answer {
                // A refusal is an answer to the client.
                Ok(_) | Err(DbError::Refused(_)) => {}
                Err(error) => span.fail(error.code().as_str()),
            }
            answer
        })
    }
}

fn config(address: &Address) -> Config {
    let mut config = Config::new();
    config
        .host(address.host.trim_matches(['[', ']']))
        .port(address.port)
        .user(&address.login.user)
        .password(&address.login.password)
        .dbname(&address.login.database)
        .application_name("keepsake")
        .connect_timeout(CONNECT_TIMEOUT)
        .ssl_mode(if address.tls {
            tokio_postgres::config::SslMode::Require
        } else {
            tokio_postgres::config::SslMode::Disable
        });
    config
}

fn failure(error: &tokio_postgres::Error) -> Failure {
    if let Some(error) = error.as_db_error() {
        let code = error.code().code();
        // Told with a place in the text of the statement that was sent, and not in that of a function.
        let is_of_our_statement = matches!(error.position(), Some(ErrorPosition::Original(_)));
        return Failure {
            trouble: match code {
                // invalid_schema_name, undefined_function
                "3F000" | "42883" if is_of_our_statement => Trouble::SchemaOutdated,
                _ => trouble(code),
            },
            cause: format!("{code}: {}", error.message()),
        };
    }
    let mut cause = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    if let Some(hint) = tls::hint(error) {
        cause = format!("{cause}. {hint}");
    }
    if error.is_closed() {
        lost(&cause)
    } else {
        unavailable(&cause)
    }
}
