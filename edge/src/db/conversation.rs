//! Statements over one connection, one after the other: the part of PostgreSQL's protocol that a call needs
//! (<https://www.postgresql.org/docs/current/protocol-flow.html>). Messages are written, read and
//! proven by `postgres_protocol`. A whole driver would be a tenth of the worker, for types, prepared
//! statements and notifications that one call with text in and out has no use for.

use super::scram::{self, Scram};
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use keepsake_service::db::{Failure, Login, Trouble, lost, trouble, unavailable};
use postgres_protocol::{
    IsNull,
    authentication::md5_hash,
    message::{
        backend::{AuthenticationSaslBody, DataRowBody, ErrorResponseBody, Message},
        frontend,
    },
};
use std::{
    io,
    ops::{DerefMut, Range},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use uuid::Uuid;

/// The type `text`, by its number in every PostgreSQL.
const TEXT: u32 = 25;
/// Values are sent and received as text, not in a binary form.
const AS_TEXT: i16 = 0;

/// The state of a session in which no transaction is open.
const IDLE: u8 = b'I';

/// The tag and the length, which stand before every message; the length counts itself.
const HEAD_BYTES: usize = 5;

/// How much a server may send in one turn. A real one stays far below; an endless one must not fill the worker's memory
/// or keep it busy.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    bytes: usize,
    messages: u32,
}

/// Some twenty parameters, and what a login trigger notes.
const LOGIN: Allowance = Allowance {
    bytes: 64 << 10,
    messages: 500,
};

/// The longest answer is a page of 200 entries, well below a megabyte, or what conflicts with a large restore.
const ANSWER: Allowance = Allowance {
    bytes: 16 << 20,
    messages: 500,
};

/// Asks the server to go on encrypted, before anything else is said.
///
/// # Errors
/// A server that does not, or that says more than that: what came unencrypted must not be taken for what comes
/// encrypted (CVE-2021-23222).
pub(super) async fn ask_for_tls(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<(), Failure> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    let mut reply = [0; 2];
    match (stream.read(&mut reply).await?, reply) {
        (0, _) => Err(lost("the connection was closed")),
        (1, [b'S', _]) => Ok(()),
        (1, _) => Err(unavailable(
            "the server does not accept encrypted connections",
        )),
        _ => Err(unavailable(
            "the server sent more than one byte before encryption",
        )),
    }
}

/// Tells the server that the connection ends.
pub(super) async fn terminate(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<()> {
    // A write that was aborted half way ends first.
    stream.flush().await?;
    let mut goodbye = BytesMut::new();
    frontend::terminate(&mut goodbye);
    stream.write_all(&goodbye).await?;
    stream.shutdown().await
}

/// What is asked: a statement that answers with one row of two values, the answer and the last of its arguments.
#[derive(Debug)]
pub(super) struct Question {
    statement: String,
    arguments: Vec<String>,
}

impl Question {
    /// With these arguments, and behind them a mark that was never used before: an answer that bears it is to this
    /// question, and not an earlier one's, another's whose connection a pool mixed up, or one that was ready
    /// beforehand.
    pub(super) fn new(statement: impl Into<String>, mut arguments: Vec<String>) -> Self {
        arguments.push(Uuid::new_v4().simple().to_string());
        Self {
            statement: statement.into(),
            arguments,
        }
    }

    fn mark(&self) -> &str {
        self.arguments.last().map_or("", String::as_str)
    }
}

/// A connection that was just opened. After an error it is in no known state, and good for nothing.
pub(super) struct Conversation<S> {
    stream: S,
    /// What has arrived and was not read yet.
    arrived: BytesMut,
    /// What is to be sent next.
    outgoing: BytesMut,
    /// What the server may still say in this turn.
    allowance: Allowance,
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
            allowance: LOGIN,
        }
    }

    /// Logs in.
    ///
    /// # Errors
    /// A server that is not there, does not know the login, or does not prove that it does.
    pub(super) async fn log_in(&mut self, login: &Login) -> Result<(), Failure> {
        self.introduce(login).await.map_err(|failure| Failure {
            trouble: match failure.trouble {
                // Nothing of ours was asked yet, so that nothing of ours can be at fault.
                Trouble::Unexpected => Trouble::Unavailable,
                trouble => trouble,
            },
            ..failure
        })
    }

    async fn introduce(&mut self, login: &Login) -> Result<(), Failure> {
        let parameters = [
            ("client_encoding", "UTF8"),
            ("user", &login.user),
            ("database", &login.database),
            ("application_name", "keepsake"),
        ];
        frontend::startup_message(parameters, &mut self.outgoing)?;
        self.send().await?;
        self.authenticate(login).await?;
        loop {
            match self.next().await? {
                Message::BackendKeyData(_) => {}
                Message::ReadyForQuery(state) if state.status() == IDLE => return Ok(()),
                _ => return Err(out_of_order()),
            }
        }
    }

    /// Proves the password by SCRAM, which proves the server, too. Any other way gives the password, or what it can be
    /// guessed from, to whoever asks for it, and takes whoever answers for the database; only the platform's own pool
    /// may be told to go that way.
    async fn authenticate(&mut self, login: &Login) -> Result<(), Failure> {
        let open = login.open || login.password.is_empty();
        match self.next().await? {
            Message::AuthenticationSasl(body) => {
                offers_scram(&body)?;
                self.prove(&login.password).await?;
            }
            Message::AuthenticationOk if open => return Ok(()),
            Message::AuthenticationCleartextPassword if login.open => {
                frontend::password_message(&login.password, &mut self.outgoing)?;
                self.send().await?;
            }
            Message::AuthenticationMd5Password(body) if login.open => {
                let hash = md5_hash(login.user.as_bytes(), &login.password, body.salt());
                frontend::password_message(hash.as_bytes(), &mut self.outgoing)?;
                self.send().await?;
            }
            _ => {
                return Err(unavailable(
                    "the server requires a login other than SCRAM-SHA-256",
                ));
            }
        }
        match self.next().await? {
            Message::AuthenticationOk => Ok(()),
            _ => Err(out_of_order()),
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
    pub(super) async fn ask(&mut self, question: &Question) -> Result<String, Failure> {
        self.allowance = ANSWER;
        self.expect_silence()?;
        self.put(question).await?;
        let Message::ParseComplete = self.next().await? else {
            return Err(out_of_order());
        };
        let Message::BindComplete = self.next().await? else {
            return Err(out_of_order());
        };
        let Message::DataRow(row) = self.next().await? else {
            return Err(out_of_order());
        };
        let answer = answer_to(question, &row)?;
        let Message::CommandComplete(_) = self.next().await? else {
            return Err(out_of_order());
        };
        match self.next().await? {
            Message::ReadyForQuery(state) if state.status() == IDLE => Ok(answer),
            _ => Err(out_of_order()),
        }
    }

    async fn put(&mut self, question: &Question) -> Result<(), Failure> {
        let arguments = &question.arguments;
        let types = arguments.iter().map(|_| TEXT);
        frontend::parse("", &question.statement, types, &mut self.outgoing)?;
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
        Ok(self.send().await?)
    }

    /// Since the last answer nothing may have come but news.
    fn expect_silence(&mut self) -> Result<(), Failure> {
        while let Some(message) = self.parse()? {
            if !is_news(&message) {
                return Err(lost("the server sent an answer without a question"));
            }
        }
        match self.arrived.first() {
            // The rest of it is on the way.
            None | Some(b'N' | b'A' | b'S') => Ok(()),
            Some(_) => Err(lost("the server sent an answer without a question")),
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
            match self.parse()? {
                Some(Message::ErrorResponse(error)) => return Err(refusal(&error)),
                Some(message) if is_news(&message) => {}
                Some(message) => return Ok(message),
                None => {
                    if self.stream.read_buf(&mut self.arrived).await? == 0 {
                        return Err(lost("the connection was closed"));
                    }
                }
            }
        }
    }

    /// The next message, if the whole of it has arrived and it is within what the server may say.
    fn parse(&mut self) -> Result<Option<Message>, Failure> {
        let Some(bytes) = length(&self.arrived) else {
            self.arrived.reserve(HEAD_BYTES);
            return Ok(None);
        };
        if bytes > self.allowance.bytes || self.allowance.messages == 0 {
            return Err(unavailable("the server sent too much"));
        }
        let message = Message::parse(&mut self.arrived).map_err(|error| {
            unavailable(&format!("the server sent an invalid message: {error}"))
        })?;
        if message.is_some() {
            self.allowance.bytes -= bytes;
            self.allowance.messages -= 1;
        }
        Ok(message)
    }
}

/// The bytes of the message that begins here, its head included, as it declares them itself. Whether they can be is looked
/// at before any room is made for them.
fn length(arrived: &[u8]) -> Option<usize> {
    let declared = arrived.get(1..HEAD_BYTES)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(declared))
        .ok()?
        .checked_add(1)
}

/// What a server may tell at any time, and which is no answer.
fn is_news(message: &Message) -> bool {
    matches!(
        message,
        Message::NoticeResponse(_) | Message::NotificationResponse(_) | Message::ParameterStatus(_)
    )
}

fn offers_scram(body: &AuthenticationSaslBody) -> Result<(), Failure> {
    match body.mechanisms().any(|name| Ok(name == scram::MECHANISM)) {
        Ok(true) => Ok(()),
        _ => Err(unavailable("the server does not support SCRAM-SHA-256")),
    }
}

/// The answer in a row of two values, if the other one is the mark of the question.
fn answer_to(question: &Question, row: &DataRowBody) -> Result<String, Failure> {
    let values: Vec<_> = row.ranges().collect().map_err(|_| misshapen())?;
    let [Some(answer), Some(mark)] = values.as_slice() else {
        return Err(misshapen());
    };
    let value = |range: &Range<usize>| row.buffer_bytes().slice(range.clone());
    if value(mark) != question.mark().as_bytes() {
        return Err(unavailable("the server answered a different question"));
    }
    String::from_utf8(value(answer).into()).map_err(|_| misshapen())
}

/// What the server says of its error, by the fields of
/// <https://www.postgresql.org/docs/current/protocol-error-fields.html>. One without a SQLSTATE is no answer of
/// PostgreSQL.
fn refusal(error: &ErrorResponseBody) -> Failure {
    let mut code = String::new();
    let mut message = String::new();
    let mut is_of_our_statement = false;
    let mut fields = error.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = || shown(field.value_bytes());
        match field.type_() {
            b'C' => code = value(),
            b'M' => message = value(),
            // A position in the statement itself, and not in the body of a function.
            b'P' => is_of_our_statement = true,
            _ => {}
        }
    }
    if !is_sqlstate(&code) {
        return unavailable("the server reported an error without a SQLSTATE");
    }
    // invalid_schema_name, undefined_function. In a function's body they are a defect, of an application's trigger or policy
    // perhaps.
    let trouble = match code.as_str() {
        "3F000" | "42883" if is_of_our_statement => Trouble::SchemaOutdated,
        code => trouble(code),
    };
    Failure {
        trouble,
        cause: format!("SQLSTATE {code}: {message}"),
    }
}

fn is_sqlstate(code: &str) -> bool {
    code.len() == 5
        && code
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

/// The most of an error's text that goes into the log.
const MAX_SHOWN_BYTES: usize = 1000;

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text.get(..MAX_SHOWN_BYTES).unwrap_or(text)).into_owned()
}

fn unexpected(cause: &str) -> Failure {
    Failure {
        trouble: Trouble::Unexpected,
        cause: cause.to_owned(),
    }
}

fn out_of_order() -> Failure {
    unavailable("the server sent an unexpected message")
}

fn misshapen() -> Failure {
    unavailable("the server's answer has an unexpected shape")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use proptest::prelude::*;

    const STATEMENT: &str = "SELECT f($1::text)::text, $2::text";

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag], length.as_slice(), body].concat()
    }

    fn row(values: &[&[u8]]) -> Vec<u8> {
        let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            body.extend(*value);
        }
        message(b'D', &body)
    }

    fn error(code: &str) -> Vec<u8> {
        message(b'E', format!("SERROR\0C{code}\0Mno\0\0").as_bytes())
    }

    fn parameter() -> Vec<u8> {
        message(b'S', b"server_version\x0018\0")
    }

    fn notice() -> Vec<u8> {
        message(b'N', b"SNOTICE\0\0")
    }

    fn ready(state: u8) -> Vec<u8> {
        message(b'Z', &[state])
    }

    /// What a server says that lets everybody in.
    fn logged_in() -> Vec<u8> {
        [
            message(b'R', &[0; 4]),
            parameter(),
            message(b'K', &[0; 8]),
            ready(b'I'),
        ]
        .concat()
    }

    fn begun() -> Vec<u8> {
        [message(b'1', b""), message(b'2', b"")].concat()
    }

    fn done() -> Vec<u8> {
        message(b'C', b"SELECT 1\0")
    }

    fn question() -> Question {
        Question::new(STATEMENT, vec!["1".to_owned()])
    }

    fn login(password: &str, open: bool) -> Login {
        Login {
            user: "worker".to_owned(),
            password: password.as_bytes().to_vec(),
            database: "app".to_owned(),
            open,
        }
    }

    /// What comes of a server that says these words to a login, whatever it is asked, and what it was told.
    fn greet(words: &[Vec<u8>], login: &Login) -> (Result<(), Failure>, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        let talk = async {
            theirs.write_all(&words.concat()).await.unwrap();
            theirs.shutdown().await.unwrap();
            let outcome = Conversation::new(&mut ours).log_in(login).await;
            drop(ours);
            let mut told = Vec::new();
            theirs.read_to_end(&mut told).await.unwrap();
            (outcome, told)
        };
        talk.now_or_never().unwrap()
    }

    /// What comes of a question to a server that says these words after the login, once it is asked.
    fn hear(question: &Question, words: &[Vec<u8>]) -> Result<String, Failure> {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        let talk = async {
            theirs.write_all(&logged_in()).await?;
            let mut conversation = Conversation::new(&mut ours);
            conversation.log_in(&login("", false)).await?;
            theirs.write_all(&words.concat()).await?;
            theirs.shutdown().await?;
            conversation.ask(question).await
        };
        talk.now_or_never().unwrap()
    }

    #[test]
    fn hears_the_answer_among_what_else_is_said() {
        let question = question();
        let words = [
            notice(),
            begun(),
            notice(),
            row(&["\"ä\"".as_bytes(), question.mark().as_bytes()]),
            parameter(),
            done(),
            ready(b'I'),
        ];
        assert_eq!(hear(&question, &words).unwrap(), "\"ä\"");
    }

    #[test]
    fn takes_no_answer_before_it_is_committed() {
        let question = question();
        let answer = [begun(), row(&[b"1", question.mark().as_bytes()]), done()].concat();
        let deferred = [answer.clone(), error("23514"), ready(b'I')];
        let failure = hear(&question, &deferred).unwrap_err();
        assert_eq!(failure.trouble, Trouble::Unexpected);
        assert_eq!(failure.cause, "SQLSTATE 23514: no");
        let failure = hear(&question, &[answer.clone()]).unwrap_err();
        assert_eq!(failure.trouble, Trouble::Lost);
        // A transaction that is still open, or has failed.
        for state in [b'T', b'E', b'?', 0] {
            let failure = hear(&question, &[answer.clone(), ready(state)]).unwrap_err();
            assert_eq!(failure.trouble, Trouble::Unavailable);
        }
    }

    #[test]
    fn takes_no_answer_to_another_question() {
        let question = question();
        let mark = question.mark().as_bytes().to_vec();
        let other = Question::new(STATEMENT, Vec::new());
        for values in [
            vec![b"1".as_slice()],
            vec![b"1", other.mark().as_bytes()],
            vec![b"1", b""],
            vec![mark.as_slice(), b"1"],
            vec![b"1", mark.as_slice(), b"1"],
            vec![],
        ] {
            let words = [begun(), row(&values), done(), ready(b'I')];
            let failure = hear(&question, &words).unwrap_err();
            assert_eq!(failure.trouble, Trouble::Unavailable, "{values:?}");
        }
    }

    #[test]
    fn takes_no_answer_that_was_there_before_the_question() {
        let question = question();
        let answer = [
            begun(),
            row(&[b"1", question.mark().as_bytes()]),
            done(),
            ready(b'I'),
        ]
        .concat();
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        let talk = async {
            theirs.write_all(&logged_in()).await?;
            theirs.write_all(&answer).await?;
            let mut conversation = Conversation::new(&mut ours);
            conversation.log_in(&login("", false)).await?;
            conversation.ask(&question).await
        };
        let failure = talk.now_or_never().unwrap().unwrap_err();
        assert_eq!(failure.trouble, Trouble::Lost, "{}", failure.cause);
    }

    #[test]
    fn news_between_two_questions_do_no_harm() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        let questions = [question(), question()];
        let talk = async {
            theirs.write_all(&logged_in()).await?;
            theirs.write_all(&notice()).await?;
            let mut conversation = Conversation::new(&mut ours);
            conversation.log_in(&login("", false)).await?;
            for question in &questions {
                let words = [
                    begun(),
                    row(&[b"1", question.mark().as_bytes()]),
                    done(),
                    ready(b'I'),
                    parameter(),
                ];
                theirs.write_all(&words.concat()).await?;
                conversation.ask(question).await?;
            }
            Ok::<_, Failure>(())
        };
        talk.now_or_never().unwrap().unwrap();
    }

    #[test]
    fn tells_what_is_wrong() {
        for (words, trouble) in [
            (vec![], Trouble::Lost),
            (vec![error("40001")], Trouble::Retry),
            // In the body of a function, and in the statement itself.
            (vec![error("42883")], Trouble::Unexpected),
            (
                vec![message(b'E', b"SERROR\0C42883\0Mno\0P8\0\0")],
                Trouble::SchemaOutdated,
            ),
            // No row, a row of NULL, one that is not UTF-8, an answer out of order.
            (vec![begun(), done(), ready(b'I')], Trouble::Unavailable),
            (
                vec![
                    begun(),
                    message(b'D', &[0, 2, 255, 255, 255, 255, 255, 255, 255, 255]),
                ],
                Trouble::Unavailable,
            ),
            (
                vec![begun(), row(&[b"\xff", b"\xff"])],
                Trouble::Unavailable,
            ),
            (vec![row(&[b"1", b"1"])], Trouble::Unavailable),
            (vec![ready(b'I')], Trouble::Unavailable),
            // More values than there are, longer than there is, fewer than there are.
            (
                vec![begun(), message(b'D', &[255, 255])],
                Trouble::Unavailable,
            ),
            (
                vec![begun(), message(b'D', &[0, 2, 127, 255, 255, 255, 0])],
                Trouble::Unavailable,
            ),
            (
                vec![begun(), message(b'D', &[0, 0, 1])],
                Trouble::Unavailable,
            ),
            (vec![begun(), message(b'D', &[])], Trouble::Unavailable),
            // An error without fields, without an end, with a SQLSTATE that is none.
            (vec![message(b'E', &[0])], Trouble::Unavailable),
            (vec![message(b'E', &[])], Trouble::Unavailable),
            (vec![message(b'E', b"C40001")], Trouble::Unavailable),
            (vec![error("")], Trouble::Unavailable),
            (vec![error("4000\u{e9}")], Trouble::Unavailable),
            // A message of no known kind; COPY, which nobody asked for.
            (vec![message(b'?', b"")], Trouble::Unavailable),
            (vec![message(b'G', &[0, 0, 0])], Trouble::Unavailable),
        ] {
            let failure = hear(&question(), &words).unwrap_err();
            assert_eq!(failure.trouble, trouble, "{words:?} {}", failure.cause);
        }
    }

    #[test]
    fn makes_no_room_for_an_impossible_length() {
        for tag in [b'R', b'Z', b'D', b'E', b'N', b'S', b'?'] {
            for length in [0, 1, 2, 3, 0x0200_0000, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
                let head = [&[tag], length.to_be_bytes().as_slice()].concat();
                let (outcome, _) = greet(&[head.clone()], &login("", false));
                assert_eq!(outcome.unwrap_err().trouble, Trouble::Unavailable);
                let failure = hear(&question(), &[head]).unwrap_err();
                assert_eq!(failure.trouble, Trouble::Unavailable, "{}", failure.cause);
            }
        }
    }

    #[test]
    fn does_not_listen_for_ever() {
        for news in [notice(), parameter(), message(b'A', b"\0\0\0\0\0\0")] {
            let flood = news.repeat(1000);
            let (outcome, _) = greet(&[flood.clone()], &login("", false));
            assert_eq!(outcome.unwrap_err().trouble, Trouble::Unavailable);
            let failure = hear(&question(), &[begun(), flood]).unwrap_err();
            assert_eq!(failure.trouble, Trouble::Unavailable, "{}", failure.cause);
        }
        let long = message(b'N', &[b'x'; 20_000]).repeat(10);
        let (outcome, _) = greet(&[long], &login("", false));
        assert_eq!(outcome.unwrap_err().trouble, Trouble::Unavailable);
    }

    const PASSWORD: &str = "topsecret";

    /// What servers ask for that want the password itself, or what it can be guessed from.
    fn careless() -> [Vec<u8>; 2] {
        [
            message(b'R', &[0, 0, 0, 3]),
            message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]),
        ]
    }

    #[test]
    fn gives_the_password_to_nobody() {
        let others = [
            // Kerberos, SCM credentials, GSSAPI, SSPI, and what nobody knows.
            message(b'R', &[0, 0, 0, 2]),
            message(b'R', &[0, 0, 0, 6]),
            message(b'R', &[0, 0, 0, 7]),
            message(b'R', &[0, 0, 0, 9]),
            message(b'R', &[0, 0, 0, 99]),
            // Everybody is let in, so that it may be anybody's server.
            logged_in(),
            ready(b'I'),
            // Another mechanism, none, and a list without an end.
            message(b'R', b"\0\0\0\nPLAIN\0\0"),
            message(b'R', b"\0\0\0\n\0"),
            message(b'R', b"\0\0\0\nSCRAM-SHA"),
        ];
        for asked in careless().into_iter().chain(others) {
            let (outcome, told) = greet(&[asked.clone(), logged_in()], &login(PASSWORD, false));
            let failure = outcome.unwrap_err();
            assert_eq!(failure.trouble, Trouble::Unavailable, "{asked:?}");
            assert!(!failure.cause.contains(PASSWORD));
            let startup = u32::from_be_bytes(*told.first_chunk().unwrap());
            assert_eq!(told.len(), startup as usize, "{asked:?} was answered");
        }
        for asked in careless() {
            let (outcome, _) = greet(&[asked, logged_in()], &login(PASSWORD, true));
            outcome.unwrap();
        }
    }

    #[test]
    fn believes_no_server_that_proves_nothing() {
        let offer = message(b'R', b"\0\0\0\nSCRAM-SHA-256\0\0");
        let verdict = message(b'R', b"\0\0\0\x0cv=AAAA");
        for words in [
            vec![offer.clone(), logged_in()],
            vec![offer.clone(), verdict, logged_in()],
            vec![offer.clone(), message(b'R', b"\0\0\0\x0bx"), logged_in()],
            vec![offer.clone(), offer, logged_in()],
        ] {
            let (outcome, _) = greet(&words, &login(PASSWORD, false));
            assert_eq!(outcome.unwrap_err().trouble, Trouble::Unavailable);
        }
    }

    #[test]
    fn an_error_at_the_door_is_no_defect_of_ours() {
        for (code, trouble) in [
            ("28P01", Trouble::Unavailable),
            ("42501", Trouble::Unavailable),
            ("XX000", Trouble::Unavailable),
            ("57P03", Trouble::Lost),
        ] {
            let (outcome, _) = greet(&[error(code)], &login("", false));
            assert_eq!(outcome.unwrap_err().trouble, trouble, "{code}");
        }
        let (outcome, _) = greet(&[message(b'R', &[0; 4]), ready(b'E')], &login("", false));
        assert_eq!(outcome.unwrap_err().trouble, Trouble::Unavailable);
    }

    proptest! {
        /// Whatever it says, a server is refused, and nothing breaks.
        #[test]
        fn nothing_that_is_said_does_harm(
            words in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..40),
                    (any::<u8>(), prop::collection::vec(any::<u8>(), 0..40))
                        .prop_map(|(tag, body)| message(tag, &body)),
                    (prop::sample::select(b"RKZSNEDTC12tnIsAGHWdcv".to_vec()), prop::collection::vec(any::<u8>(), 0..40))
                        .prop_map(|(tag, body)| message(tag, &body)),
                    Just(logged_in()), Just(begun()), Just(done()), Just(ready(b'I')), Just(row(&[b"1", b"1"])),
                ],
                0..8,
            ),
            open: bool,
        ) {
            let (_, told) = greet(&words, &login(PASSWORD, open));
            prop_assert!(open || !told.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()));
            prop_assert!(hear(&question(), &words).is_err());
        }
    }

    #[test]
    fn goes_on_encrypted_or_not_at_all() {
        for (answer, taken) in [
            (b"S".as_slice(), true),
            (b"N", false),
            (b"E", false),
            (b"", false),
            // Something to be taken for the first words of the encrypted connection.
            (b"SR\0\0\0\x08\0\0\0\0", false),
        ] {
            let (mut ours, mut theirs) = tokio::io::duplex(64);
            let asked = async {
                theirs.write_all(answer).await?;
                theirs.shutdown().await?;
                ask_for_tls(&mut ours).await
            };
            assert_eq!(asked.now_or_never().unwrap().is_ok(), taken, "{answer:?}");
        }
    }
}
