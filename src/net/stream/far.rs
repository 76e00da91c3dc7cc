//! Bytes that come and go another way than over a socket of this core.

use super::Bytes;
use crate::net::pool::Pooled;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

/// Whatever takes them there. Closed when it is dropped.
pub trait Far {
    /// Empty is the end.
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>>;

    /// Ready when more may be handed over.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Bytes on their way, as many as there are.
    fn hand_over(&self, bytes: Vec<u8>);
}

pub struct FarStream {
    far: Box<dyn Far>,
    /// Received, and too much for the buffer that it was received into.
    rest: RefCell<Pooled>,
}

/// Handed over at once.
const PIECE_BYTES: usize = 64 << 10;

impl FarStream {
    pub fn new(far: Box<dyn Far>) -> FarStream {
        FarStream { far, rest: RefCell::default() }
    }

    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Pooled>> {
        let rest = self.rest.take();
        if !rest.is_empty() {
            return Poll::Ready(Ok(rest));
        }
        self.far.poll_recv(cx).map_ok(Pooled::new)
    }

    pub(super) fn poll_recv_into(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut bytes = match self.poll_recv(cx) {
            Poll::Ready(Ok(bytes)) => bytes,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        let count = bytes.len().min(buffer.len());
        buffer.iter_mut().zip(bytes.iter()).for_each(|(to, from)| *to = *from);
        bytes.advance(count);
        self.rest.replace(bytes);
        Poll::Ready(Ok(count))
    }

    /// Gives the buffer back as it was.
    pub(super) async fn send(&self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        (self.send_all(&buffer).await, buffer)
    }

    /// Hands over what is owned; what is the driver's is copied, so that it gets its buffer back.
    pub(super) async fn send_bytes(&self, bytes: Bytes) -> io::Result<()> {
        match bytes {
            Bytes::Owned(bytes) => {
                poll_fn(|cx| self.far.poll_room(cx)).await?;
                self.far.hand_over(bytes.into_vec());
                Ok(())
            }
            Bytes::Chunk(chunk) => self.send_all(&chunk).await,
        }
    }

    pub(super) async fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES) {
            poll_fn(|cx| self.far.poll_room(cx)).await?;
            self.far.hand_over(piece.to_vec());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::task::Waker;

    /// Has these pieces to say, then ends; keeps what it is given.
    #[derive(Default)]
    struct Script {
        pieces: RefCell<VecDeque<Vec<u8>>>,
        given: std::rc::Rc<RefCell<Vec<Vec<u8>>>>,
    }

    impl Far for Script {
        fn poll_recv(&self, _: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
            Poll::Ready(Ok(self.pieces.borrow_mut().pop_front().unwrap_or_default()))
        }

        fn poll_room(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn hand_over(&self, bytes: Vec<u8>) {
            self.given.borrow_mut().push(bytes);
        }
    }

    fn saying(pieces: &[&str]) -> FarStream {
        let pieces: VecDeque<Vec<u8>> = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
        FarStream::new(Box::new(Script { pieces: pieces.into(), ..Script::default() }))
    }

    fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>) -> T {
        match poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value.unwrap(),
            Poll::Pending => panic!("has to wait"),
        }
    }

    #[test]
    fn what_does_not_fit_a_buffer_is_received_next() {
        let far = saying(&["abcdef", "gh"]);
        let mut buffer = [0; 4];
        assert_eq!(now(|cx| far.poll_recv_into(cx, &mut buffer)), 4);
        assert_eq!(&buffer, b"abcd");
        assert_eq!(now(|cx| far.poll_recv_into(cx, &mut buffer)), 2);
        assert_eq!(&buffer[..2], b"ef");
        assert_eq!(&*now(|cx| far.poll_recv(cx)), b"gh");
        assert_eq!(now(|cx| far.poll_recv_into(cx, &mut buffer)), 0);
    }

    #[test]
    fn a_buffer_comes_back_as_it_was() {
        let script = Script::default();
        let given = script.given.clone();
        let far = FarStream::new(Box::new(script));
        let mut sending = std::pin::pin!(far.send(vec![7; 100_000]));
        let sent = now(|cx| sending.as_mut().poll(cx).map(Ok));
        assert!(sent.0.is_ok() && sent.1 == vec![7; 100_000]);
        assert_eq!(given.borrow().concat(), sent.1);
    }

    #[test]
    fn a_buffer_that_was_received_in_part_is_left_to_other_receives() {
        let far = saying(&["abc"]);
        assert_eq!(now(|cx| far.poll_recv_into(cx, &mut [0; 1])), 1);
        assert_eq!(&*now(|cx| far.poll_recv(cx)), b"bc");
        assert!(now(|cx| far.poll_recv(cx)).is_empty());
    }
}
