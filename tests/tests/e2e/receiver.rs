//! A receiver of events inside the test process. It verifies what it gets, and fails in any way that it is told to.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keepsake_shared::WebhookKeys;
use keepsake_tests::token::unix_now;
use serde_json::Value;

/// The key of the example of the standard.
pub const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What the receiver does with a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Takes it.
    #[default]
    None,
    /// Answers with this status, and does not take it.
    Status(u16),
    /// Sends the sender elsewhere.
    Redirect,
    /// Closes the connection at once.
    Reset,
    /// Never answers.
    Hang,
    /// Takes it, but the answer is lost.
    LostAnswer,
}

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Message {
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub body: String,
    pub fault: Fault,
}

impl Message {
    /// The event in it.
    pub fn event(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.body)?)
    }

    /// Whether the receiver took it.
    pub fn is_taken(&self) -> bool {
        matches!(self.fault, Fault::None | Fault::LostAnswer)
    }
}

#[derive(Debug, Default)]
struct State {
    faults: VecDeque<Fault>,
    otherwise: Fault,
    messages: Vec<Message>,
    wrong: Vec<String>,
}

/// A running receiver. Ends with the process.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let receiver = Self {
            address: listener.local_addr()?,
            state: Arc::default(),
        };
        let state = Arc::clone(&receiver.state);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                thread::spawn(move || {
                    if let Err(error) = respond(connection, &state) {
                        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                        state.wrong.push(format!("{error:#}"));
                    }
                });
            }
        });
        Ok(receiver)
    }

    /// The settings of a worker that tells it.
    pub fn settings(&self) -> [(String, String); 2] {
        let url = format!("http://{}/hooks", self.address);
        [("EVENTS_URL", url.as_str()), ("EVENTS_KEYS", KEY)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    /// What happens to the next messages, and to all behind them.
    pub fn fails(&self, faults: &[Fault], otherwise: Fault) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.faults = faults.iter().copied().collect();
        state.otherwise = otherwise;
    }

    /// What came so far.
    ///
    /// # Errors
    /// Something came that is no signed message.
    pub fn messages(&self) -> Result<Vec<Message>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(state.wrong.is_empty(), "{:?}", state.wrong);
        Ok(state.messages.clone())
    }
}

fn respond(mut connection: TcpStream, state: &Mutex<State>) -> Result<()> {
    let message = read(&mut connection)?;
    let fault = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = state.faults.pop_front().unwrap_or(state.otherwise);
        state.messages.push(Message { fault, ..message });
        fault
    };
    let answer = match fault {
        Fault::None => "204 No Content\r\n",
        Fault::Status(500) => "500 Broken\r\ncontent-length: 0\r\n",
        Fault::Status(_) => "410 Gone\r\ncontent-length: 0\r\n",
        Fault::Redirect => "307 Elsewhere\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n",
        Fault::Reset | Fault::LostAnswer => return Ok(()),
        Fault::Hang => {
            thread::sleep(Duration::from_secs(30));
            return Ok(());
        }
    };
    // A sender that hung up meanwhile is what some tests are about.
    drop(connection.write_all(format!("HTTP/1.1 {answer}connection: close\r\n\r\n").as_bytes()));
    Ok(())
}

fn read(connection: &mut TcpStream) -> Result<Message> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?;
    ensure!(head.starts_with("POST /hooks HTTP/1.1\r\n"), "{head}");
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(given, _)| given.eq_ignore_ascii_case(name));
        Ok::<_, anyhow::Error>(
            found
                .with_context(|| format!("no {name}: {head}"))?
                .1
                .to_owned(),
        )
    };
    let mut body = vec![0; header("content-length")?.parse()?];
    connection.read_exact(&mut body)?;
    let message = Message {
        id: header("webhook-id")?,
        timestamp: header("webhook-timestamp")?,
        signature: header("webhook-signature")?,
        body: String::from_utf8(body)?,
        fault: Fault::None,
    };
    let keys: WebhookKeys = KEY.parse()?;
    let now = i64::try_from(unix_now())?;
    ensure!(
        keys.verify(
            &message.id,
            &message.timestamp,
            &message.signature,
            message.body.as_bytes(),
            now
        ),
        "not signed: {message:?}"
    );
    Ok(message)
}
