//! A browser tab: one TLS connection that asks for a page every now and then, and opens another when it is closed.

use crate::demo::client::answer::{self, judge};
use crate::demo::client::ledger::{Answer, Ledger, Loss, Source};
use crate::demo::client::tls::{self, Tls};
use crate::demo::client::{ANSWER_TIMEOUT, Target};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Client number `index` of its kind; neighbours use different address families.
pub(super) fn run(target: &Target, index: usize, pause: Duration, ledger: &Ledger, stop: &AtomicBool) {
    // Number 0 of the ledger is the probe.
    let client = 1 + index;
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let started = ledger.now();
        ledger.set_open(client, Some(started));
        let outcome = request(target, index, &mut connection);
        if outcome.is_err() {
            connection = None;
        }
        ledger.record(Answer { source: Source::KeepAlive, started, finished: ledger.now(), outcome });
        ledger.set_open(client, None);
        thread::sleep(pause);
    }
}

/// One request over the open connection or a new one; leaves the connection only if it can be used again.
fn request(target: &Target, index: usize, connection: &mut Option<Tls>) -> Result<(), Loss> {
    // A connection closed while it was idle is replaced before anything is sent, as every client does: no request is
    // at stake yet.
    let reused = connection.take().and_then(if_open);
    let [even, odd] = target.tls;
    let address = if index.is_multiple_of(2) { even } else { odd };
    let mut tls = match reused {
        Some(tls) => tls,
        None => tls::connect(target, address).map_err(|_| Loss::Connect)?,
    };
    let head = format!("GET /apps/files HTTP/1.1\r\nHost: {}\r\n\r\n", target.name);
    tls.write_all(head.as_bytes()).map_err(lost)?;
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut received = Vec::new();
    loop {
        let mut bytes = [0; 4096];
        let count = tls.read(&mut bytes).map_err(lost)?;
        if count == 0 {
            return Err(Loss::Cut);
        }
        received.extend_from_slice(bytes.get(..count).unwrap_or_default());
        match judge(&received) {
            answer::Answer::Page { keeps_open } => {
                *connection = keeps_open.then_some(tls);
                return Ok(());
            }
            answer::Answer::Wrong(loss) => return Err(loss),
            answer::Answer::Incomplete if Instant::now() > deadline => return Err(Loss::Timeout),
            answer::Answer::Incomplete => {}
        }
    }
}

/// The connection, unless the server has closed it meanwhile.
fn if_open(mut tls: Tls) -> Option<Tls> {
    tls.sock.set_nonblocking(true).ok()?;
    // Session tickets may be waiting; they are consumed here without being data.
    let is_open = matches!(tls.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    tls.sock.set_nonblocking(false).ok()?;
    is_open.then_some(tls)
}

fn lost(error: io::Error) -> Loss {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Loss::Timeout,
        _ => Loss::Cut,
    }
}
