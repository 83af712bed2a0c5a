//! What the worker asks of the database: one call of one SQL function, one JSON answer.
//!
//! Every function of the schema `attachments_api` takes and returns `jsonb`, sent and received as text, so that only
//! built-in types cross the wire and no type lookup is needed.

use super::{DbError, envelope::open, schema::REQUIRED_SCHEMA};
use crate::{model::Caller, runtime::Task};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{fmt::Debug, sync::Arc};

/// Declares the functions of one kind, each with its name in `attachments_api`.
macro_rules! functions {
    ($(#[$meta:meta])* $kind:ident { $($function:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $kind {
            $(
                #[doc = concat!("`attachments_api.", $name, "`.")]
                $function,
            )+
        }

        impl $kind {
            const fn name(self) -> &'static str {
                match self {
                    $(Self::$function => $name,)+
                }
            }
        }
    };
}

functions! {
    /// Functions that run for a caller, under its claims. Arguments: the claims and the request.
    CallerFunction {
        CreateUpload = "create_upload",
        GetUpload = "get_upload",
        CompleteUpload = "complete_upload",
        RejectUpload = "reject_upload",
        AbortUpload = "abort_upload",
        FindMultipart = "find_multipart",
        BeginMultipart = "begin_multipart",
        GetUsage = "get_usage",
        GetLimits = "get_limits",
        ListAttachments = "list_attachments",
        GetAttachment = "get_attachment",
        AttachmentContent = "attachment_content",
        CreateVersion = "create_version",
        ListVersions = "list_versions",
        VersionContent = "version_content",
        RestoreVersion = "restore_version",
        DeleteAttachment = "delete_attachment",
        DeleteEntity = "delete_entity",
        RestoreAttachment = "restore_attachment",
        RestoreEntity = "restore_entity",
        ListEntities = "list_entities",
        GetEntity = "get_entity",
        RenameEntity = "rename_entity",
        RenameAttachment = "rename_attachment",
        ListDeletions = "list_deletions",
        GetDeletion = "get_deletion",
        RestoreDeletion = "restore_deletion",
    }
}

functions! {
    /// Functions that run for the worker itself. Argument: the request.
    SystemFunction {
        SweepUploads = "sweep_uploads",
        RecordPart = "record_part",
        ForgetPart = "forget_part",
        FindOpenUpload = "find_open_upload",
        LeaseOpenUpload = "lease_open_upload",
        LeaseMultiparts = "lease_multiparts",
        SettleMultiparts = "settle_multiparts",
        Purge = "purge",
        LeaseObjects = "lease_objects",
        SettleObjects = "settle_objects",
        Tidy = "tidy",
        AuditPlace = "audit_place",
        AuditObjects = "audit_objects",
        RecordRun = "record_run",
        ListRuns = "list_runs",
        RecordScan = "record_scan",
        TakeSample = "take_sample",
        GetHistory = "get_history",
        GetPurgePlan = "get_purge_plan",
        ListOutbox = "list_outbox",
        RetryObject = "retry_object",
        ListHolds = "list_holds",
        PlaceHold = "place_hold",
        ReleaseHold = "release_hold",
        ListFindings = "list_findings",
        LeaseEvents = "lease_events",
        SettleEvents = "settle_events",
        ListEvents = "list_events",
        RetryEvent = "retry_event",
        Erase = "erase",
        ListErasures = "list_erasures",
    }
}

/// One call.
#[derive(Debug)]
pub enum Call<'a> {
    /// The version of the schema that the database has.
    SchemaVersion,
    /// The metrics that an operator watches.
    Metrics,
    /// For a caller.
    Caller {
        /// Which function.
        function: CallerFunction,
        /// Whose claims it runs under.
        caller: &'a Caller,
        /// Its argument.
        request: Value,
    },
    /// For the worker.
    System {
        /// Which function.
        function: SystemFunction,
        /// Its argument.
        request: Value,
    },
}

impl Call<'_> {
    /// The function's name in `attachments_api`.
    pub const fn function(&self) -> &'static str {
        match self {
            Call::SchemaVersion => "schema_version",
            Call::Metrics => "metrics",
            Call::Caller { function, .. } => function.name(),
            Call::System { function, .. } => function.name(),
        }
    }

    /// The statement, and its arguments. It answers with one row of two values: the function's answer, and the argument
    /// behind those given here, repeated.
    ///
    /// The function runs only if the schema is new enough: a `CASE` evaluates no branch that it does not take. So no
    /// request acts on a schema that lacks half of what it needs, and the check costs no round trip.
    pub fn statement(&self) -> (String, Vec<String>) {
        let function = self.function();
        let (parameters, arguments) = match self {
            Call::SchemaVersion | Call::Metrics => ("", Vec::new()),
            Call::Caller {
                caller, request, ..
            } => (
                "$1::text::jsonb, $2::text::jsonb",
                vec![caller.claims.clone(), request.to_string()],
            ),
            Call::System { request, .. } => ("$1::text::jsonb", vec![request.to_string()]),
        };
        let mark = arguments.len() + 1;
        let statement = format!(
            "SELECT CASE WHEN found.version >= {REQUIRED_SCHEMA} THEN attachments_api.{function}({parameters})::text \
             ELSE pg_catalog.jsonb_build_object('outdated', found.version)::text END, ${mark}::text \
             FROM (SELECT (attachments_api.schema_version() #>> '{{ok,version}}')::integer) AS found (version)"
        );
        (statement, arguments)
    }

    /// What the statement's first column says.
    ///
    /// # Errors
    /// A refusal; a schema that is too old; an answer of something else.
    pub fn read(answer: &str) -> Result<Value, DbError> {
        open(answer)
    }
}

/// A database that answers calls.
#[expect(
    async_fn_in_trait,
    reason = "of a database that any thread may call, the futures can be sent, too"
)]
pub trait Database {
    /// Makes one call in one transaction, and returns the value under `ok` in its answer: see [`Call::read`].
    ///
    /// # Errors
    /// See [`DbError`].
    fn call<'a>(&'a self, call: Call<'a>) -> Task<'a, Result<Value, DbError>>;

    /// Makes a call for a caller.
    fn for_caller<'a>(
        &'a self,
        function: CallerFunction,
        caller: &'a Caller,
        request: Value,
    ) -> Task<'a, Result<Value, DbError>> {
        self.call(Call::Caller {
            function,
            caller,
            request,
        })
    }

    /// Makes a call for the service itself.
    fn for_system(
        &self,
        function: SystemFunction,
        request: Value,
    ) -> Task<'_, Result<Value, DbError>> {
        self.call(Call::System { function, request })
    }

    /// Makes a call for a caller, and reads the answer.
    async fn read_for_caller<T: DeserializeOwned>(
        &self,
        function: CallerFunction,
        caller: &Caller,
        request: Value,
    ) -> Result<T, DbError>
    where
        Self: Sized,
    {
        read(self.for_caller(function, caller, request).await?)
    }

    /// Makes a call for the worker itself, and reads the answer.
    async fn read_for_system<T: DeserializeOwned>(
        &self,
        function: SystemFunction,
        request: Value,
    ) -> Result<T, DbError>
    where
        Self: Sized,
    {
        let answer = self.for_system(function, request).await?;
        serde_json::from_value(answer)
            .map_err(|error| DbError::Unexpected(format!("{function:?}: {error}")))
    }
}

/// The database of a host.
pub type AnyDatabase = Arc<dyn HostDatabase>;

/// A database that any thread may call.
pub trait HostDatabase: Database + Debug + Send + Sync {}

impl<D: Database + Debug + Send + Sync> HostDatabase for D {}

impl Database for Arc<dyn HostDatabase + '_> {
    fn call<'a>(&'a self, call: Call<'a>) -> Task<'a, Result<Value, DbError>> {
        self.as_ref().call(call)
    }
}

/// Reads an answer.
///
/// # Errors
/// [`DbError::Unavailable`] for one of another shape: our SQL functions do not answer so, which means that this is not
/// our database.
pub(crate) fn read<T: DeserializeOwned>(answer: Value) -> Result<T, DbError> {
    serde_json::from_value(answer).map_err(|error| {
        DbError::Unavailable(format!(
            "the database's answer has an unexpected shape: {error}"
        ))
    })
}
