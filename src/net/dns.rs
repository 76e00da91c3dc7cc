//! A question to one DNS server: over UDP from a port of its own, over TCP when the answer did not fit. What the bytes
//! mean is the caller's. For the control executor: it polls, which would cost a data core.

use crate::net::clock::{self, Timer, now};
use crate::net::driver::Driver;
use crate::net::stream::Stream;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Datagrams that are no answer of ours, until the socket is given up: somebody is guessing.
const STRAYS_MAX: usize = 32;

/// How often a waiting question looks for its answer: soon at first, because most servers are near.
const LOOKS: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(20)];

/// Sends `question` and waits for the datagram that `is_answer`. The socket is connected, so the kernel lets nobody else's
/// datagrams in, and its port is the kernel's random choice, new for every question.
pub async fn ask(
    server: SocketAddr,
    question: &[u8],
    bytes_max: usize,
    timeout: Duration,
    mut is_answer: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    socket.send(question)?;
    let (begin, mut strays, mut buffer, [mut pause, slow]) = (now(), 0, vec![0; bytes_max], LOOKS);
    loop {
        match socket.recv(&mut buffer) {
            Ok(count) if is_answer(buffer.get(..count).unwrap_or_default()) => return Ok(()),
            Ok(_) if strays >= STRAYS_MAX => return Err(io::ErrorKind::InvalidData.into()),
            Ok(_) => strays += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if now().since(begin) >= timeout {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                clock::tick(pause).await;
                pause = (pause * 2).min(slow);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Nobody listens there.
            Err(error) => return Err(error),
        }
    }
}

/// The same over TCP (RFC 1035 §4.2.2): the answer's bytes, at most 64 KiB by its length word.
pub async fn ask_tcp(driver: &Driver, server: SocketAddr, question: &[u8], timeout: Duration) -> io::Result<Vec<u8>> {
    let timer = Timer::new();
    timer.arm(timeout);
    let exchange = async {
        let stream = Stream::Plain(driver.connect(server, None, timeout).await?);
        let length = u16::try_from(question.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        stream.send_all(&[&length.to_be_bytes(), question].concat()).await?;
        let mut received = Vec::new();
        loop {
            if let Some((head, rest)) = received.split_at_checked(2) {
                let length = head.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                if let Some(answer) = rest.get(..length) {
                    return Ok(answer.to_vec());
                }
            }
            let bytes = stream.recv().await?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            received.extend_from_slice(&bytes);
        }
    };
    timer.bound(exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests;
