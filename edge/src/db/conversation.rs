//! Statements over one connection, one after the other: the part of PostgreSQL's protocol that a call needs
//! (<https://www.postgresql.org/docs/current/protocol-flow.html>). Messages are written, read and
//! proven by `postgres_protocol`. A whole driver would be a tenth of the worker, for types, prepared
//! statements and notifications that one call with text in and out has no use for.

use super::{
    Failure, Login, Trouble,
    scram::{self, Scram},
    trouble, unavailable,
};
use axum::body::Bytes;
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::{
    IsNull,
    authentication::md5_hash,
    message::{
        backend::{DataRowBody, ErrorResponseBody, Message},
        frontend,
    },
};
use std::{io, ops::DerefMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use uuid::Uuid;

/// The type `text`, by its number in every PostgreSQL.
const TEXT: u32 = 25;
/// Values are sent and received as text, not in a binary form.
const AS_TEXT: i16 = 0;

/// Asks the server to go on encrypted, before anything else is said.
///
/// # Errors
/// A server that does not.
pub(super) async fn ask_for_tls(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<(), Failure> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    match stream.read_u8().await? {
        b'S' => Ok(()),
        _ => Err(unavailable("the server takes no encrypted connection")),
    }
}

/// Says that the connection is over.
pub(super) async fn say_goodbye(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<()> {
    // A write that was given up half way ends first.
    stream.flush().await?;
    let mut goodbye = BytesMut::new();
    frontend::terminate(&mut goodbye);
    stream.write_all(&goodbye).await?;
    stream.shutdown().await
}

/// A connection that was just opened.
pub(super) struct Conversation<S> {
    stream: S,
    /// What has arrived and was not read yet.
    arrived: BytesMut,
    /// What is to be sent next.
    outgoing: BytesMut,
}

impl<S> Conversation<S>
where
    S: DerefMut<Target: AsyncRead + AsyncWrite + Unpin>,
{
    /// Begins at the first byte of a connection.
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            arrived: BytesMut::new(),
            outgoing: BytesMut::new(),
        }
    }

    /// Logs in.
    ///
    /// # Errors
    /// A server that is not there, or does not know the login.
    pub(super) async fn log_in(&mut self, login: &Login) -> Result<(), Failure> {
        let parameters = [
            ("client_encoding", "UTF8"),
            ("user", &login.user),
            ("database", &login.database),
            ("application_name", "keepsake"),
        ];
        frontend::startup_message(parameters, &mut self.outgoing)?;
        self.send().await?;
        loop {
            match self.next().await? {
                Message::AuthenticationCleartextPassword => {
                    frontend::password_message(&login.password, &mut self.outgoing)?;
                    self.send().await?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(login.user.as_bytes(), &login.password, body.salt());
                    frontend::password_message(hash.as_bytes(), &mut self.outgoing)?;
                    self.send().await?;
                }
                Message::AuthenticationSasl(body) => {
                    let known = body.mechanisms().any(|name| Ok(name == scram::MECHANISM))?;
                    if !known {
                        return Err(unavailable("the server has no SCRAM-SHA-256"));
                    }
                    self.prove(&login.password).await?;
                }
                Message::AuthenticationOk
                | Message::ParameterStatus(_)
                | Message::BackendKeyData(_) => {}
                Message::ReadyForQuery(_) => return Ok(()),
                _ => return Err(unavailable("the server asks for another login")),
            }
        }
    }

    async fn prove(&mut self, password: &[u8]) -> Result<(), Failure> {
        let scram = Scram::new(password, Uuid::new_v4().simple().to_string());
        let first = scram.first_message();
        frontend::sasl_initial_response(scram::MECHANISM, first.as_bytes(), &mut self.outgoing)?;
        self.send().await?;
        let Message::AuthenticationSaslContinue(challenge) = self.next().await? else {
            return Err(out_of_order());
        };
        let (answer, expected) = scram.answer(challenge.data())?;
        frontend::sasl_response(answer.as_bytes(), &mut self.outgoing)?;
        self.send().await?;
        let Message::AuthenticationSaslFinal(verdict) = self.next().await? else {
            return Err(out_of_order());
        };
        expected.check(verdict.data())
    }

    /// Runs one statement, whose arguments are text, in a transaction of its own, and answers with the
    /// one value of its one row. Nothing is answered before the transaction has committed.
    ///
    /// # Errors
    /// The statement's, or the connection's.
    pub(super) async fn ask(
        &mut self,
        statement: &str,
        arguments: &[String],
    ) -> Result<String, Failure> {
        let types = arguments.iter().map(|_| TEXT);
        frontend::parse("", statement, types, &mut self.outgoing)?;
        let write = |argument: &String, out: &mut BytesMut| {
            out.extend_from_slice(argument.as_bytes());
            Ok(IsNull::No)
        };
        frontend::bind(
            "",
            "",
            [AS_TEXT],
            arguments,
            write,
            [AS_TEXT],
            &mut self.outgoing,
        )
        .map_err(|_| unexpected("an argument cannot be sent"))?;
        frontend::execute("", 0, &mut self.outgoing)?;
        frontend::sync(&mut self.outgoing);
        self.send().await?;

        let mut answer = None;
        loop {
            match self.next().await? {
                Message::DataRow(row) => answer = first_value(&row)?,
                Message::ReadyForQuery(_) => {
                    let answer = answer.ok_or_else(|| unexpected("there is no answer"))?;
                    return String::from_utf8(answer.into())
                        .map_err(|_| unexpected("the answer is not UTF-8"));
                }
                Message::ParseComplete
                | Message::BindComplete
                | Message::ParameterStatus(_)
                | Message::CommandComplete(_) => {}
                _ => return Err(out_of_order()),
            }
        }
    }

    async fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.outgoing).await?;
        self.outgoing.clear();
        self.stream.flush().await
    }

    /// The next message that is an answer. An error ends the conversation.
    async fn next(&mut self) -> Result<Message, Failure> {
        loop {
            match Message::parse(&mut self.arrived)? {
                Some(Message::ErrorResponse(error)) => return Err(refusal(&error)),
                Some(Message::NoticeResponse(_) | Message::NotificationResponse(_)) => {}
                Some(message) => return Ok(message),
                None => {
                    if self.stream.read_buf(&mut self.arrived).await? == 0 {
                        return Err(lost("the connection was closed"));
                    }
                }
            }
        }
    }
}

fn first_value(row: &DataRowBody) -> Result<Option<Bytes>, Failure> {
    let range = row.ranges().next()?.flatten();
    Ok(range.map(|range| row.buffer_bytes().slice(range)))
}

/// What the server says of its error, by the fields of
/// <https://www.postgresql.org/docs/current/protocol-error-fields.html>.
fn refusal(error: &ErrorResponseBody) -> Failure {
    let mut code = String::new();
    let mut message = String::new();
    let mut fields = error.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = value(),
            b'M' => message = value(),
            _ => {}
        }
    }
    Failure {
        trouble: trouble(&code),
        cause: format!("SQLSTATE {code}: {message}"),
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        lost(&error.to_string())
    }
}

fn lost(cause: &str) -> Failure {
    Failure {
        trouble: Trouble::Lost,
        cause: cause.to_owned(),
    }
}

fn unexpected(cause: &str) -> Failure {
    Failure {
        trouble: Trouble::Unexpected,
        cause: cause.to_owned(),
    }
}

fn out_of_order() -> Failure {
    unavailable("the server answers out of order")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const STATEMENT: &str = "SELECT f($1::text)::text";

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag], length.as_slice(), body].concat()
    }

    fn row(value: &[u8]) -> Vec<u8> {
        let length = u32::try_from(value.len()).unwrap().to_be_bytes();
        message(b'D', &[&[0, 1], length.as_slice(), value].concat())
    }

    fn error(code: &str) -> Vec<u8> {
        message(b'E', format!("SERROR\0C{code}\0Mno\0\0").as_bytes())
    }

    fn logged_in() -> Vec<u8> {
        let parameter = message(b'S', b"server_version\x0018\0");
        [message(b'R', &[0; 4]), parameter, message(b'Z', b"I")].concat()
    }

    /// What comes of a server that says these words, whatever it is asked.
    fn hear(words: &[Vec<u8>]) -> Result<String, Failure> {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        let login = Login {
            user: "worker".to_owned(),
            password: b"topsecret".to_vec(),
            database: "app".to_owned(),
        };
        let talk = async {
            theirs.write_all(&words.concat()).await?;
            theirs.shutdown().await?;
            let mut conversation = Conversation::new(&mut ours);
            conversation.log_in(&login).await?;
            conversation.ask(STATEMENT, &["1".to_owned()]).await
        };
        talk.now_or_never().unwrap()
    }

    #[test]
    fn hears_the_answer_among_what_else_is_said() {
        let notice = message(b'N', b"SNOTICE\0\0");
        let words = [
            notice.clone(),
            logged_in(),
            message(b'1', b""),
            message(b'2', b""),
            notice,
            row("\"ä\"".as_bytes()),
            message(b'C', b"SELECT 1\0"),
            message(b'Z', b"I"),
        ];
        assert_eq!(hear(&words).unwrap(), "\"ä\"");
    }

    #[test]
    fn takes_no_answer_before_it_is_committed() {
        let deferred = [logged_in(), row(b"1"), error("23514"), message(b'Z', b"I")];
        let failure = hear(&deferred).unwrap_err();
        assert_eq!(failure.trouble, Trouble::Unexpected);
        assert_eq!(failure.cause, "SQLSTATE 23514: no");
        let broken_off = [logged_in(), row(b"1"), message(b'C', b"SELECT 1\0")];
        let failure = hear(&broken_off).unwrap_err();
        assert_eq!(failure.trouble, Trouble::Lost);
    }

    #[test]
    fn tells_what_is_wrong() {
        for (words, trouble) in [
            (vec![], Trouble::Lost),
            (vec![error("28P01")], Trouble::Unavailable),
            (vec![logged_in(), error("40001")], Trouble::Retry),
            (vec![logged_in(), message(b'Z', b"I")], Trouble::Unexpected),
            (
                vec![logged_in(), row(b"\xff"), message(b'Z', b"I")],
                Trouble::Unexpected,
            ),
            // Another login, a message of no known kind, one of an impossible length.
            (vec![message(b'R', &[0, 0, 0, 9])], Trouble::Unavailable),
            (vec![message(b'?', b"")], Trouble::Lost),
            (vec![b"R\0\0\0\x01".to_vec()], Trouble::Lost),
        ] {
            let failure = hear(&words).unwrap_err();
            assert_eq!(failure.trouble, trouble, "{}", failure.cause);
            assert!(!failure.cause.contains("secret"));
        }
    }

    #[test]
    fn goes_on_encrypted_or_not_at_all() {
        for (answer, taken) in [(b'S', true), (b'N', false), (b'E', false)] {
            let (mut ours, mut theirs) = tokio::io::duplex(64);
            let asked = async {
                theirs.write_all(&[answer]).await?;
                ask_for_tls(&mut ours).await
            };
            assert_eq!(asked.now_or_never().unwrap().is_ok(), taken);
        }
    }
}
