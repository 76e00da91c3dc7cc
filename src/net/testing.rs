//! What tests of several rooms of `net` share: executors, connected pairs, computable bytes.

use super::clock;
use super::driver::{Driver, Kind, Socket, Usage};
use super::stream::Stream;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Runs `body` once per driver, each on an executor of its own thread, and demands that it leaves nothing behind.
pub(super) fn on_each_driver<F: Future<Output = ()> + 'static>(body: fn(Driver) -> F) {
    on(Kind::Epoll, || Driver::start(Kind::Epoll), body);
    on(Kind::Ring, || Driver::start(Kind::Ring), body);
}

pub(super) fn on<F: Future<Output = ()> + 'static>(
    kind: Kind,
    start: fn() -> io::Result<Driver>,
    body: fn(Driver) -> F,
) {
    let run = move || {
        executor().run(async move {
            glommio::spawn_local(beat()).detach();
            let driver = match start() {
                Ok(driver) => driver,
                Err(error) => return println!("skipped on {kind:?}: {error}"),
            };
            assert_eq!(driver.kind(), kind);
            body(driver.clone()).await;
            assert_quiet(&driver).await;
        });
    };
    std::thread::spawn(run).join().unwrap_or_else(|_| panic!("failed on {kind:?}"));
}

/// Between two looks at glommio's timers, for the driver loop never leaves it idle.
const PREEMPT: Duration = Duration::from_millis(2);

fn executor() -> LocalExecutor {
    LocalExecutorBuilder::new(Placement::Unbound).preempt_timer(PREEMPT).make().unwrap()
}

/// What a core's heartbeat does for it.
async fn beat() {
    loop {
        clock::tick(Duration::from_millis(10)).await;
    }
}

/// Everything is closed, every buffer at home, no operation in flight.
pub(super) async fn assert_quiet(driver: &Driver) {
    let give_up = Instant::now() + SOON;
    loop {
        let usage = driver.usage();
        if usage == (Usage { starved: usage.starved, ..Usage::default() }) {
            return;
        }
        assert!(Instant::now() < give_up, "left behind: {usage:?}");
        glommio::timer::sleep(Duration::from_millis(1)).await;
    }
}

pub(super) const SOON: Duration = Duration::from_secs(10);

pub(super) fn listening() -> (OwnedFd, SocketAddr) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

/// Two ends of one TCP connection, both on `driver`.
pub(super) async fn pair(driver: &Driver) -> (Socket, Socket) {
    let (fd, address) = listening();
    let listener = driver.listen(fd).unwrap();
    let near = driver.connect(address, None, SOON).await.unwrap();
    let (far, peer) = listener.accept().await.unwrap().unwrap();
    assert_eq!(peer, near.local_addr().unwrap());
    (near, far)
}

/// One end on `driver`, the other a plain blocking socket.
pub(super) fn half_pair(driver: &Driver) -> (Socket, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    (driver.adopt(near.into()).unwrap(), far)
}

/// A stream of bytes both ends can compute: position and seed decide.
pub(super) fn pattern(seed: u8, at: usize, length: usize) -> Vec<u8> {
    (at..at + length).map(|n| (n as u8).wrapping_mul(31) ^ (n >> 8) as u8 ^ seed).collect()
}

/// Polls `future` once; what is pending is dropped.
pub(super) async fn once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Sends `total` pattern bytes by every send call in turn.
pub(super) async fn send_pattern(stream: &Stream, seed: u8, total: usize, random: &mut fastrand::Rng) {
    let mut at = 0;
    while at < total {
        let length = random.usize(1..100_000).min(total - at);
        let bytes = pattern(seed, at, length);
        if random.bool() {
            let (result, back) = stream.send(bytes).await;
            result.unwrap();
            assert_eq!(back.len(), length, "the vector comes back whole");
        } else {
            stream.send_all(&bytes).await.unwrap();
        }
        at += length;
    }
}

/// Receives to the end by random receive calls, dropping some of them half way, and checks every byte.
pub(super) async fn receive_pattern(stream: &Stream, seed: u8, random: &mut fastrand::Rng) -> usize {
    let mut at = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let room = random.usize(1..=buffer.len());
        let bytes = match random.u8(0..6) {
            0 | 1 => stream.recv().await.unwrap().to_vec(),
            2 | 3 => {
                let count = poll_fn(|cx| stream.poll_recv_into(cx, &mut buffer[..room])).await.unwrap();
                buffer[..count].to_vec()
            }
            4 => match once(stream.recv()).await {
                Some(chunk) => chunk.unwrap().to_vec(),
                None => continue,
            },
            _ => match once(poll_fn(|cx| stream.poll_recv_into(cx, &mut buffer[..room]))).await {
                Some(count) => buffer[..count.unwrap()].to_vec(),
                None => {
                    glommio::executor().yield_now().await;
                    continue;
                }
            },
        };
        if bytes.is_empty() {
            return at;
        }
        assert_eq!(bytes, pattern(seed, at, bytes.len()), "bytes at {at}");
        at += bytes.len();
    }
}
