use super::*;
use crate::net::testing::*;
use glommio::spawn_local;
use std::rc::Rc;

/// Client, the relay's two streams, server.
async fn chain(driver: &crate::net::driver::Driver) -> (Stream, Stream, Stream, Stream) {
    let (client, inside) = pair(driver).await;
    let (outside, server) = pair(driver).await;
    (Stream::Plain(client), Stream::Plain(inside), Stream::Plain(outside), Stream::Plain(server))
}

#[test]
fn both_directions_arrive_whole_and_are_counted() {
    on_each_driver(|driver| async move {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let (client, inside, outside, server) = chain(&driver).await;
        let relaying = spawn_local(async move { relay(&inside, &outside, SOON).await });
        let mut tasks = Vec::new();
        for (stream, mine, theirs, total) in [(client, 1, 2, 3_000_000), (server, 2, 1, 5_000_000)] {
            let mut random = fastrand::Rng::with_seed(seed + u64::from(mine));
            let mut choices = random.fork();
            let stream = Rc::new(stream);
            let sender = stream.clone();
            tasks.push(spawn_local(async move {
                send_pattern(&sender, mine, total, &mut choices).await;
                sender.shutdown_write().await;
                0
            }));
            tasks.push(spawn_local(async move { receive_pattern(&stream, theirs, &mut random).await }));
        }
        let mut got = Vec::new();
        for task in tasks {
            got.push(task.await);
        }
        assert_eq!(got, [0, 5_000_000, 0, 3_000_000]);
        let relayed = relaying.await;
        assert!(matches!(relayed.end, End::Finished), "{:?}", relayed.end);
        assert_eq!((relayed.forth, relayed.back), (3_000_000, 5_000_000));
    });
}

#[test]
fn a_half_closed_client_still_gets_its_answer() {
    on_each_driver(|driver| async move {
        let (client, inside, outside, server) = chain(&driver).await;
        let relaying = spawn_local(async move { relay(&inside, &outside, SOON).await });
        client.send(b"question".to_vec()).await.0.unwrap();
        client.shutdown_write().await;
        assert_eq!(&*server.recv().await.unwrap(), b"question");
        assert!(server.recv().await.unwrap().is_empty());
        server.send(b"answer".to_vec()).await.0.unwrap();
        assert_eq!(&*client.recv().await.unwrap(), b"answer");
        drop(server);
        assert!(client.recv().await.unwrap().is_empty());
        assert!(matches!(relaying.await.end, End::Finished));
    });
}

#[test]
fn a_reset_on_one_side_resets_the_other() {
    on_each_driver(|driver| async move {
        let (client, inside, outside, server) = chain(&driver).await;
        let relaying = spawn_local(async move { relay(&inside, &outside, SOON).await });
        client.abort();
        drop(client);
        let relayed = relaying.await;
        assert!(matches!(relayed.end, End::Failed(Side::First, _)), "{:?}", relayed.end);
        assert_eq!(server.recv().await.err().unwrap().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn silence_ends_the_relay_and_traffic_keeps_it() {
    on_each_driver(|driver| async move {
        let idle = Duration::from_secs(1);
        // A standstill of this machine is silence too: then once more.
        for _ in 0..20 {
            let (client, inside, outside, server) = chain(&driver).await;
            let relaying = spawn_local(async move { relay(&inside, &outside, idle).await });
            let start = std::time::Instant::now();
            let (mut last, mut silence) = (start, Duration::ZERO);
            for _ in 0..6 {
                glommio::timer::sleep(Duration::from_millis(200)).await;
                let _ = client.send(b"tick".to_vec()).await;
                let got = server.recv().await;
                silence = silence.max(last.elapsed());
                last = std::time::Instant::now();
                if silence > idle / 2 {
                    break;
                }
                assert_eq!(&*got.unwrap(), b"tick");
            }
            if silence > idle / 2 {
                relaying.cancel().await;
                continue;
            }
            assert!(start.elapsed() > idle);
            let relayed = relaying.await;
            assert!(matches!(relayed.end, End::Idle), "{:?}", relayed.end);
            assert_eq!(relayed.forth, 24);
            return;
        }
        panic!("this machine never runs for a second");
    });
}

#[test]
fn a_reader_that_stops_stops_the_sender() {
    on_each_driver(|driver| async move {
        let (client, inside, outside, server) = chain(&driver).await;
        let relaying = spawn_local(async move { relay(&inside, &outside, SOON).await });
        let client = Rc::new(client);
        let sender = client.clone();
        let sending = spawn_local(async move { sender.send_all(&vec![7; 64 << 20]).await });
        glommio::timer::sleep(Duration::from_millis(200)).await;
        let out = driver.usage().buffers_out;
        assert!(out <= 64, "{out} buffers of bytes nobody reads");
        drop(server);
        let relayed = relaying.await;
        assert!(matches!(relayed.end, End::Failed(..)), "{relayed:?}");
        assert!(sending.await.is_err());
    });
}

#[test]
fn an_idle_tunnel_is_small() {
    on_each_driver(|driver| async move {
        let (_client, inside, outside, _server) = chain(&driver).await;
        let size = size_of_val(&relay(&inside, &outside, SOON)) + 2 * size_of::<Stream>();
        assert!(size <= 1024, "{size} bytes of task");
    });
}
