//! The one implementation: a conversation over a worker socket, with a Hyperdrive or the server itself.
//!
//! A connection lives as long as the request that opened it, to which its socket belongs; Hyperdrive
//! keeps the real pool. One to a Hyperdrive costs the database nothing before it is asked something, so it
//! may be opened while the request is still looked at.

use super::conversation::{Conversation, Question, ask_for_tls, terminate};
use futures_util::future::{FutureExt, RemoteHandle};
use keepsake_service::{
    clock,
    db::{Address, Call, Database, DbError, Failure, Login, Trouble, unavailable},
    runtime::Task,
};
use scopeguard::{ScopeGuard, guard};
use serde_json::Value;
use std::{cell::RefCell, fmt, time::Duration};
use worker::{
    Hyperdrive, SecureTransport, Socket,
    send::{SendFuture, SendWrapper},
    wasm_bindgen_futures::spawn_local,
};

/// Longest wait for one call, connecting and repeating included.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Longest wait for the end of an unused connection.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a call is made that loses to another transaction.
const ATTEMPTS: u32 = 3;

/// A PostgreSQL, for one request.
pub(crate) struct Postgres {
    address: Address,
    connection: SendWrapper<RefCell<Connection>>,
}

/// Where the next call is made.
enum Connection {
    /// Nowhere yet.
    None,
    /// On one that is being opened. Letting it go ends that.
    Coming(RemoteHandle<Result<Conversation<Line>, Failure>>),
    /// On that of the last call, which came through.
    Open(Conversation<Line>),
}

impl fmt::Debug for Postgres {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(out)
    }
}

impl From<Address> for Postgres {
    fn from(address: Address) -> Self {
        Self {
            address,
            connection: SendWrapper::new(RefCell::new(Connection::None)),
        }
    }
}

impl Database for Postgres {
    fn call<'a>(&'a self, call: Call<'a>) -> Task<'a, Result<Value, DbError>> {
        Box::pin(SendFuture::new(async move {
            let answer = clock::timeout(TIMEOUT, self.answer(&call)).await;
            Call::read(&answer.unwrap_or_else(|| {
                let seconds = TIMEOUT.as_secs();
                Err(unavailable(&format!(
                    "the database did not answer within {seconds} s"
                )))
            })?)
        }))
    }
}

impl Postgres {
    /// The database behind a Hyperdrive, which speaks TLS to it and is itself reached inside Cloudflare's own network.
    /// `open`: whether it may have the password in any form that it asks for.
    pub(crate) fn behind(hyperdrive: &Hyperdrive, open: bool) -> Self {
        Self::from(Address {
            host: hyperdrive.host(),
            port: hyperdrive.port(),
            tls: false,
            login: Login {
                user: hyperdrive.user(),
                password: hyperdrive.password().into_bytes(),
                database: hyperdrive.database(),
                open,
            },
        })
    }

    /// Begins to open the connection, and does not wait for it.
    pub(crate) fn open_ahead(&self) {
        let address = self.address.clone();
        let (opening, coming) = async move { connect(&address).await }.remote_handle();
        spawn_local(opening);
        self.connection.0.replace(Connection::Coming(coming));
    }

    async fn answer(&self, call: &Call<'_>) -> Result<String, Failure> {
        let mut attempt = 1;
        loop {
            match self.query(call).await {
                Err(Failure {
                    trouble: Trouble::Retry,
                    ..
                }) if attempt < ATTEMPTS => attempt += 1,
                answer => return answer,
            }
        }
    }

    /// Goes on where the last call was made. Should that connection be gone, the call is made on a new one: each
    /// function comes to the same end when it is called again.
    async fn query(&self, call: &Call<'_>) -> Result<String, Failure> {
        let kept = match self.connection.0.replace(Connection::None) {
            Connection::None => None,
            Connection::Coming(connection) => Some(connection.await?),
            Connection::Open(conversation) => Some(conversation),
        };
        if let Some(conversation) = kept {
            match self.ask(conversation, call).await {
                Err(failure) if failure.trouble == Trouble::Lost => {}
                answer => return answer,
            }
        }
        let conversation = connect(&self.address).await?;
        self.ask(conversation, call).await
    }

    /// A conversation in which something went wrong is not kept.
    async fn ask(
        &self,
        mut conversation: Conversation<Line>,
        call: &Call<'_>,
    ) -> Result<String, Failure> {
        let answer = conversation.ask(&question(call)).await?;
        self.connection.0.replace(Connection::Open(conversation));
        Ok(answer)
    }
}

/// A socket that is terminated and closed when it is dropped.
type Line = ScopeGuard<Socket, fn(Socket)>;

fn line(socket: Socket) -> Line {
    guard(socket, |mut socket| {
        spawn_local(async move {
            // A connection that broke needs none.
            let _ = clock::timeout(TERMINATE_TIMEOUT, terminate(&mut socket)).await;
        });
    })
}

/// A connection that is logged in.
async fn connect(address: &Address) -> Result<Conversation<Line>, Failure> {
    let mut conversation = Conversation::new(dial(address).await?);
    conversation.log_in(&address.login).await?;
    Ok(conversation)
}

/// Where it is to be encrypted, the server is asked first, and the runtime then checks its certificate
/// and name against the public roots.
async fn dial(address: &Address) -> Result<Line, Failure> {
    let transport = if address.tls {
        SecureTransport::StartTls
    } else {
        SecureTransport::Off
    };
    let socket = Socket::builder()
        .secure_transport(transport)
        .connect(address.host.as_str(), address.port)
        .map_err(|error| unavailable(&format!("cannot connect to the database: {error}")))?;
    let mut socket = line(socket);
    if address.tls {
        ask_for_tls(&mut *socket).await?;
        socket = line(ScopeGuard::into_inner(socket).start_tls());
    }
    Ok(socket)
}

fn question(call: &Call<'_>) -> Question {
    let (statement, arguments) = call.statement();
    Question::new(statement, arguments)
}
