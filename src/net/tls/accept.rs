//! The server's handshake. Full handshakes cost up to a millisecond of signing: only a few start in one loop turn, so
//! that a burst of new clients does not stall those being served.

use super::TlsInfo;
use super::config;
use super::session::{Machine, Session, broken};
use super::stream::TlsStream;
use crate::net::driver::{Chunk, Socket, StayAwake};
use crate::net::stream::Stream;
use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Handshakes that may start in one turn of a core.
const STARTS_PER_TURN: usize = 4;

/// Accepts TLS on one core; the configuration may change under it.
pub struct Acceptor {
    config: RefCell<Arc<ServerConfig>>,
}

impl Acceptor {
    pub fn new(config: Arc<ServerConfig>) -> Acceptor {
        Acceptor { config: RefCell::new(config) }
    }

    /// For connections accepted from now on.
    pub fn swap(&self, config: Arc<ServerConfig>) {
        self.config.replace(config);
    }

    /// Runs the handshake. No time limit of its own: bound it with a [`Timer`](crate::net::clock::Timer); dropping
    /// the future closes the socket. A refused client has got its alert when the error returns.
    pub async fn accept(&self, socket: Socket) -> io::Result<(Stream, TlsInfo)> {
        // A silent client costs a socket, no TLS state.
        let hello = socket.recv().await?;
        self.accept_from(socket, hello).await
    }

    /// As [`Acceptor::accept`], for a client whose first bytes were looked at.
    pub async fn accept_from(&self, socket: Socket, hello: Chunk) -> io::Result<(Stream, TlsInfo)> {
        if hello.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        turn().await;
        let machine = UnbufferedServerConnection::new(self.config.borrow().clone()).map_err(broken)?;
        let stream = Box::new(TlsStream::new(socket, Session::new(Machine::Server(machine))));
        let mut sni = None;
        let mut progress = take_in(&stream, &mut sni, |stream| stream.take_in(hello));
        while progress.is_ok() && stream.is_handshaking() {
            stream.send_control().await?;
            let chunk = stream.socket().recv().await?;
            progress = take_in(&stream, &mut sni, |stream| stream.take_in(chunk));
        }
        if let Err(error) = progress {
            let _ = stream.send_control().await;
            return Err(error);
        }
        let info = stream.info(sni);
        Ok((Stream::Tls(stream), info))
    }
}

/// Lets the session work; if that handled the ClientHello its server name ends up in `sni`.
fn take_in(
    stream: &TlsStream,
    sni: &mut Option<String>,
    work: impl FnOnce(&TlsStream) -> io::Result<()>,
) -> io::Result<()> {
    config::take_last_sni();
    let result = work(stream);
    if let Some(name) = config::take_last_sni() {
        *sni = Some(name);
    }
    result
}

/// Allowances of the current turn, and who waits for the next.
#[derive(Default)]
struct Turns {
    started: usize,
    waiting: VecDeque<Waker>,
    is_granting: bool,
}

thread_local! {
    static TURNS: RefCell<Turns> = RefCell::default();
}

/// Waits until this turn of the loop may start one more handshake; in order of arrival.
async fn turn() {
    let mut is_queued = false;
    poll_fn(|cx| {
        let is_first = TURNS.with_borrow_mut(|turns| {
            if is_queued || (turns.started < STARTS_PER_TURN && turns.waiting.is_empty()) {
                turns.started += 1;
                if turns.is_granting {
                    return Some(false);
                }
                turns.is_granting = true;
                return Some(true);
            }
            turns.waiting.push_back(cx.waker().clone());
            None
        });
        match is_first {
            Some(spawn) => {
                if spawn {
                    glommio::spawn_local(grant_turns()).detach();
                }
                Poll::Ready(())
            }
            None => {
                is_queued = true;
                Poll::Pending
            }
        }
    })
    .await;
}

/// Opens a new allowance each turn of the core until nobody waits.
async fn grant_turns() {
    let awake = StayAwake::new();
    loop {
        glommio::executor().yield_now().await;
        let granted: Vec<Waker> = TURNS.with_borrow_mut(|turns| {
            turns.started = 0;
            let count = turns.waiting.len().min(STARTS_PER_TURN);
            if count == 0 {
                turns.is_granting = false;
            }
            turns.waiting.drain(..count).collect()
        });
        if granted.is_empty() {
            break;
        }
        granted.into_iter().for_each(Waker::wake);
    }
    drop(awake);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn at_most_four_handshakes_start_in_one_turn_and_all_do_in_order() {
        glommio::LocalExecutor::default().run(async {
            let started = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = (0..50)
                .map(|n| {
                    let started = started.clone();
                    glommio::spawn_local(async move {
                        turn().await;
                        started.borrow_mut().push(n);
                    })
                })
                .collect();
            let most = Rc::new(Cell::new(0));
            while started.borrow().len() < 50 {
                let before = started.borrow().len();
                glommio::executor().yield_now().await;
                most.set(most.get().max(started.borrow().len() - before));
            }
            for task in tasks {
                task.await;
            }
            assert!(most.get() <= STARTS_PER_TURN, "{} in one turn", most.get());
            assert!(started.borrow().is_sorted());
        });
    }
}
