//! The one implementation: tokio-postgres over a worker socket, to a Hyperdrive or to the server itself.
//!
//! A connection lives for one call: a socket belongs to the request that opened it, and Hyperdrive
//! keeps the real pool.

use super::{
    Address, Call, CallerFunction, Database, DbError, SystemFunction, Trouble, open, trouble,
};
use futures_util::{
    FutureExt,
    future::{Either, select},
};
use serde_json::Value;
use std::{pin::pin, time::Duration};
use tokio_postgres::{
    Config,
    config::SslMode,
    types::{ToSql, Type},
};
use worker::{
    Delay, Hyperdrive, SecureTransport, Socket, postgres_tls::PassthroughTls,
    wasm_bindgen_futures::spawn_local,
};

/// Longest wait for one call, connecting included.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How often a call is made that loses to another transaction.
const ATTEMPTS: u32 = 3;

/// A PostgreSQL.
#[derive(Debug)]
pub(crate) struct Postgres(Address);

impl From<&Hyperdrive> for Postgres {
    /// Hyperdrive is reached inside Cloudflare's own network and speaks TLS to the database itself.
    fn from(hyperdrive: &Hyperdrive) -> Self {
        let mut config = Config::new();
        config
            .user(hyperdrive.user())
            .password(hyperdrive.password())
            .dbname(hyperdrive.database())
            .ssl_mode(SslMode::Disable);
        Self(Address {
            host: hyperdrive.host(),
            port: hyperdrive.port(),
            tls: false,
            config,
        })
    }
}

impl From<Address> for Postgres {
    fn from(address: Address) -> Self {
        Self(address)
    }
}

impl Database for Postgres {
    async fn call(&self, call: Call<'_>) -> Result<Value, DbError> {
        let (statement, arguments) = statement(&call);
        let mut attempt = 1;
        loop {
            let answer = self.within_time(statement, &arguments).await;
            match answer {
                Err(Failure {
                    trouble: Trouble::Retry,
                    ..
                }) if attempt < ATTEMPTS => attempt += 1,
                Err(failure) => return Err(failure.into()),
                Ok(text) => return open(&text),
            }
        }
    }
}

impl Postgres {
    async fn within_time(&self, statement: &str, arguments: &[String]) -> Result<String, Failure> {
        match select(pin!(self.query(statement, arguments)), Delay::from(TIMEOUT)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Err(Failure {
                trouble: Trouble::Unavailable,
                cause: format!("no answer from the database within {} s", TIMEOUT.as_secs()),
            }),
        }
    }

    async fn query(&self, statement: &str, arguments: &[String]) -> Result<String, Failure> {
        let Address {
            host, port, tls, ..
        } = &self.0;
        // With StartTls the driver asks the server first and the runtime then checks its certificate
        // and name against the public roots.
        let transport = if *tls {
            SecureTransport::StartTls
        } else {
            SecureTransport::Off
        };
        let socket = Socket::builder()
            .secure_transport(transport)
            .connect(host, *port)
            .map_err(|error| Failure {
                trouble: Trouble::Unavailable,
                cause: format!("no socket to the database: {error}"),
            })?;
        let mut config = self.0.config.clone();
        let (client, connection) = config
            .application_name("keepsake")
            .connect_raw(socket, PassthroughTls)
            .await?;
        // Moves the bytes in the background; ends, with a goodbye to the server, once the client is
        // dropped. What goes wrong with it the client sees too.
        spawn_local(connection.map(drop));
        let arguments: Vec<_> = arguments
            .iter()
            .map(|argument| (argument as &(dyn ToSql + Sync), Type::TEXT))
            .collect();
        let row = client.query_typed_one(statement, &arguments).await?;
        row.try_get(0).map_err(|error| Failure {
            trouble: Trouble::Unexpected,
            cause: source_chain(&error),
        })
    }
}

/// A call that did not come through.
struct Failure {
    trouble: Trouble,
    cause: String,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Self {
                trouble: trouble(db.code().code()),
                cause: format!("SQLSTATE {}: {}", db.code().code(), db.message()),
            },
            None => Self {
                trouble: Trouble::Unavailable,
                cause: source_chain(&error),
            },
        }
    }
}

impl From<Failure> for DbError {
    fn from(failure: Failure) -> Self {
        match failure.trouble {
            Trouble::Retry | Trouble::Unavailable => Self::Unavailable(failure.cause),
            Trouble::Unexpected => Self::Unexpected(failure.cause),
        }
    }
}

/// An error and what caused it; the driver's own text alone says too little.
fn source_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn statement(call: &Call<'_>) -> (&'static str, Vec<String>) {
    match call {
        Call::Ping => ("SELECT attachments_api.ping()::text", Vec::new()),
        Call::Metrics => ("SELECT attachments_api.metrics()::text", Vec::new()),
        Call::Caller {
            function,
            caller,
            request,
        } => (
            for_caller(*function),
            vec![caller.claims.clone(), request.to_string()],
        ),
        Call::System { function, request } => (for_system(*function), vec![request.to_string()]),
    }
}

const fn for_caller(function: CallerFunction) -> &'static str {
    macro_rules! sql {
        ($name:literal) => {
            concat!(
                "SELECT attachments_api.",
                $name,
                "($1::text::jsonb, $2::text::jsonb)::text"
            )
        };
    }
    match function {
        CallerFunction::CreateUpload => sql!("create_upload"),
        CallerFunction::GetUpload => sql!("get_upload"),
        CallerFunction::CompleteUpload => sql!("complete_upload"),
        CallerFunction::RejectUpload => sql!("reject_upload"),
        CallerFunction::AbortUpload => sql!("abort_upload"),
        CallerFunction::FindMultipart => sql!("find_multipart"),
        CallerFunction::BeginMultipart => sql!("begin_multipart"),
        CallerFunction::GetUsage => sql!("get_usage"),
        CallerFunction::ListAttachments => sql!("list_attachments"),
        CallerFunction::GetAttachment => sql!("get_attachment"),
        CallerFunction::AttachmentContent => sql!("attachment_content"),
        CallerFunction::DeleteAttachment => sql!("delete_attachment"),
        CallerFunction::DeleteEntity => sql!("delete_entity"),
        CallerFunction::RestoreAttachment => sql!("restore_attachment"),
        CallerFunction::RestoreEntity => sql!("restore_entity"),
        CallerFunction::ListEntities => sql!("list_entities"),
        CallerFunction::GetEntity => sql!("get_entity"),
        CallerFunction::RenameEntity => sql!("rename_entity"),
        CallerFunction::RenameAttachment => sql!("rename_attachment"),
        CallerFunction::ListDeletions => sql!("list_deletions"),
        CallerFunction::GetDeletion => sql!("get_deletion"),
        CallerFunction::RestoreDeletion => sql!("restore_deletion"),
    }
}

const fn for_system(function: SystemFunction) -> &'static str {
    macro_rules! sql {
        ($name:literal) => {
            concat!("SELECT attachments_api.", $name, "($1::text::jsonb)::text")
        };
    }
    match function {
        SystemFunction::SweepUploads => sql!("sweep_uploads"),
        SystemFunction::RecordPart => sql!("record_part"),
        SystemFunction::LeaseMultiparts => sql!("lease_multiparts"),
        SystemFunction::SettleMultiparts => sql!("settle_multiparts"),
        SystemFunction::Purge => sql!("purge"),
        SystemFunction::LeaseObjects => sql!("lease_objects"),
        SystemFunction::SettleObjects => sql!("settle_objects"),
        SystemFunction::Tidy => sql!("tidy"),
        SystemFunction::AuditPlace => sql!("audit_place"),
        SystemFunction::AuditObjects => sql!("audit_objects"),
        SystemFunction::RecordRun => sql!("record_run"),
        SystemFunction::ListRuns => sql!("list_runs"),
        SystemFunction::RecordScan => sql!("record_scan"),
        SystemFunction::TakeSample => sql!("take_sample"),
        SystemFunction::GetHistory => sql!("get_history"),
        SystemFunction::GetPurgePlan => sql!("get_purge_plan"),
        SystemFunction::ListOutbox => sql!("list_outbox"),
        SystemFunction::RetryObject => sql!("retry_object"),
        SystemFunction::ListHolds => sql!("list_holds"),
        SystemFunction::PlaceHold => sql!("place_hold"),
        SystemFunction::ReleaseHold => sql!("release_hold"),
        SystemFunction::ListFindings => sql!("list_findings"),
    }
}
