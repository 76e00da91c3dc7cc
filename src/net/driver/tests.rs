//! One body per behaviour, run against every driver the kernel allows: they must not differ.

use super::*;
use crate::net::stream::Stream;
use crate::net::testing::*;
use glommio::spawn_local;
use socket2::SockRef;
use std::cell::Cell;
use std::net::Ipv4Addr;
use std::time::Instant;

/// The same for a ring with hardly any buffers.
fn on_a_starved_ring<F: Future<Output = ()> + 'static>(body: fn(Driver) -> F) {
    on(Kind::Ring, || ring::Ring::start(Some(2)).map(DriverKind::Ring).map(Driver), body);
}

#[test]
fn echoes_and_ends_cleanly() {
    on_each_driver(|driver| async move {
        let (near, far) = pair(&driver).await;
        let echo = spawn_local(async move {
            loop {
                let chunk = far.recv().await.unwrap();
                if chunk.is_empty() {
                    far.shutdown_write();
                    return;
                }
                far.send_chunk(chunk).await.unwrap();
            }
        });
        for length in [1, 2, 100, 1000, 16 * 1024, 100_000] {
            let (result, message) = near.send(pattern(0, 0, length)).await;
            result.unwrap();
            let mut got = Vec::new();
            while got.len() < message.len() {
                got.extend_from_slice(&near.recv().await.unwrap());
            }
            assert_eq!(got, message);
        }
        near.shutdown_write();
        assert!(near.recv().await.unwrap().is_empty());
        assert!(near.recv().await.unwrap().is_empty(), "end of stream is lasting");
        echo.await;
    });
}

/// Both directions at once over several connections, all calls mixed, receives dropped at random points.
async fn exchange_patterns(driver: Driver) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut tasks = Vec::new();
    for connection in 0..8u8 {
        let (near, far) = pair(&driver).await;
        for (socket, side) in [(near, 0), (far, 100)] {
            let mut random = fastrand::Rng::with_seed(seed ^ u64::from(connection + side));
            let total = random.usize(0..3_000_000);
            let socket = Rc::new(Stream::Plain(socket));
            let sender = socket.clone();
            let (mine, theirs) = (connection + side, connection + 100 - side);
            let mut choices = random.fork();
            tasks.push(spawn_local(async move {
                send_pattern(&sender, mine, total, &mut choices).await;
                sender.shutdown_write().await;
                total
            }));
            tasks.push(spawn_local(async move { receive_pattern(&socket, theirs, &mut random).await }));
        }
    }
    let mut balance = [0, 0];
    for (n, task) in tasks.into_iter().enumerate() {
        balance[n % 2] += task.await;
    }
    assert_eq!(balance[0], balance[1], "sent and received");
}

#[test]
fn mixed_calls_and_dropped_receives_lose_and_reorder_nothing() {
    on_each_driver(exchange_patterns);
}

#[test]
fn two_buffers_suffice() {
    on_a_starved_ring(|driver| async move {
        exchange_patterns(driver.clone()).await;
        assert!(driver.usage().starved > 0, "the buffers never ran out");
    });
}

#[test]
fn chunks_held_by_many_readers_starve_nobody() {
    on_a_starved_ring(|driver| async move {
        let mut held = Vec::new();
        for _ in 0..20 {
            let (near, far) = pair(&driver).await;
            near.send(b"hello".to_vec()).await.0.unwrap();
            let chunk = far.recv().await.unwrap();
            assert_eq!(&*chunk, b"hello");
            held.push((near, far, chunk));
        }
        assert_eq!(driver.usage().buffers_out, 20);
    });
}

#[test]
fn connect_to_a_closed_port_is_refused() {
    on_each_driver(|driver| async move {
        let (fd, address) = listening();
        drop(fd);
        let error = driver.connect(address, None, SOON).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn connect_to_a_full_listener_times_out() {
    on_each_driver(|driver| async move {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let _waiting = std::net::TcpStream::connect(address).unwrap();
        let start = Instant::now();
        let error = driver.connect(address, None, Duration::from_millis(200)).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < SOON);
    });
}

#[test]
fn connect_uses_the_source_address_and_sets_nodelay() {
    on_each_driver(|driver| async move {
        let (fd, address) = listening();
        let listener = driver.listen(fd).unwrap();
        let source = Ipv4Addr::new(127, 0, 0, 77);
        let near = driver.connect(address, Some(source.into()), SOON).await.unwrap();
        let (far, peer) = listener.accept().await.unwrap().unwrap();
        assert_eq!(peer.ip(), source);
        assert_eq!(far.peer_addr().unwrap(), peer);
        for socket in [&near, &far] {
            assert!(SockRef::from(&socket.fd()).tcp_nodelay().unwrap());
        }
    });
}

#[test]
fn half_close_keeps_the_other_direction_open() {
    on_each_driver(|driver| async move {
        let (near, far) = pair(&driver).await;
        near.shutdown_write();
        assert!(far.recv().await.unwrap().is_empty());
        far.send(b"late answer".to_vec()).await.0.unwrap();
        assert_eq!(&*near.recv().await.unwrap(), b"late answer");
    });
}

#[test]
fn abort_resets_the_peer_and_drop_does_not() {
    on_each_driver(|driver| async move {
        let (near, far) = pair(&driver).await;
        drop(near);
        assert!(far.recv().await.unwrap().is_empty());

        let (near, far) = pair(&driver).await;
        assert!(once(near.recv()).await.is_none(), "with a receive in flight");
        near.abort();
        drop(near);
        let error = far.recv().await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_send_waits_for_a_slow_reader_and_arrives_whole() {
    on_each_driver(|driver| async move {
        let (near, mut far) = half_pair(&driver);
        let total = 8 << 20;
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            let mut got = Vec::new();
            io::Read::read_to_end(&mut far, &mut got).unwrap();
            got
        });
        let (result, sent) = near.send(pattern(5, 0, total)).await;
        result.unwrap();
        near.shutdown_write();
        let got = glommio::executor().spawn_blocking(move || reader.join().unwrap()).await;
        assert!(got == sent);
    });
}

#[test]
fn a_slow_reader_stops_the_sender() {
    on_each_driver(|driver| async move {
        let (near, far) = half_pair(&driver);
        SockRef::from(&near.fd()).set_recv_buffer_size(16 * 1024).unwrap();
        far.set_nonblocking(true).unwrap();
        assert!(once(near.recv()).await.is_none());
        let mut sent = 0;
        let mut idle_turns = 0;
        while idle_turns < 50 {
            match io::Write::write(&mut &far, &[7; 64 * 1024]) {
                Ok(count) => (sent, idle_turns) = (sent + count, 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => idle_turns += 1,
                Err(error) => panic!("{error}"),
            }
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        // One turn may complete more than the queue bound before the cancel is in; it must stay in that order.
        let out = driver.usage().buffers_out;
        assert!(out <= 64, "{out} buffers hold what nobody reads");
        drop(far);
        let mut got = 0;
        loop {
            match near.recv().await.unwrap().len() {
                0 => break,
                count => got += count,
            }
        }
        assert_eq!(got, sent);
    });
}

#[test]
fn a_dropped_send_lets_the_socket_close() {
    on_each_driver(|driver| async move {
        let (near, far) = half_pair(&driver);
        assert!(once(near.send(vec![1; 64 << 20])).await.is_none());
        glommio::timer::sleep(Duration::from_millis(2)).await;
        near.abort();
        drop(near);
        assert_quiet(&driver).await;
        drop(far);
    });
}

#[test]
fn peers_that_reset_during_large_transfers_harm_nobody() {
    on_each_driver(|driver| async move {
        let (fd, address) = listening();
        let listener = driver.listen(fd).unwrap();
        let served = Rc::new(Cell::new(0));
        let count = served.clone();
        let server = spawn_local(async move {
            let mut tasks = Vec::new();
            while tasks.len() < 200 {
                let (socket, _) = listener.accept().await.unwrap().unwrap();
                let count = count.clone();
                tasks.push(spawn_local(async move {
                    let _ = socket.recv().await;
                    let _ = socket.send(vec![3; 1 << 20]).await;
                    count.set(count.get() + 1);
                }));
            }
            for task in tasks {
                task.await;
            }
        });
        let clients = std::thread::spawn(move || {
            for n in 0..200 {
                let mut client = std::net::TcpStream::connect(address).unwrap();
                io::Write::write_all(&mut client, b"go").unwrap();
                let mut some = vec![0; n * 1000 + 1];
                io::Read::read_exact(&mut client, &mut some).unwrap();
                SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            }
        });
        server.await;
        assert_eq!(served.get(), 200);
        clients.join().unwrap();
    });
}

/// The limit is the process's: the test runs in a process of its own.
#[test]
fn accept_surfaces_exhaustion_and_goes_on_after_it() {
    const ALONE: &str = "LYRE_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "net::driver::tests::accept_surfaces_exhaustion_and_goes_on_after_it";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        assert!(child.args(["--exact", name]).env(ALONE, "1").status().unwrap().success());
        return;
    }
    on_each_driver(|driver| async move {
        let (fd, address) = listening();
        let listener = driver.listen(fd).unwrap();
        // Park once so that the loop's own descriptors exist, then leave no room for a new one.
        glommio::timer::sleep(Duration::from_millis(5)).await;
        let client = std::net::TcpStream::connect(address).unwrap();
        let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 3, hard).unwrap();
        let error = listener.accept().await.err();
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        assert_eq!(error.unwrap().raw_os_error(), Some(libc::EMFILE));
        let (_, peer) = listener.accept().await.unwrap().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    });
}

#[test]
fn a_stopped_listener_hands_out_what_was_accepted_then_ends() {
    on_each_driver(|driver| async move {
        let (fd, address) = listening();
        let listener = Rc::new(driver.listen(fd).unwrap());
        let clients: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let first = listener.accept().await.unwrap();
        assert!(first.is_some());
        listener.stop();
        let mut count = 1;
        while listener.accept().await.unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, clients.len());
        assert!(listener.accept().await.unwrap().is_none());
    });
}

#[test]
fn stop_ends_a_waiting_accept() {
    on_each_driver(|driver| async move {
        let (fd, _) = listening();
        let listener = Rc::new(driver.listen(fd).unwrap());
        let waiting = listener.clone();
        let task = spawn_local(async move { waiting.accept().await.unwrap().is_none() });
        glommio::timer::sleep(Duration::from_millis(2)).await;
        listener.stop();
        assert!(task.await);
    });
}

#[test]
fn more_completions_than_the_queue_holds_are_not_lost() {
    on_each_driver(|driver| async move {
        let sockets: Vec<_> = (0..150).map(|_| half_pair(&driver)).collect();
        for round in 0..20 {
            for (near, _) in &sockets {
                assert!(once(near.recv()).await.is_none());
            }
            glommio::timer::sleep(Duration::from_millis(1)).await;
            for (_, far) in &sockets {
                io::Write::write_all(&mut &*far, &[round; 300]).unwrap();
            }
            for (near, _) in &sockets {
                let mut got = 0;
                while got < 300 {
                    let chunk = near.recv().await.unwrap();
                    assert!(chunk.iter().all(|byte| *byte == round));
                    got += chunk.len();
                }
            }
        }
    });
}

#[test]
fn descriptors_return_to_the_number_before() {
    on_each_driver(|driver| async move {
        let own = || {
            let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            entries
                .filter(|entry| {
                    std::fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
                })
                .filter_map(|entry| {
                    let inode = std::fs::read_link(entry.path()).ok()?;
                    Some(inode.to_string_lossy().into_owned())
                })
                .collect::<std::collections::HashSet<_>>()
        };
        // Other tests open sockets meanwhile: watch ours by name.
        let mut mine = Vec::new();
        for _ in 0..50 {
            let (near, far) = pair(&driver).await;
            assert!(once(near.recv()).await.is_none());
            for socket in [&near, &far] {
                let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&socket.fd()));
                mine.push(std::fs::read_link(link).unwrap().to_string_lossy().into_owned());
            }
            drop((near, far));
            let refused = driver.connect((Ipv4Addr::LOCALHOST, 1).into(), None, SOON).await;
            assert!(refused.is_err());
        }
        assert_quiet(&driver).await;
        let open = own();
        assert!(mine.iter().all(|inode| !open.contains(inode)));
    });
}

#[test]
fn an_idle_driver_sleeps() {
    on_each_driver(|driver| async move {
        let (near, _far) = half_pair(&driver);
        assert!(once(near.recv()).await.is_none());
        glommio::timer::sleep(Duration::from_millis(20)).await;
        let cpu = || {
            let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_THREAD).unwrap();
            usage.user_time().num_microseconds_() + usage.system_time().num_microseconds_()
        };
        // Of several looks the best: where the hypervisor takes time away without a word, idling costs some too.
        let mut least = i64::MAX;
        for _ in 0..10 {
            let before = cpu();
            glommio::timer::sleep(Duration::from_millis(300)).await;
            least = least.min(cpu() - before);
            if least < 30_000 {
                return;
            }
        }
        panic!("{least} us of CPU in 300 ms of idling");
    });
}

#[test]
fn wakes_from_sleep_for_traffic_and_for_operations_of_other_tasks() {
    on_each_driver(|driver| async move {
        let (near, mut far) = half_pair(&driver);
        glommio::timer::sleep(Duration::from_millis(20)).await;
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            io::Write::write_all(&mut far, b"wake").unwrap();
            far
        });
        assert_eq!(&*near.recv().await.unwrap(), b"wake");
        let mut far = writer.join().unwrap();
        // A glommio timer wakes this task between two naps of the driver's loop.
        glommio::timer::sleep(Duration::from_millis(20)).await;
        let start = Instant::now();
        near.send(b"back".to_vec()).await.0.unwrap();
        assert!(start.elapsed() < SOON);
        let mut got = [0; 4];
        io::Read::read_exact(&mut far, &mut got).unwrap();
        assert_eq!(&got, b"back");
    });
}

trait Microseconds {
    fn num_microseconds_(&self) -> i64;
}

impl Microseconds for nix::sys::time::TimeVal {
    fn num_microseconds_(&self) -> i64 {
        nix::sys::time::TimeValLike::num_microseconds(self)
    }
}

#[test]
fn a_wake_from_another_thread_is_no_matter_of_naps() {
    for kind in [Kind::Epoll, Kind::Ring] {
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            on(
                kind,
                if kind == Kind::Ring { || Driver::start(Kind::Ring) } else { || Driver::start(Kind::Epoll) },
                |_| async {
                    park::NAP.set(Some(Duration::from_secs(3600)));
                    for _ in 0..20 {
                        let is_woken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
                        let mut caller = None;
                        poll_fn(|cx| {
                            if is_woken.load(std::sync::atomic::Ordering::Acquire) {
                                return Poll::Ready(());
                            }
                            let (flag, waker) = (is_woken.clone(), for_another_thread(cx.waker()));
                            caller.get_or_insert_with(|| {
                                std::thread::spawn(move || {
                                    flag.store(true, std::sync::atomic::Ordering::Release);
                                    waker.wake();
                                })
                            });
                            Poll::Pending
                        })
                        .await;
                        caller.unwrap().join().unwrap();
                    }
                    park::NAP.set(None);
                },
            );
            done.send(()).unwrap();
        });
        is_done.recv_timeout(6 * SOON).unwrap_or_else(|_| panic!("{kind:?}: the wake did not come"));
    }
}
