use super::*;
use std::pin::pin;
use std::sync::Barrier;
use std::task::Wake;

/// Wakes nobody: these tests ask again themselves.
struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Nobody>) {}
}

fn ask<T>(future: impl Future<Output = T>) -> Option<T> {
    let waker = Waker::from(Arc::new(Nobody));
    match pin!(future).poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn pipe() -> (Arc<Inbox>, Arc<Pipe>, Tunnel) {
    let inbox = Arc::new(Inbox::default());
    let pipe = Arc::new(Pipe::new(7, Duration::from_secs(1), inbox.clone()));
    (inbox, pipe.clone(), Tunnel::new(pipe))
}

fn touches(inbox: &Inbox) -> usize {
    let waker = Waker::from(Arc::new(Nobody));
    inbox.poll_take(&mut Context::from_waker(&waker)).len()
}

#[test]
fn a_sender_waits_while_enough_lies_there_and_goes_on_when_it_is_taken() {
    let (_inbox, pipe, tunnel) = pipe();
    pipe.open();
    assert!(ask(tunnel.send(vec![1; FORTH_BYTES])).is_some());
    assert!(ask(tunnel.send(vec![2])).is_none());
    assert_eq!(pipe.pull(), Some(vec![1; FORTH_BYTES]));
    assert!(ask(tunnel.send(vec![2])).is_some());
    assert_eq!(pipe.pull(), Some(vec![2]));
    assert_eq!(pipe.pull(), None);
}

#[test]
fn window_is_given_back_only_for_what_was_taken() {
    let (_inbox, pipe, tunnel) = pipe();
    pipe.push(b"one".to_vec(), 30);
    pipe.push(b"two".to_vec(), 20);
    assert_eq!(pipe.look().credit, 0);
    assert_eq!(ask(tunnel.recv()).unwrap().unwrap(), b"one");
    assert_eq!(pipe.look().credit, 30);
    assert_eq!(ask(tunnel.recv()).unwrap().unwrap(), b"two");
    assert_eq!(pipe.look().credit, 20);
    assert!(ask(tunnel.recv()).is_none());
}

#[test]
fn what_came_before_the_end_is_read_before_the_end() {
    for (end, kind) in [(End::Finished, None), (End::Lost, Some(io::ErrorKind::ConnectionReset))] {
        let (_inbox, pipe, tunnel) = pipe();
        pipe.push(b"last".to_vec(), 4);
        pipe.end(end);
        pipe.end(End::Silent);
        assert_eq!(ask(tunnel.recv()).unwrap().unwrap(), b"last");
        let after = ask(tunnel.recv()).unwrap();
        assert_eq!(after.as_ref().err().map(io::Error::kind), kind);
        assert!(after.unwrap_or_default().is_empty());
        assert!(ask(tunnel.send(vec![1])).unwrap().is_err());
    }
}

#[test]
fn a_tunnel_that_never_was_says_why() {
    let (_inbox, pipe, tunnel) = pipe();
    assert!(ask(tunnel.wait_open()).is_none());
    pipe.end(End::Failed(Failure::Timeout));
    assert_eq!(ask(tunnel.wait_open()), Some(Err(Failure::Timeout)));
}

#[test]
fn the_connection_is_told_once_until_it_looks_and_of_the_users_end() {
    let (inbox, pipe, tunnel) = pipe();
    for _ in 0..3 {
        assert!(ask(tunnel.send(vec![1])).is_some());
    }
    assert_eq!(touches(&inbox), 1);
    assert!(!pipe.look().is_left);
    drop(tunnel);
    assert_eq!(touches(&inbox), 1);
    assert!(pipe.look().is_left);
}

/// A waiting task of another thread hears of bytes and of the end, whenever they come.
#[test]
fn bytes_cross_threads_in_order_and_none_is_lost() {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Unpark>) {
            self.0.unpark();
        }
    }
    let (_inbox, pipe, tunnel) = pipe();
    let start = Arc::new(Barrier::new(2));
    let begin = start.clone();
    let writer = std::thread::spawn(move || {
        begin.wait();
        for number in 0..2_000_u32 {
            pipe.push(number.to_be_bytes().to_vec(), 4);
        }
        pipe.end(End::Finished);
    });
    start.wait();
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut seen = Vec::new();
    loop {
        match tunnel.poll_recv(&mut Context::from_waker(&waker)) {
            Poll::Ready(Ok(bytes)) if bytes.is_empty() => break,
            Poll::Ready(bytes) => seen.extend(bytes.unwrap()),
            Poll::Pending => std::thread::park(),
        }
    }
    writer.join().unwrap();
    assert_eq!(seen, (0..2_000_u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
}
