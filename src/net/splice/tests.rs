use super::*;
use crate::net::driver::{Driver, breathe};
use crate::net::testing::*;
use glommio::spawn_local;
use std::future::poll_fn;

/// Client, the two streams between, server.
async fn chain(driver: &Driver) -> (Stream, Stream, Stream, Stream) {
    let (client, inside) = pair(driver).await;
    let (outside, server) = pair(driver).await;
    (Stream::Plain(client), Stream::Plain(inside), Stream::Plain(outside), Stream::Plain(server))
}

/// Splices `bytes` and answers how many came before the end of the stream.
async fn move_bytes(splice: &mut Splice<'_>, bytes: u64) -> u64 {
    let mut moved = 0;
    while moved < bytes {
        let count = poll_fn(|cx| splice.poll_take(cx, bytes - moved)).await.unwrap() as u64;
        if count == 0 {
            break;
        }
        assert!(moved + count <= bytes, "more than asked for");
        moved += count;
        poll_fn(|cx| splice.poll_pass(cx)).await.unwrap();
    }
    moved
}

#[test]
fn a_body_arrives_whole_and_what_follows_it_stays_behind() {
    on_each_driver(|driver| async move {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        const BODY: u64 = 5_000_000;
        let (client, inside, outside, server) = chain(&driver).await;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut choices = random.fork();
        let sender = spawn_local(async move {
            send_pattern(&client, 7, BODY as usize + 11, &mut random).await;
            client.shutdown_write().await;
            client
        });
        let receiver = spawn_local(async move { receive_pattern(&server, 7, &mut choices).await });
        let mut splice = Splice::between(&inside, &outside).unwrap();
        assert_eq!(move_bytes(&mut splice, BODY).await, BODY);
        drop(splice);
        let rest = inside.recv().await.unwrap();
        assert_eq!(*rest, *pattern(7, BODY as usize, rest.len()));
        outside.send_all(&rest).await.unwrap();
        let mut count = rest.len();
        while count < 11 {
            let more = inside.recv().await.unwrap();
            outside.send_all(&more).await.unwrap();
            count += more.len();
        }
        assert!(inside.recv().await.unwrap().is_empty());
        outside.shutdown_write().await;
        assert_eq!(receiver.await, BODY as usize + 11);
        sender.await;
    });
}

#[test]
fn the_end_of_the_stream_is_zero_bytes() {
    on_each_driver(|driver| async move {
        let (client, inside, outside, server) = chain(&driver).await;
        client.send(b"short".to_vec()).await.0.unwrap();
        client.shutdown_write().await;
        let mut splice = Splice::between(&inside, &outside).unwrap();
        assert_eq!(move_bytes(&mut splice, 100).await, 5);
        assert_eq!(&*server.recv().await.unwrap(), b"short");
    });
}

#[test]
fn a_receiver_that_does_not_read_stops_the_transfer_and_costs_only_its_pipe() {
    on_each_driver(|driver| async move {
        let (client, inside, outside, server) = chain(&driver).await;
        let mut idle_turns = 0;
        let mut sent = 0;
        let mut splice = Splice::between(&inside, &outside).unwrap();
        let bytes = pattern(0, 0, 64 * 1024);
        while idle_turns < 200 {
            let now = once(poll_fn(|cx| client.socket().unwrap().poll_send(cx, &bytes))).await;
            idle_turns = if now.is_some() { 0 } else { idle_turns + 1 };
            sent += now.map_or(0, |count| count.unwrap());
            if once(poll_fn(|cx| splice.poll_pass(cx))).await.is_some() {
                let _ = once(poll_fn(|cx| splice.poll_take(cx, u64::MAX))).await;
            }
            breathe().await;
        }
        assert!(once(poll_fn(|cx| splice.poll_pass(cx))).await.is_none(), "after {sent} bytes");
        drop((splice, client, server));
    });
}

#[test]
fn bytes_that_were_received_already_are_in_the_way() {
    on_each_driver(|driver| async move {
        let (client, inside, outside, _server) = chain(&driver).await;
        let is_ring = driver.kind() == crate::net::driver::Kind::Ring;
        assert!(once(inside.recv()).await.is_none());
        assert_eq!(Splice::between(&inside, &outside).is_none(), is_ring, "with a receive under way");
        client.send(b"hello".to_vec()).await.0.unwrap();
        assert_eq!(&*inside.recv().await.unwrap(), b"hello");
    });
}

#[test]
fn pipes_are_used_again_and_come_to_an_end() {
    let mut pipes: Vec<Pipe> = std::iter::from_fn(Pipe::take).collect();
    assert!(!pipes.is_empty() && pipes.len() <= 64, "{}", pipes.len());
    assert!(Pipe::take().is_none());
    pipes.pop().unwrap().give();
    assert!(Pipe::take().is_some());
}
