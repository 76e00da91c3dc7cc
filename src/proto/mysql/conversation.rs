//! One connection to a server as a state machine: bytes in, what to send and what was learnt out.

use super::login::{self, Scramble};
use super::packet::{Reader, frame};
pub use super::rows::Row;
use super::rows::Rows;
use super::{Fault, Login};

/// COM_QUIT as a packet: a farewell, so that the server counts no aborted connection.
pub const QUIT: [u8; 5] = [1, 0, 0, 0, 1];

const COM_QUERY: u8 = 3;

#[derive(Default)]
pub struct Conversation {
    reader: Reader,
    state: State,
}

#[derive(Default)]
enum State {
    /// The server speaks first.
    #[default]
    Greeting,
    /// TLS was asked for; the login goes over it.
    Securing {
        sequence: u8,
        scramble: Scramble,
    },
    /// Our login is on its way. A server may ask for another way to log in once.
    LoggingIn {
        has_switched: bool,
    },
    /// Logged in, nothing asked.
    Idle,
    Asked(Rows),
}

/// What came of received bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// These bytes are to be sent.
    Send(Vec<u8>),
    /// These bytes are the last in clear: the handshake follows, and then [`Conversation::secured`].
    Secure(Vec<u8>),
    LoggedIn,
    /// The answer to the last query.
    Rows(Vec<Row>),
}

impl Conversation {
    pub fn push(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// What the bytes so far amount to, one thing at a time; `None` when more is needed. After a fault nothing
    /// sensible follows.
    pub fn next(&mut self, login: &Login<'_>) -> Result<Option<Said>, Fault> {
        while let Some(packet) = self.reader.next()? {
            let reply = packet.sequence.wrapping_add(1);
            match &mut self.state {
                State::Greeting => {
                    let (scramble, has_tls) = login::greeting(&packet.payload)?;
                    if login.tls {
                        // Whatever came behind the greeting came in clear, from anybody.
                        if !has_tls || !self.reader.is_empty() {
                            return Err(Fault::NoTls);
                        }
                        self.state = State::Securing { sequence: reply.wrapping_add(1), scramble };
                        return Ok(Some(Said::Secure(frame(reply, &login::tls_request()))));
                    }
                    self.state = State::LoggingIn { has_switched: false };
                    return Ok(Some(Said::Send(frame(reply, &login::response(login, &scramble)))));
                }
                State::Securing { .. } => return Err(Fault::Malformed("an answer in clear")),
                State::LoggingIn { has_switched } => match packet.payload.first() {
                    Some(0x00) => {
                        self.state = State::Idle;
                        return Ok(Some(Said::LoggedIn));
                    }
                    Some(0xff) => return Err(login::refusal(&packet.payload)),
                    Some(0xfe) if !*has_switched => {
                        *has_switched = true;
                        return Ok(Some(Said::Send(frame(reply, &login::switched(login, &packet.payload)?))));
                    }
                    _ => return Err(Fault::Malformed("neither yes nor no to a login")),
                },
                // A server that shuts down says so before it closes.
                State::Idle if packet.payload.first() == Some(&0xff) => return Err(login::refusal(&packet.payload)),
                State::Idle => return Err(Fault::Malformed("an answer that nobody asked for")),
                State::Asked(rows) => {
                    if let Some(rows) = rows.packet(&packet.payload)? {
                        self.state = State::Idle;
                        return Ok(Some(Said::Rows(rows)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The handshake is done: the bytes of the login. Only after [`Said::Secure`].
    pub fn secured(&mut self, login: &Login<'_>) -> Result<Vec<u8>, Fault> {
        let State::Securing { sequence, scramble } = &self.state else {
            return Err(Fault::Malformed("a login that nobody waits for"));
        };
        let bytes = frame(*sequence, &login::response(login, scramble));
        self.state = State::LoggingIn { has_switched: false };
        Ok(bytes)
    }

    /// The bytes that ask `statement`. Only when logged in and nothing is asked.
    pub fn ask(&mut self, statement: &str) -> Result<Vec<u8>, Fault> {
        if !matches!(self.state, State::Idle) || !self.reader.is_empty() {
            return Err(Fault::Malformed("bytes that nobody asked for"));
        }
        self.state = State::Asked(Rows::new());
        let mut payload = vec![COM_QUERY];
        payload.extend_from_slice(statement.as_bytes());
        Ok(frame(0, &payload))
    }
}
